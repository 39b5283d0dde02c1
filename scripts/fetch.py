"""Bring the web app its model from a release. See `python scripts/fetch.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("fetch")
