"""The web app that gets the model: its env file, tree and repository."""
