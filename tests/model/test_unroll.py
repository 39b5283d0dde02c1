"""A repeated layer is the layer that tracing the whole model gives; layers that differ are never repeated."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from builders import gpt2_config
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.selection import Selection
from model_release.model.export import trace
from model_release.model.export.capture import capture, seen_outputs
from model_release.model.export.network import Network, build_network
from model_release.model.export.passes import attach_parameters, tidy
from model_release.model.export.survey import draw_blueprint
from model_release.model.export.trace import trace_layers
from model_release.model.export.unroll import Traced, unroll

pytestmark = pytest.mark.slow

NAMES = (
    "embedding_sum",
    "layer_0_resid_pre",
    "layer_0_resid_post",
    "layer_1_resid_pre",
    "layer_1_resid_post",
    "logits",
)

# Two layers over x: a product, a shared constant, a sum; then a head.
TWO_LAYERS = """<ir_version: 10, opset_import: ["" : 20]>
agraph (float[b] ids) => (float[b] x, float[b] x, float[b] y, float[b] y, float[b] z, float[b] logits)
<float half = {0.5}, float third = {0.33}, float[1] transformer.h.0.w = {0}, float[1] transformer.h.1.w = {0}>
{
    x = Relu (ids)
    a = Mul (x, transformer.h.0.w)
    b = Mul (a, half)
    y = Add (x, b)
    c = Mul (y, transformer.h.1.w)
    d = Mul (c, half)
    z = Add (y, d)
    logits = Neg (z)
}"""

DIFFERENT = {
    "another constant": ("d = Mul (c, half)", "d = Mul (c, third)"),
    "another operator": ("d = Mul (c, half)", "d = Div (c, half)"),
    "another order of inputs": ("d = Mul (c, half)", "d = Mul (half, c)"),
    "one operator more": ("z = Add (y, d)", "e = Neg (d) z = Add (y, e)"),
    "the parameters of the layer before": ("Mul (y, transformer.h.1.w)", "Mul (y, transformer.h.0.w)"),
    "a value inside the layer before": ("z = Add (y, d)", "z = Add (a, d)"),
    "what the layer before was given": ("z = Add (y, d)", "z = Add (x, d)"),
    "a head that looks into a layer": ("Neg (z)", "Add (z, c)"),
    "a head that looks at the layer before": ("Neg (z)", "Add (z, y)"),
}


def parsed(text: str) -> ir.Model:
    """A model without values for its parameters, as a trace has."""
    model = ir.from_onnx_text(text.replace("transformer.h.", "transformer_h_").replace(".w", "_w"))
    for value in list(model.graph.initializers.values()):
        if str(value.name).startswith("transformer_h_"):
            value.name = str(value.name).replace("transformer_h_", "transformer.h.").replace("_w", ".w")
            value.const_value = None
    return model


def of_all(layers: int) -> list[str]:
    """The names of the outputs of a model of so many layers."""
    streams = [f"layer_{layer}_resid_{end}" for layer in range(layers) for end in ("pre", "post")]
    return ["embedding_sum", *streams, "logits"]


def traced(kinds: Sequence[int]) -> Traced:
    return Traced(path="transformer.h", numbers=(0, 1), kinds=kinds)


def wiring(model: ir.Model) -> list[tuple[str, list[str | None]]]:
    return [(node.op_type, [value.name if value else None for value in node.inputs]) for node in model.graph]


def test_each_repeated_layer_reads_its_own_parameters_and_the_layer_before() -> None:
    model = parsed(TWO_LAYERS)
    assert unroll(model, NAMES, of_all(4), traced([0] * 4))
    layers = list(model.graph)[1:-1]
    assert [node.op_type for node in layers] == ["Mul", "Mul", "Add"] * 4
    for layer in range(4):
        product, halved, total = layers[3 * layer : 3 * layer + 3]
        before = model.graph[0] if layer == 0 else layers[3 * layer - 1]
        assert product.inputs == (before.outputs[0], model.graph.initializers[f"transformer.h.{layer}.w"])
        assert halved.inputs == (product.outputs[0], model.graph.initializers["half"])
        assert total.inputs == (before.outputs[0], halved.outputs[0])
    ends = [node.outputs[0] for node in (model.graph[0], *layers[2::3])]
    assert model.graph[-1].inputs == (ends[-1],)
    pairs = [value for before, after in pairwise(ends) for value in (before, after)]
    assert list(model.graph.outputs) == [ends[0], *pairs, model.graph[-1].outputs[0]]


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_layers_that_differ_are_left_alone(change: tuple[str, str]) -> None:
    assert change[0] in TWO_LAYERS
    model = parsed(TWO_LAYERS.replace(*change))
    before = wiring(model)
    assert not unroll(model, NAMES, of_all(4), traced([0] * 4))
    assert wiring(model) == before


TRACES = {
    "opset 25, untied, last logits": ({"tied": False}, 25, "last"),
    "opset 18, odd sizes, reordered and unscaled attention, narrow MLP, ReLU": (
        {
            "hidden": 21,
            "heads": 3,
            "vocab": 257,
            "reorder_and_upcast_attn": True,
            "scale_attn_weights": False,
            "n_inner": 5,
            "activation_function": "relu",
        },
        18,
        "all",
    ),
}


@pytest.mark.long_cases("opset 25, untied, last logits")
@pytest.mark.parametrize("traced", TRACES.values(), ids=TRACES.keys())
def test_two_layers_repeated_are_byte_for_byte_the_layers_traced(traced: tuple[dict[str, Any], int, Any]) -> None:
    changes, opset, logits = traced
    config = gpt2_config(layers=3, **changes)
    blueprint = draw_blueprint(config)
    selection = Selection(layers=(0, 1, 2), activations=load_contract().all_activations, logits=logits)
    repeated, _ = trace_layers(config, blueprint, selection, (0, 1), opset=opset)
    whole, _ = trace_layers(config, blueprint, selection, (0, 1, 2), opset=opset)
    some = replace(selection, layers=(1, 2), activations=load_contract().default_activations)
    for wanted in (selection, some):  # Of the same two graphs: fewer outputs of them each time.
        contents = [content(model, blueprint, selection, wanted) for model in (repeated, whole)]
        assert contents[0] == contents[1]


def content(model: ir.Model, blueprint: Blueprint, selection: Selection, wanted: Selection) -> bytes:
    """What would be written of a copy of a traced graph."""
    copy = model.clone()
    names = [output.name for output in load_contract().expected_outputs(blueprint, wanted)]
    tidy(copy, seen_outputs(blueprint, selection, range(blueprint.layers)), names)
    shapes = {name: parameter.dims for name, parameter in blueprint.parameters.items()}
    attach_parameters(copy, shapes, lambda name: np.zeros(shapes[name], np.float32))
    return bytes(ir.to_proto(copy).SerializeToString(deterministic=True))


def traced_numbers(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """The layers of every trace that is made from now on."""
    numbers: list[Sequence[int]] = []
    original = capture

    def noted(network: Network, *rest: Any, **options: Any) -> ir.Model:
        numbers.append(tuple(network.numbers))
        return original(network, *rest, **options)

    monkeypatch.setattr(trace, "capture", noted)
    return numbers


@pytest.mark.long
def test_layers_with_settings_of_their_own_are_each_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    config = gpt2_config(layers=3, scale_attn_by_inverse_layer_idx=True)
    numbers = traced_numbers(monkeypatch)
    selection = Selection(layers=(2,), activations=("attn_scores",))
    model = trace.trace(config, draw_blueprint(config), selection, opset=20)
    assert numbers == [(0, 1, 2)]
    constants = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    scales = {round(tensor.numpy().item(), 6) for tensor in constants if tensor.size == 1}
    assert {round(8**-0.5 / layer, 6) for layer in (1, 2, 3)} <= scales


@pytest.mark.long
def test_a_model_whose_layers_only_look_alike_is_traced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds say that all layers are the same; the trace says that they are not."""
    config = gpt2_config(layers=3, scale_attn_by_inverse_layer_idx=True)
    blueprint = draw_blueprint(config)
    original = build_network
    monkeypatch.setattr(trace, "build_network", lambda *a, **o: replace(original(*a, **o), kinds=[0, 0, 0]))
    numbers = traced_numbers(monkeypatch)
    trace.trace(config, blueprint, Selection(layers=(2,), activations=("attn_scores",)), opset=20)
    assert numbers == [(0, 1), (0, 1, 2)]


def test_a_deep_model_is_traced_as_two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = gpt2_config(layers=40)
    blueprint = draw_blueprint(config)
    numbers = traced_numbers(monkeypatch)
    model = trace.trace(config, blueprint, Selection(layers=(39,), activations=("resid_post",)), opset=20)
    assert numbers == [(0, 1)]
    assert blueprint.parameters.keys() <= model.graph.initializers.keys()
    assert [value.name for value in model.graph.outputs] == ["logits", "layer_39_resid_post"]
