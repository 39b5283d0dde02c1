"""Gains of heads and vectors to steer with: what `--interventions` hands each layer, and the two inputs made of it.

A trace takes the parts of every layer as inputs of their own, `layer_3_head_gain`, so that layers stay alike and can be
repeated; `join` then makes them rows of the inputs that the contract names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from model_release.contract.activations import Input
from model_release.contract.tensor_names import parse_tensor_name
from model_release.model.onnx_files.constants import shared_constant


@dataclass(frozen=True, kw_only=True)
class Touch:
    """What one layer is touched with.

    Attributes:
        gain: What the output of each head is multiplied with, [heads].
        steering: What is added to the stream after the layer, [hidden].
    """

    gain: torch.Tensor
    steering: torch.Tensor

    def scaled(self, z: torch.Tensor) -> torch.Tensor:
        """[batch, heads, seq, head_dim], each head times its gain."""
        return z * self.gain[:, None, None]

    def steered(self, returned: Any) -> Any:  # noqa: ANN401 - a tensor, or a tuple that begins with one
        """What a layer returned, its stream, [batch, seq, hidden], moved by the vector."""
        if isinstance(returned, tuple):
            return (self.steered(returned[0]), *returned[1:])
        return returned + self.steering


def join(model: ir.Model, inputs: Sequence[Input]) -> bool:
    """Makes each layer's part a row of one input.

    Before: inputs `layer_0_head_gain [4]`, `layer_1_head_gain [4]`. After: an input `head_gain [2, 4]` behind the
    others, and `Gather(head_gain, 1)` in place of `layer_1_head_gain`. A layer that has fewer heads than another reads
    the first ones of its row.

    Args:
        model: The graph of all layers.
        inputs: What the contract expects; those whose parts the graph does not have stay as they are.
    """
    graph = model.graph
    made = []
    for input_ in inputs:
        parts = {
            str(value.name): value for value in graph.inputs if parse_tensor_name(str(value.name))[0] == input_.name
        }
        parts = {name: value for name, value in parts.items() if name != input_.name}
        if not parts:
            continue
        whole = ir.Value(name=input_.name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(input_.dims))
        for name, part in parts.items():
            layer, width = parse_tensor_name(name)[1], (part.shape or [None])[0]
            nodes = [ir.node("Gather", [whole, _constant(model, layer)], {"axis": 0})]
            if width != input_.dims[1]:
                ends = [_constant(model, [end]) for end in (0, width)]
                nodes.append(ir.node("Slice", [nodes[0].outputs[0], *ends]))
            row = nodes[-1].outputs[0]
            row.type, row.shape = part.type, part.shape
            first = next(node for node in graph if part in node.inputs)
            graph.insert_before(first, nodes)
            part.replace_all_uses_with(row)
        graph.inputs[:] = [value for value in graph.inputs if value.name not in parts] + [whole]
        made.append(whole)
    return bool(made)


def _constant(model: ir.Model, value: object) -> ir.Value:
    """Whole numbers, int64, as an initializer that is made once."""
    array = np.array(value, dtype=np.int64)
    name = "place_" + "_".join(map(str, array.reshape(-1))) + ("s" if array.ndim else "")
    return shared_constant(model.graph, name, array)
