"""Commands, options, exit codes."""
