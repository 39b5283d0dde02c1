"""Ask whether a browser would get a file. See `python scripts/probe.py --help`."""

from model_release.cli import probe, run

if __name__ == "__main__":
    run(probe)
