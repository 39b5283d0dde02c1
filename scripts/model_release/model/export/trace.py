"""config.json -> the finished graph, without weights: as few layers traced as prove how all look."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from model_release.contract.activations import load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.selection import Selection
from model_release.model.export import passes, touch
from model_release.model.export.capture import capture, seen_outputs
from model_release.model.export.network import build_network, with_layers
from model_release.model.export.unroll import Traced, layers_to_trace, unroll


def trace(config: Mapping[str, Any], blueprint: Blueprint, selection: Selection, *, opset: int) -> ir.Model:
    """Traces two layers of each kind and repeats them; traces the whole model where these differ.

    The graph is the same either way, byte for byte; the time does not depend on the number of layers.

    Args:
        config: The parsed config.json.
        blueprint: What it is a config of.
        selection: What to export.
        opset: ONNX opset version.

    Returns:
        The tidied graph; its parameters have no values yet.

    Raises:
        ExportError: See `capture.capture`.
    """
    every = range(blueprint.layers)
    model, is_whole = trace_layers(config, blueprint, selection, None, opset=opset)
    if not is_whole:
        model, _ = trace_layers(config, blueprint, selection, every, opset=opset)
    touch.join(model, load_contract().expected_inputs(blueprint, selection))
    wanted = [output.name for output in load_contract().expected_outputs(blueprint, selection)]
    return passes.tidy(model, seen_outputs(blueprint, selection, every), wanted)


def trace_layers(
    config: Mapping[str, Any],
    blueprint: Blueprint,
    selection: Selection,
    numbers: Sequence[int] | None,
    *,
    opset: int,
) -> tuple[ir.Model, bool]:
    """The folded graph of all layers, from a trace of some; see `trace`.

    Args:
        config: The parsed config.json.
        blueprint: What it is a config of.
        selection: What to export.
        numbers: The layers to trace; by default the first two of each kind.
        opset: ONNX opset version.

    Returns:
        The graph, and whether it has all layers: it has not where the traced ones are not the same.
    """
    network = build_network(config, in_the_open=True, tied=blueprint.tied)
    numbers = layers_to_trace(network.kinds) if numbers is None else numbers
    network = with_layers(network, numbers)
    model = passes.fold(capture(network, blueprint, selection, opset=opset))
    traced = Traced(path=network.path, numbers=numbers, kinds=network.kinds)
    wanted = seen_outputs(blueprint, selection, range(blueprint.layers))
    is_whole = unroll(model, seen_outputs(blueprint, selection, numbers), wanted, traced) or traced.is_whole
    return model, is_whole
