"""Bring the generated parts of the documents up to date. See `python scripts/docs.py --help`."""

from model_release.cli import docs, run

if __name__ == "__main__":
    run(docs)
