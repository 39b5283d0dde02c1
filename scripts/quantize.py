"""Make smaller precisions of an exported model. See `python scripts/quantize.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("quantize")
