"""Chromium judges a release; pages people look at."""
