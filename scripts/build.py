"""Make a release folder without publishing it. See `python scripts/build.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("build")
