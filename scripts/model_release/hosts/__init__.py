"""Where releases and their copies are put, read, and seen by a browser."""
