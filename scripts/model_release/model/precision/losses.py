"""What a model loses with one parameter stored in few bits, measured on text."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from model_release.base.errors import ContractError, QuantizeError
from model_release.contract.measures import Array, agreement
from model_release.contract.metadata import ModelMetadata
from model_release.model.onnx_files.file import read_model, write_model
from model_release.model.onnx_files.session import RunError, Session
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.calibration import Calibration

_DIGITS = 3
"""Of a loss: machines add in another order, and agree on these but for a few."""

_SAMPLES = {"all": (2, 128), "last": (32, 32)}
"""Windows and tokens of each, by whose logits a model returns."""


def measure_losses(source: Path, coded: Path, metadata: ModelMetadata, calibration: Calibration) -> dict[str, float]:
    """Runs an fp32 model with each parameter's stored values in turn, the others as they are.

    Args:
        source: An fp32 model file of ours.
        coded: The same in codes.
        metadata: Of `coded`.
        calibration: Has the text.

    Returns:
        Mean divergence of the next-token distribution from the fp32 model's, in nats, by parameter that is no vector.

    Raises:
        QuantizeError: The model does not run.
    """
    parameters = [each for each in metadata.blueprint.parameters.values() if not each.is_vector]
    stored = read_model(coded).graph.initializers
    model = read_model(source)
    # A default value that an input may replace: no session folds it, and one session serves all parameters.
    model.graph.inputs.extend(model.graph.initializers[parameter.name] for parameter in parameters)
    ids = calibration.sample(*_SAMPLES[metadata.selection.logits])
    with tempfile.TemporaryDirectory(prefix="model-release-") as folder:
        path = Path(folder) / "open.onnx"
        write_model(model, path, error=QuantizeError)
        try:
            session = Session(path, name=source.name)
            expected = session.run(ids, ["logits"])["logits"]
            following = np.zeros(expected.shape[:-1], dtype=np.int64)  # What comes next in the text is no matter here.
            losses: dict[str, float] = {}
            for parameter in parameters:
                codes, scales = (_values(stored, f"{parameter.name}.{part}") for part in ("codes", "scales"))
                blocks = Blocks(metadata.stored_precision.storage(parameter), parameter.matrix, parameter.name)
                values = blocks.decode(codes, scales.reshape(*codes.shape[:2], 1)).reshape(parameter.dims)
                got = session.run(ids, ["logits"], weights={parameter.name: values})["logits"]
                losses[parameter.name] = float(f"{agreement(got, expected, following).mean_kl:.{_DIGITS}g}")
        except (ContractError, RunError) as failure:
            raise QuantizeError(f"{source.name} must run to be fitted: {failure}") from failure
    return losses


def _values(stored: Mapping[str, ir.Value], name: str) -> Array:
    tensor = stored[name].const_value
    if tensor is None:
        raise QuantizeError(f"{name} must have values. Make the file again.")
    return tensor.numpy()
