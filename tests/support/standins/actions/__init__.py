"""Stand-ins for the actions of GitHub that the workflows use; `standin.py` explains."""
