"""Make a whole release: the chain in order. See `python scripts/release.py --help`."""

from model_release.cli.main import run
from model_release.cli.release import release

if __name__ == "__main__":
    run(release)
