"""Stored and computed precision of a model's weights.

What is downloaded and what is computed are separate choices. A codec replaces each parameter of the
fp32 graph by smaller stored tensors and the standard ONNX operators that decode them. Decoding that
depends on no input is folded by the runtime when a session is created, so such a precision runs
exactly like fp32.

Parameters are read, encoded and written one at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from model_release.base.errors import ContractError, QuantizeError
from model_release.contract.activations import FULL_PRECISION
from model_release.contract.metadata import ModelMetadata, metadata_of
from model_release.model.onnx_files.file import read_model, write_model
from model_release.model.onnx_files.naming import name_nodes, set_metadata
from model_release.model.precision.block_codes import store_compensated, store_in_blocks
from model_release.model.precision.calibration import Calibration
from model_release.model.precision.fp16 import store_fp16, store_fp16_compute
from model_release.model.precision.int4_products import store_int4_compute
from model_release.model.precision.int8 import store_int8_dynamic, store_int8_static

CODECS: dict[str, Callable[[ir.Model, ModelMetadata], None]] = {
    "fp16": store_fp16,
    "fp16-compute": store_fp16_compute,
    "int8": store_in_blocks,
    "int8-dynamic": store_int8_dynamic,
    "int4": store_in_blocks,
    "int4-compute": store_int4_compute,
}

CALIBRATED: dict[str, Callable[[ir.Model, ModelMetadata, Calibration], None]] = {
    "int8-static": store_int8_static,
    "small": store_compensated,
}
"""Codecs that look at what the matrices are multiplied with on text."""


def quantize_file(source: Path, target: Path, precision: str, calibration_ids: Sequence[int] = ()) -> ModelMetadata:
    """Makes one precision of a model file.

    Args:
        source: `model.onnx` as `export.py` writes it (fp32).
        target: The file to write, whole or not at all.
        precision: A name of `CODECS` or `CALIBRATED`.
        calibration_ids: Token ids of a text to calibrate on; random ids without any.

    Returns:
        The metadata of the new file.

    Raises:
        QuantizeError: The source is not an fp32 model of ours, a weight does not fit the precision,
            or the file cannot be written.
    """
    try:
        model = read_model(source)
        metadata = metadata_of(source.name, model.metadata_props)
    except ContractError as failure:
        raise QuantizeError(str(failure)) from failure
    if metadata.precision != FULL_PRECISION:
        raise QuantizeError(
            f"{source} must be an fp32 model, got {metadata.precision}. Quantize the model.onnx that export.py made."
        )
    missing = sorted(metadata.blueprint.parameters.keys() - model.graph.initializers.keys())
    if missing:
        raise QuantizeError(
            f"{source} must hold every parameter under its own name, {missing[0]} is missing. Export it again."
        )
    for name, parameter in metadata.blueprint.parameters.items():
        tensor = model.graph.initializers[name].const_value
        got = None if tensor is None else (tensor.dtype, tuple(tensor.shape.numpy()))
        if got != (ir.DataType.FLOAT, parameter.dims):
            described = "nothing" if got is None else f"{got[0].name.lower()} {list(got[1])}"
            raise QuantizeError(
                f"{source} must hold {name} as float32 {list(parameter.dims)}, got {described[:80]}. Export it again."
            )
    metadata = replace(metadata, precision=precision)
    if precision in CALIBRATED:
        CALIBRATED[precision](model, metadata, Calibration(source, metadata.blueprint, calibration_ids))
        _write(model, metadata, target)
    else:
        quantize_graph(model, metadata, target)
    return metadata


def quantize_graph(model: ir.Model, metadata: ModelMetadata, target: Path) -> None:
    """Writes a precision of a graph whose parameters are read as they are encoded; no fp32 file is needed.

    Args:
        model: The fp32 graph; changed on the way.
        metadata: Of the new file; its precision is a name of `CODECS`.
        target: The file to write, whole or not at all.

    Raises:
        QuantizeError: A weight does not fit the precision, or the file cannot be written.
    """
    CODECS[metadata.precision](model, metadata)
    _write(model, metadata, target)


def _write(model: ir.Model, metadata: ModelMetadata, target: Path) -> None:
    set_metadata(model, metadata)
    name_nodes(model, keep={*metadata.blueprint.parameters, *(str(value.name) for value in model.graph.outputs)})
    write_model(model, target, error=QuantizeError)
