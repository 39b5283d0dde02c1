"""Verify a model file against the contract and PyTorch. See `python scripts/verify.py --help`."""

from model_release.cli.main import run
from model_release.cli.verify import verify

if __name__ == "__main__":
    run(verify)
