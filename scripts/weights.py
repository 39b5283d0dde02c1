"""Bring a model's weights into the download cache, verified. See `python scripts/weights.py --help`."""

from model_release.cli.main import run
from model_release.cli.weights import weights

if __name__ == "__main__":
    run(weights)
