"""Export a model to ONNX with its activations. See `python scripts/export.py --help`."""

from model_release.cli.export import export
from model_release.cli.main import run

if __name__ == "__main__":
    run(export)
