"""Publish a finished release folder, or finish what was begun. See `python scripts/publish.py --help`."""

from model_release.cli import publish, run

if __name__ == "__main__":
    run(publish)
