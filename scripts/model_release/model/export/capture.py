"""PyTorch -> ONNX with intermediate activations: a network that is run in the open is traced.

The model is traced on fake tensors: no weight is allocated, and time and memory depend on the graph alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.pytorch_utils import Conv1D

from model_release.base.errors import ExportError
from model_release.base.text import first_lines
from model_release.contract.activations import Input, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.selection import Logits, Selection
from model_release.contract.tensor_names import tensor_name
from model_release.model.export.attention import route_of
from model_release.model.export.network import Network, give_fake_parameters, quiet
from model_release.model.export.past import KeyValue
from model_release.model.export.seams import Seams
from model_release.model.export.touch import Touch

_MODULE = "model."  # Where `_SeeThrough` keeps the model; parameter names start with it.


def capture(network: Network, blueprint: Blueprint, selection: Selection, *, opset: int) -> ir.Model:
    """Traces a network into an ONNX graph whose parameters carry names and shapes, but no values.

    Args:
        network: All layers of a model, or some; its parameters become fake.
        blueprint: Of the whole model.
        selection: What to export.
        opset: ONNX opset version.

    Returns:
        The graph. Initializers named as in the blueprint have no `const_value` yet; small constants have theirs.
        Outputs are those of `seen_outputs`, in its order.

    Raises:
        ExportError: torch cannot export the model, or with a cache its keys would not last.
    """
    if selection.cache:
        _require_lasting_keys(network, blueprint)
    names = seen_outputs(blueprint, selection, network.numbers)
    inputs = load_contract().expected_inputs(blueprint, selection)
    known = {input_.name: input_ for input_ in inputs}
    of_layer = [
        [known[tensor_name(kind, number)] for kind in ("past_key", "past_value")]
        for number in (network.numbers if selection.cache else ())
    ]
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    turns_alike = {"dynamic", "longrope"}.isdisjoint(rope.get("rope_type") for rope in _ropes(network))
    with quiet(), torch.no_grad():
        give_fake_parameters(network, mode)
        for module in network.model.modules():
            if type(module) is Conv1D:
                module.__class__ = _MatMulProjection
            elif turns_alike and type(module).__name__.endswith("RotaryEmbedding"):
                module.forward = partial(_look_up, module.forward, blueprint.context)
        with mode:
            examples: list[Any] = [torch.zeros(2, 7, dtype=torch.int64)]
            if of_layer:
                examples.append([tuple(map(_example, pair)) for pair in of_layer])
            touches = _touches(network, blueprint) if selection.interventions else []
        batch = torch.export.Dim("batch")
        dynamic: dict[str, Any] = {"input_ids": {0: batch, 1: torch.export.Dim("seq")}}
        if of_layer:
            before = {0: batch, 2: torch.export.Dim("past")}
            dynamic["past"] = [(before, before) for _ in of_layer]
        touch_names = [
            tensor_name(kind, number)
            for number in (network.numbers if touches else ())
            for kind in ("head_gain", "steering")
        ]
        if touches:
            dynamic["touches"] = [(None, None) for _ in touches]
        try:
            with mode:
                program = torch.export.export(
                    _SeeThrough(network, selection.logits, names),
                    tuple(examples),
                    {"touches": touches} if touches else None,
                    dynamic_shapes=dynamic,
                    strict=False,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
            exported = torch.onnx.export(
                program,
                input_names=[inputs[0].name, *(input_.name for pair in of_layer for input_ in pair), *touch_names],
                output_names=names,
                opset_version=opset,
                optimize=False,  # Folding needs values; `passes.fold` folds what can be folded without.
                verbose=False,
            )
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as failure:
            raise ExportError(
                f"torch could not export this model at opset {opset}: {first_lines(failure, 2)}. Try another --opset."
            ) from failure
    if exported is None:
        raise ExportError(f"torch returned no ONNX program at opset {opset}. Try another --opset.")
    return _name_parameters(exported.model, network, blueprint)


def seen_outputs(blueprint: Blueprint, selection: Selection, numbers: Sequence[int]) -> list[str]:
    """The outputs that a trace of these layers returns, layers counted from 0.

    Of every layer, the kinds that are asked for, and the stream around it, at which graphs are cut. Lenses are no
    part of a trace: `passes.tidy` makes them of the model's own end.
    """
    some = replace(blueprint, pattern="".join(blueprint.pattern[number] for number in numbers))
    kinds = {*selection.activations, "resid_pre", "resid_post"} - {"logit_lens"}
    every = replace(selection, layers=tuple(range(some.layers)), activations=tuple(sorted(kinds)))
    return [output.name for output in load_contract().expected_outputs(some, every)]


def _require_lasting_keys(network: Network, blueprint: Blueprint) -> None:
    """Refuses rotary positions that turn all keys anew once a sequence is long: those handed in were turned before."""
    short = [
        rope["original_max_position_embeddings"] for rope in _ropes(network) if rope.get("rope_type") == "longrope"
    ]
    if short and min(short) < blueprint.context:
        raise ExportError(
            f"--cache needs keys that stay as they are, longrope turns all of them anew after {min(short)} tokens. "
            f"Give --context {min(short)}, or leave --cache out."
        )


def _example(input_: Input) -> torch.Tensor:
    """Keys or values of 5 tokens before, for a trace at batch 2."""
    sizes = {"batch_size": 2, "past": 5}
    return torch.zeros([sizes[dim] if isinstance(dim, str) else dim for dim in input_.dims])


def _touches(network: Network, blueprint: Blueprint) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Gains and a vector for each of a network's layers, for a trace: layers stay alike with inputs of their own."""
    return [(torch.zeros(blueprint.layer(number).heads), torch.zeros(blueprint.hidden)) for number in network.numbers]


