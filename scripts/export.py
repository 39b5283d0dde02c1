"""Export a model to ONNX with its activations. See `python scripts/export.py --help`."""

from model_release.cli import export, run

if __name__ == "__main__":
    run(export)
