"""Publish a finished release folder, or finish what was begun. See `python scripts/publish.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("publish")
