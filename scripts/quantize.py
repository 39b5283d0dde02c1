"""Make smaller precisions of an exported model. See `python scripts/quantize.py --help`."""

from model_release.cli.main import run
from model_release.cli.quantize import quantize

if __name__ == "__main__":
    run(quantize)
