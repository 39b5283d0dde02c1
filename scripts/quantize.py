"""Make smaller precisions of an exported model. See `python scripts/quantize.py --help`."""

from model_release.cli import quantize, run

if __name__ == "__main__":
    run(quantize)
