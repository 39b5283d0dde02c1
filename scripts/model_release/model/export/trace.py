"""config.json -> the finished graph, without weights: as few layers traced as prove how all look."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from model_release.contract.activations import load_contract
from model_release.contract.selection import Selection
from model_release.contract.shape import ModelShape
from model_release.model.export import passes
from model_release.model.export.capture import capture
from model_release.model.export.unroll import TRACED_LAYERS, unroll


def trace(config: Mapping[str, Any], shape: ModelShape, selection: Selection, *, opset: int) -> ir.Model:
    """Traces two layers and repeats them; traces the whole model where its layers differ.

    The graph is the same either way, byte for byte; the time does not depend on the number of layers.

    Args:
        config: The parsed config.json.
        shape: Its sizes.
        selection: What to export.
        opset: ONNX opset version.

    Returns:
        The tidied graph; its parameters have no values yet.

    Raises:
        ExportError: See `capture.capture`.
    """
    contract = load_contract()
    names = contract.every_output(shape)
    model = trace_whole(config, replace(shape, layers=min(shape.layers, TRACED_LAYERS)), selection, opset=opset)
    if shape.layers > TRACED_LAYERS:
        traced = contract.every_output(replace(shape, layers=TRACED_LAYERS))
        if not unroll(model, traced, shape.layers):
            model = trace_whole(config, shape, selection, opset=opset)
    return passes.tidy(model, names, [output.name for output in contract.expected_outputs(shape, selection)])


def trace_whole(config: Mapping[str, Any], shape: ModelShape, selection: Selection, *, opset: int) -> ir.Model:
    """The folded graph of every layer of `shape`, each traced; see `trace`."""
    return passes.fold(capture(config, shape, logits=selection.logits, opset=opset))
