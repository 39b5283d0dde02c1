"""Stored and computed precision of a model's weights.

What is downloaded and what is computed are separate choices. A codec replaces each parameter of the
fp32 graph by smaller stored tensors and the standard ONNX operators that decode them. Decoding that
depends on no input is folded by the runtime when a session is created, so such a precision runs
exactly like fp32.

Parameters are read, encoded and written one at a time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from model_release.base.errors import ContractError, QuantizeError
from model_release.base.progress import Progress, silent
from model_release.contract.file_checks import stored_bytes
from model_release.contract.metadata import ModelMetadata, metadata_of
from model_release.contract.precision import FULL_PRECISION
from model_release.contract.request import FITTED, Budget
from model_release.model.onnx_files.data_files import atomic_model, model_bytes
from model_release.model.onnx_files.file import read_model, write_model
from model_release.model.onnx_files.naming import name_nodes, set_metadata
from model_release.model.precision.block_codes import store_compensated, store_in_blocks
from model_release.model.precision.budget import expected_loss, fit_widths, least_bytes
from model_release.model.precision.calibration import Calibration
from model_release.model.precision.fp16 import store_fp16, store_fp16_compute
from model_release.model.precision.int4_products import store_int4_compute
from model_release.model.precision.int8 import store_int8_dynamic, store_int8_static
from model_release.model.precision.losses import measure_losses

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


_OVERHEAD_BYTES = 1024
"""What the names of other widths may add to the graph."""

_SAFETY = 2.5
"""Times what is expected, as large losses do not just add up: SmolLM2-135M's was up to 2.4 times as large. A file that
nobody asked to be fitted must not break the limits that its plain form keeps."""


def quantize_file(
    source: Path,
    target: Path,
    precision: str,
    calibration_ids: Sequence[int] = (),
    *,
    budget: Budget | None = None,
    note: Progress = silent,
) -> ModelMetadata:
    """Makes one precision of a model file.

    Args:
        source: `model.onnx` as `export.py` writes it (fp32).
        target: The file to write, whole or not at all.
        precision: A name of `CODECS` or `CALIBRATED`.
        calibration_ids: Token ids of a text to calibrate on; random ids without any.
        budget: How large the file may be, if it is of `FITTED`.
        note: Told what becomes of the budget.

    Returns:
        The metadata of the new file.

    Raises:
        QuantizeError: The source is not an fp32 model of ours, a weight does not fit the precision,
            the budget that was asked for is too small, or the file cannot be written.
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
        calibration = Calibration(source, metadata.blueprint, calibration_ids)
        with atomic_model(target, error=QuantizeError) as temporary:
            CALIBRATED[precision](model, metadata, calibration)
            _write(model, metadata, temporary)
            if precision == FITTED and budget is not None:
                metadata = _fit(source, temporary, metadata, calibration, budget, note)
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


def _fit(
    source: Path,
    made: Path,
    metadata: ModelMetadata,
    calibration: Calibration,
    budget: Budget,
    note: Progress,
) -> ModelMetadata:
    """Makes a file anew in other widths, if that is what the budget asks for; returns its metadata."""
    size_bytes, blueprint, precision = model_bytes(made), metadata.blueprint, metadata.stored_precision
    if size_bytes <= budget.size_bytes and not budget.is_asked:
        return metadata
    graph_bytes = size_bytes - stored_bytes(blueprint, precision) + _OVERHEAD_BYTES
    smallest_bytes = graph_bytes + least_bytes(blueprint, precision)
    smallest = f"the smallest that this model gets is {math.ceil(smallest_bytes / 1e5) / 10:g} MB"
    if budget.size_bytes < smallest_bytes:
        if budget.is_asked:
            raise QuantizeError(
                f"{FITTED} must fit {budget.size_bytes / 1e6:g} MB, {smallest}. Give that, or choose a smaller model."
            )
        note(f"note: {FITTED} stays over {budget.size_bytes / 1e6:g} MB; {smallest}")
        return metadata
    losses = measure_losses(source, made, metadata, calibration)
    widths = fit_widths(blueprint, precision, losses, budget.size_bytes - graph_bytes)
    expected = expected_loss(blueprint, precision, losses, widths)
    if not budget.is_asked and expected * _SAFETY > precision.max_mean_kl:
        note(
            f"note: {FITTED} stays over {budget.size_bytes / 1e6:g} MB; "
            f"within, its mean KL may be {expected * _SAFETY:.2f} nats"
        )
        return metadata
    note(f"note: {FITTED} is fitted to {budget.size_bytes / 1e6:g} MB, expected mean KL {expected:.3f} nats")
    metadata = replace(metadata, widths=widths)
    model = read_model(source)
    store_compensated(model, metadata, calibration)
    _write(model, metadata, made)
    return metadata


def _write(model: ir.Model, metadata: ModelMetadata, target: Path) -> None:
    set_metadata(model, metadata)
    name_nodes(model, keep={*metadata.blueprint.parameters, *(str(value.name) for value in model.graph.outputs)})
    write_model(model, target, error=QuantizeError)
