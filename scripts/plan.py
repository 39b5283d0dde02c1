"""Check and print what a release run will do. See `python scripts/plan.py --help`."""

from model_release.cli import plan, run

if __name__ == "__main__":
    run(plan)
