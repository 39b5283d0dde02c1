"""Knows nothing of models: errors, files, text, retries, other people's servers."""
