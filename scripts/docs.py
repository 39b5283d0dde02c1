"""Bring the generated parts of the documents up to date. See `python scripts/docs.py --help`."""

from model_release.cli.docs import docs
from model_release.cli.main import run

if __name__ == "__main__":
    run(docs)
