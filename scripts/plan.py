"""Check and print what a release run will do. See `python scripts/plan.py --help`."""

from model_release.cli.main import run
from model_release.cli.plan import plan

if __name__ == "__main__":
    run(plan)
