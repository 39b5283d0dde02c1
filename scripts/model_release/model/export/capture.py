"""PyTorch -> ONNX with intermediate activations: a network that is run in the open is traced.

The model is traced on fake tensors: no weight is allocated, and time and memory depend on the graph alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.pytorch_utils import Conv1D

from model_release.base.errors import ExportError
from model_release.base.text import first_lines
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.selection import Logits, Selection
from model_release.model.export.network import Network, give_fake_parameters, quiet
from model_release.model.export.seams import Seams, route_of

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
        ExportError: torch cannot export the model.
    """
    names = seen_outputs(blueprint, selection, network.numbers)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with quiet(), torch.no_grad():
        give_fake_parameters(network, mode)
        for module in network.model.modules():
            if type(module) is Conv1D:
                module.__class__ = _MatMulProjection
        with mode:
            example = torch.zeros(2, 7, dtype=torch.int64)
        dynamic = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}
        try:
            with mode:
                program = torch.export.export(
                    _SeeThrough(network, selection.logits, names),
                    (example,),
                    dynamic_shapes={"input_ids": dynamic},
                    strict=False,
                    prefer_deferred_runtime_asserts_over_guards=True,
                )
            exported = torch.onnx.export(
                program,
                input_names=[load_contract().input_name],
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
    every = Selection(layers=tuple(range(some.layers)), activations=tuple(sorted(kinds)), logits=selection.logits)
    return [output.name for output in load_contract().expected_outputs(some, every)]


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

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[batch, seq] int64 -> the outputs, in the contract's order."""
        with Seams(self.network, route=route_of(self.network), wanted=frozenset(self.names)) as seams:
            seen = seams.run(input_ids, last_logits=self.logits == "last")
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
