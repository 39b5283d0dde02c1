"""Verify a model file against the contract and PyTorch. See `python scripts/verify.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("verify")
