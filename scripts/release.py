"""Make a whole release: the chain in order. See `python scripts/release.py --help`."""

from model_release.cli import release, run

if __name__ == "__main__":
    run(release)
