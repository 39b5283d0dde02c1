"""Run a release in a browser and judge what it returns. See `python scripts/browse.py --help`."""

from model_release.cli.browse import browse
from model_release.cli.main import run

if __name__ == "__main__":
    run(browse)
