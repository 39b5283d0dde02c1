"""Publish a finished release folder, or finish what was begun. See `python scripts/publish.py --help`."""

from model_release.cli.main import run
from model_release.cli.publish import publish

if __name__ == "__main__":
    run(publish)
