"""Ask whether a browser would get a file. See `python scripts/probe.py --help`."""

from model_release.cli.main import run
from model_release.cli.probe import probe

if __name__ == "__main__":
    run(probe)
