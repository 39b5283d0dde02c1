"""Ask whether a browser would get a file. See `python scripts/probe.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("probe")
