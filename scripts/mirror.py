"""Put a release on a mirror that browsers can read from. See `python scripts/mirror.py --help`."""

from model_release.cli import mirror, run

if __name__ == "__main__":
    run(mirror)
