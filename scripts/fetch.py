"""Bring the web app its model from a release. See `python scripts/fetch.py --help`."""

from model_release.cli.fetch import fetch
from model_release.cli.main import run

if __name__ == "__main__":
    run(fetch)
