"""Bring a model's weights into the download cache, verified. See `python scripts/weights.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("weights")
