"""Make a release folder without publishing it. See `python scripts/build.py --help`."""

from model_release.cli.build import build
from model_release.cli.main import run

if __name__ == "__main__":
    run(build)
