"""Export a model to ONNX with its activations. See `python scripts/export.py --help`."""

from model_release.cli.entry import main

if __name__ == "__main__":
    main("export")
