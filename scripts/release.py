"""Make a whole release: the chain in order. See `python scripts/release.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("release")
