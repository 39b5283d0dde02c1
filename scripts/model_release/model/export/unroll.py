"""A traced layer, repeated: the graph of a deep model from the trace of a shallow one.

The layers of a transformer are one subgraph over different parameters, and an exporter's time goes
into tracing that subgraph again and again. Here two layers are traced and compared node by node;
only if they are the same, the second is repeated. A model whose layers differ (a constant that
depends on the layer's number is enough) is left for its caller to trace whole.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import onnx_ir as ir

from model_release.contract.activations import parse_tensor_name

TRACED_LAYERS = 2
"""As many as it takes to see that layers are the same."""

_PARAMETER = re.compile(r"transformer\.h\.(\d+)\.")


def unroll(model: ir.Model, names: Sequence[str], layers: int) -> bool:
    """Repeats the second of two layers until there are `layers`, outputs included.

    Before: `x -> layer 0 -> layer 1 -> head`. After: `x -> layer 0 -> layer 1 -> ... -> head`, where
    layer L reads `transformer.h.L.*`, a parameter without a value.

    Args:
        model: A graph of two layers from `passes.fold`, with every output of the contract. Several
            outputs may be one value.
        names: Its outputs' names.
        layers: How many layers there shall be, at least two.

    Returns:
        Whether the two layers are provably the same. If not, the model is left as it was.
    """
    outputs = dict(zip(map(parse_tensor_name, names), model.graph.outputs, strict=True))
    edges = [outputs["resid_pre", 0], outputs["resid_post", 0], outputs["resid_post", 1]]
    cut = _Cut.of(model.graph, edges)
    if cut is None or not _are_same(cut, edges):
        return False
    end, anchor = edges[2], cut.second[-1]
    repeated: list[ir.Value] = []
    for layer in range(TRACED_LAYERS, layers):
        copies = {edges[1]: end}
        nodes = [_copy(node, layer, copies, model.graph) for node in cut.second]
        model.graph.insert_after(anchor, nodes)
        repeated += [copies[value] for (_, number), value in outputs.items() if number == 1]
        end, anchor = copies[edges[2]], nodes[-1]
    for node in cut.rest:
        for index, value in enumerate(node.inputs):
            if value is edges[2]:
                node.replace_input_with(index, end)
    behind = max(index for index, (_, number) in enumerate(outputs) if number == 1) + 1
    model.graph.outputs[behind:behind] = repeated
    return True


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The nodes of a graph, in order: before (not kept), two layers, and the rest."""

    first: Sequence[ir.Node]
    second: Sequence[ir.Node]
    rest: Sequence[ir.Node]

    @classmethod
    def of(cls, graph: ir.Graph, edges: Sequence[ir.Value]) -> "_Cut | None":
        """Cuts behind the nodes that make the edges; None if these are not in order."""
        nodes = list(graph)
        position = {node: index for index, node in enumerate(nodes)}
        ends = [position[node] + 1 for node in (edge.producer() for edge in edges) if node is not None]
        if len(set(ends)) != len(edges) or ends != sorted(ends):
            return None
        return cls(first=nodes[ends[0] : ends[1]], second=nodes[ends[1] : ends[2]], rest=nodes[ends[2] :])


def _are_same(cut: _Cut, edges: Sequence[ir.Value]) -> bool:
    """Whether the layers differ in their parameters' numbers alone, and meet others at the edges alone."""
    twins = {edges[0]: edges[1]}
    for one, other in zip_longest(cut.first, cut.second):
        if one is None or other is None or not _is_same_operation(one, other):
            return False
        for value, twin in zip(one.inputs, other.inputs, strict=True):
            if value is not None and _in_layer(value, 1) != value.name:
                if twin is None or twin.name != _in_layer(value, 1):
                    return False
            elif twins.get(value, value) is not twin:
                return False
        twins |= dict(zip(one.outputs, other.outputs, strict=True))
    inner = {value for node in (*cut.first, *cut.second) for value in node.outputs} - {edges[2]}
    return not inner.intersection(value for node in cut.rest for value in node.inputs if value is not None)


def _is_same_operation(one: ir.Node, other: ir.Node) -> bool:
    def facts(node: ir.Node) -> tuple[object, ...]:
        return node.op_identifier(), node.attributes, len(node.inputs), [_kind(value) for value in node.outputs]

    return facts(one) == facts(other)


def _kind(value: ir.Value) -> tuple[object, ...]:
    return value.dtype, value.shape


def _in_layer(value: ir.Value, layer: int) -> str | None:
    """The name of another layer's parameter of the same kind; other values keep their name."""
    return _PARAMETER.sub(f"transformer.h.{layer}.", value.name, count=1) if value.name else value.name


def _copy(node: ir.Node, layer: int, copies: dict[ir.Value, ir.Value], graph: ir.Graph) -> ir.Node:
    """A node for another layer; `copies` maps the values of the layer that is copied, and is added to."""
    inputs = [_counterpart(value, layer, copies, graph) for value in node.inputs]
    outputs = list(_like(node.outputs))
    copies |= dict(zip(node.outputs, outputs, strict=True))
    return ir.node(node.op_type, inputs, node.attributes, domain=node.domain, version=node.version, outputs=outputs)


def _counterpart(
    value: ir.Value | None, layer: int, copies: dict[ir.Value, ir.Value], graph: ir.Graph
) -> ir.Value | None:
    """What the copy of a node reads where the node reads `value`."""
    if value is None or value in copies:
        return value and copies[value]
    name = _in_layer(value, layer)
    if name is None or name == value.name:
        return value  # Shared by all layers: the causal mask, a constant.
    if name not in graph.initializers:
        (parameter,) = _like([value])
        parameter.name = name
        graph.initializers[name] = parameter
    return graph.initializers[name]


def _like(values: Iterable[ir.Value]) -> Iterable[ir.Value]:
    """New values of the same type and shape."""
    return (
        ir.Value(type=value.type, shape=value.shape.copy() if value.shape is not None else None) for value in values
    )
