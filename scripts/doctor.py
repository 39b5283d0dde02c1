"""Look at a repository before its first release. See `python scripts/doctor.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("doctor")
