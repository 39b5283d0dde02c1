"""Run a release in a browser and judge what it returns. See `python scripts/browse.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("browse")