def _ropes(network: Network) -> list[dict[str, Any]]:
    """What the config says of rotary positions: once, and where layers differ, of each kind of them."""
    rope = getattr(network.model.config, "rope_parameters", None) or {}
    return [rope, *(value for value in rope.values() if isinstance(value, dict))]


def _look_up(
    turn: Callable[..., tuple[torch.Tensor, torch.Tensor]],
    context: int,
    x: torch.Tensor,
    position_ids: torch.Tensor,
    *rest: object,
    **named: object,
) -> tuple[torch.Tensor, ...]:
    """Cosines and sines of positions, taken from those of all positions: they depend on no input.

    So a runtime computes them once, where it folds constants, by a processor's own functions. WebGPU's may be off by
    2^-11 near 0, and by anything beyond π (https://www.w3.org/TR/WGSL/#concrete-float-accuracy).
    """
    tables = turn(x, torch.arange(context)[None], *rest, **named)  # Each [1, context, head_dim].
    return tuple(torch.nn.functional.embedding(position_ids, table[0]) for table in tables)


class _MatMulProjection(Conv1D):
    """transformers' Conv1D as matrix product and sum: MatMul and Add, with no Reshape around them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        return torch.matmul(x, self.weight) + self.bias


class _SeeThrough(torch.nn.Module):
    """A language model that returns the contract's outputs as a tuple."""

    def __init__(self, network: Network, logits: Logits, names: Sequence[str]) -> None:
        super().__init__()
        self.model = network.model
        self.network = network
        self.logits = logits
        self.names = names

    def forward(
        self,
        input_ids: torch.Tensor,
        past: Sequence[KeyValue] | None = None,
        touches: Sequence[tuple[torch.Tensor, torch.Tensor]] = (),
    ) -> tuple[torch.Tensor, ...]:
        """[batch, seq] int64, keys and values, gains and vectors of layers -> the outputs, in the contract's order."""
        of_layer = [Touch(gain=gain, steering=steering) for gain, steering in touches]
        with Seams(self.network, route=route_of(self.network), wanted=frozenset(self.names)) as seams:
            seen = seams.run(input_ids, last_logits=self.logits == "last", past=past, touches=of_layer)
        # Two names may mean one tensor (what leaves a layer enters the next); ONNX wants two values.
        tensors = [seen[name] for name in self.names]
        return tuple(
            tensor.clone() if any(tensor is other for other in tensors[:index]) else tensor
            for index, tensor in enumerate(tensors)
        )


def _name_parameters(model: ir.Model, network: Network, blueprint: Blueprint) -> ir.Model:
    """Gives initializers the checkpoint's names and takes the fake values off them."""
    graph = model.graph
    for value in list(graph.initializers.values()):
        name = network.original_name(str(value.name).removeprefix(_MODULE))
        if blueprint.tied and name == blueprint.head:
            name = blueprint.tokens.name
        if name not in blueprint.parameters:
            continue
        del graph.initializers[str(value.name)]
        value.name = name
        value.const_value = None
        graph.initializers[name] = value
    traced = {network.original_name(name) for name, _ in network.model.named_parameters()}
    missing = sorted(traced - graph.initializers.keys())
    if missing:
        raise ExportError(
            f"the traced graph must use every parameter, {missing[0]} is not in it. Report this as a defect."
        )
    return model
