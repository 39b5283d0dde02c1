"""The files that a build of the app is made of: what each of their lines does to a variable."""
