"""Point the web app at a release that is public. See `python scripts/point.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("point")
