"""Traced layers, repeated: the graph of a deep model from the trace of a few of its layers.

The layers of a transformer are a few subgraphs over different parameters, and an exporter's time goes into
tracing them again and again. Here two layers of each kind are traced and compared node by node; only if they
are the same are they repeated, in the model's pattern. A model whose layers differ in a way that no kind tells
(a constant that depends on the layer's number is enough) is left for its caller to trace whole.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import onnx_ir as ir

from model_release.contract.tensor_names import parse_tensor_name, tensor_name

TRACED_LAYERS = 2
"""Of a kind: as many as it takes to see that they are the same."""


def layers_to_trace(kinds: Sequence[int]) -> tuple[int, ...]:
    """The first layers of each kind, in order.

    >>> layers_to_trace([0, 0, 0, 1, 0, 0, 0, 1])
    (0, 1, 3, 7)
    """
    return tuple(number for number, kind in enumerate(kinds) if kinds[:number].count(kind) < TRACED_LAYERS)


@dataclass(frozen=True, kw_only=True)
class Traced:
    """Which layers of a model a graph holds.

    Attributes:
        path: Where the model's list of layers is; names of their parameters begin with it.
        numbers: The whole model's numbers of the layers traced.
        kinds: The kind of each layer of the whole model.
    """

    path: str
    numbers: Sequence[int]
    kinds: Sequence[int]

    @property
    def is_whole(self) -> bool:
        """Whether no layer is left out."""
        return len(self.numbers) == len(self.kinds)

    def place(self, name: str | None) -> int | None:
        """The place among the traced layers that a parameter or an input belongs to; None if to no layer."""
        if match := re.match(rf"{re.escape(self.path)}\.(\d+)\.", name or ""):
            return self.numbers.index(int(match[1]))
        _, number = parse_tensor_name(name or "")
        return None if number is None else self.numbers.index(number)

    def renamed(self, name: str, number: int) -> str:
        """A parameter's or an input's name in another layer."""
        kind, layer = parse_tensor_name(name)
        if layer is not None:
            return tensor_name(kind, number)
        return re.sub(rf"^({re.escape(self.path)}\.)\d+\.", rf"\g<1>{number}.", name, count=1)


def unroll(model: ir.Model, names: Sequence[str], wanted: Sequence[str], traced: Traced) -> bool:
    """Lays out every layer of the model, outputs included.

    Before: `x -> layer 0 -> layer 1 -> head`. After: `x -> layer 0 -> layer 1 -> ... -> head`, where each layer
    reads its own parameters, without values. What layers share and compute for themselves stands before them.

    Args:
        model: A graph from `passes.fold`. Several outputs may be one value.
        names: Its outputs' names, layers counted from 0.
        wanted: The outputs' names afterwards.
        traced: Which layers it holds.

    Returns:
        Whether the layers of each kind are provably the same. If not, the model is left as it was.
    """
    outputs = dict(zip(map(parse_tensor_name, names), model.graph.outputs, strict=True))
    cut = _Cut.of(model.graph, outputs, traced)
    if cut is None:
        return False
    of_kind: dict[int, int] = {}
    for place, number in enumerate(traced.numbers):
        example = of_kind.setdefault(traced.kinds[number], place)
        if not traced.is_whole and example != place and not _are_same(cut, example, place, outputs, traced):
            return False
    examples = range(len(traced.kinds)) if traced.is_whole else [of_kind[kind] for kind in traced.kinds]
    graph, end = model.graph, cut.edges[0]
    _take(graph, examples, traced)
    found: dict[int, dict[ir.Value, ir.Value]] = {}
    layers: list[ir.Node] = []
    for number, place in enumerate(examples):
        copies = {cut.edges[place]: end}
        layers += [_copy(node, number, copies, graph, traced) for node in cut.layers[place]]
        end, found[number] = copies[cut.edges[place + 1]], copies
    for node in cut.rest:
        for index, value in enumerate(node.inputs):
            if value is cut.edges[-1]:
                node.replace_input_with(index, end)
    listed = []
    for name in wanted:
        output, layer = parse_tensor_name(name)
        value = outputs[output, None if layer is None else examples[layer]]
        listed.append(value if layer is None else found[layer].get(value, value))
    graph.outputs[:] = listed
    before = cut.before if len(of_kind) == 1 else _as_needed(cut.before, layers)
    graph.remove(cut.before)
    graph.insert_before(cut.rest[0], [*before, *layers])
    graph.remove([node for nodes in cut.layers for node in nodes], safe=True)  # Parameters forget who read them.
    return True


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """The nodes of a graph: before the layers, each layer, and the rest.

    Attributes:
        edges: The residual stream before the first layer, and behind each.
    """

    before: Sequence[ir.Node]
    layers: Sequence[Sequence[ir.Node]]
    rest: Sequence[ir.Node]
    edges: Sequence[ir.Value]

    @classmethod
    def of(cls, graph: ir.Graph, outputs: Mapping[tuple[str, int | None], ir.Value], traced: Traced) -> "_Cut | None":
        """Sorts nodes by what they depend on; None if a layer looks into another past the stream between them."""
        count = len(traced.numbers)
        edges = [outputs["resid_pre", 0], *(outputs["resid_post", place] for place in range(count))]
        if len(set(edges)) != len(edges) or any(outputs["resid_pre", p] is not edges[p] for p in range(count)):
            return None
        readers = {edge: place for place, edge in enumerate(edges)}  # Who reads an edge is at least so late.
        owners: dict[ir.Value, int] = {}
        of_node: dict[ir.Node, int | None] = {}
        for node in graph:
            places = set()
            for value in node.inputs:
                if value is None:
                    continue
                place = readers.get(value, owners.get(value))
                # Sizes are the same in all layers: that of an input belongs to none.
                if place is None and value.producer() is None and node.op_type != "Shape":
                    place = traced.place(value.name)
                if place is not None:
                    places.add(place)
            if len(places) > 1:
                return None
            place = places.pop() if places else None
            of_node[node] = place
            if place is not None:
                owners |= dict.fromkeys(node.outputs, place)
        if any(owners.get(edge) != place for place, edge in enumerate(edges[1:])):
            return None
        layers = [[node for node, place in of_node.items() if place == number] for number in range(count)]
        needed = _behind([node for nodes in layers for node in nodes], [edges[0]])
        before = [node for node, place in of_node.items() if place is None and node in needed]
        kept = set(before)
        rest = [node for node, place in of_node.items() if place == count or (place is None and node not in kept)]
        return cls(before=before, layers=layers, rest=rest, edges=edges)


def _behind(nodes: Iterable[ir.Node], values: Iterable[ir.Value]) -> set[ir.Node]:
    """Every node that some nodes and values are computed from, and the nodes themselves."""
    found: set[ir.Node] = set()
    waiting = [*nodes, *(node for value in values if (node := value.producer()) is not None)]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [maker for value in node.inputs if value is not None and (maker := value.producer()) is not None]
    return found


def _as_needed(nodes: Sequence[ir.Node], readers: Iterable[ir.Node]) -> list[ir.Node]:
    """Nodes in the order in which `readers` need them.

    transformers makes what each kind of layer needs in the order of a set of names, which differs from run to run.
    """
    known = set(nodes)
    ordered: dict[ir.Node, None] = {}

    def place(node: ir.Node) -> None:
        for value in node.inputs:
            maker = value.producer() if value is not None else None
            if maker in known and maker not in ordered:
                place(maker)
        if node in known:
            ordered[node] = None

    for reader in readers:
        place(reader)
    return [*ordered, *(node for node in nodes if node not in ordered)]


def _are_same(
    cut: _Cut, one: int, other: int, outputs: Mapping[tuple[str, int | None], ir.Value], traced: Traced
) -> bool:
    """Whether two layers differ in their parameters' numbers alone, and return the same of themselves."""
    twins = {cut.edges[one]: cut.edges[other]}
    number = traced.numbers[other]
    for node, twin_node in zip_longest(cut.layers[one], cut.layers[other]):
        if node is None or twin_node is None or not _is_same_operation(node, twin_node):
            return False
        for value, twin in zip(node.inputs, twin_node.inputs, strict=True):
            if value is not None and value.producer() is None and traced.place(value.name) is not None:
                if twin is None or twin.name != traced.renamed(str(value.name), number):
                    return False
            elif twins.get(value, value) is not twin:
                return False
        twins |= dict(zip(node.outputs, twin_node.outputs, strict=True))
    return all(
        twins.get(value, value) is outputs.get((kind, other))
        for (kind, place), value in outputs.items()
        if place == one
    )


def _is_same_operation(one: ir.Node, other: ir.Node) -> bool:
    def facts(node: ir.Node) -> tuple[object, ...]:
        return node.op_identifier(), node.attributes, len(node.inputs), [_kind(value) for value in node.outputs]

    return facts(one) == facts(other)


def _kind(value: ir.Value) -> tuple[object, ...]:
    return value.dtype, value.shape


def _copy(node: ir.Node, number: int, copies: dict[ir.Value, ir.Value], graph: ir.Graph, traced: Traced) -> ir.Node:
    """A node for another layer; `copies` maps the values of the layer that is copied, and is added to."""
    inputs = [_counterpart(value, number, copies, graph, traced) for value in node.inputs]
    outputs = list(_like(node.outputs))
    copies |= dict(zip(node.outputs, outputs, strict=True))
    return ir.node(node.op_type, inputs, node.attributes, domain=node.domain, version=node.version, outputs=outputs)


def _counterpart(
    value: ir.Value | None, number: int, copies: dict[ir.Value, ir.Value], graph: ir.Graph, traced: Traced
) -> ir.Value | None:
    """What the copy of a node reads where the node reads `value`."""
    if value is None or value in copies:
        return value and copies[value]
    if value.producer() is not None or traced.place(value.name) is None:
        return value  # Shared by all layers: a mask, a constant.
    name = traced.renamed(str(value.name), number)
    if value.is_graph_input():
        return next(other for other in graph.inputs if other.name == name)
    if name not in graph.initializers:
        (parameter,) = _like([value])
        parameter.name = name
        graph.initializers[name] = parameter
    return graph.initializers[name]


def _take(graph: ir.Graph, examples: Sequence[int], traced: Traced) -> None:
    """Gives a graph the inputs of every layer, each as those of the layer that is copied."""
    of_place: dict[int | None, list[ir.Value]] = {}
    for value in graph.inputs:
        of_place.setdefault(traced.place(value.name), []).append(value)
    known = {str(value.name): value for value in graph.inputs}
    found = of_place.get(None, [])
    for number, place in enumerate(examples):
        for value in of_place.get(place, []):
            name = traced.renamed(str(value.name), number)
            if name not in known:
                (known[name],) = _like([value])
                known[name].name = name
            found.append(known[name])
    graph.inputs[:] = found


def _like(values: Iterable[ir.Value]) -> Iterable[ir.Value]:
    """New values of the same type and shape."""
    return (
        ir.Value(type=value.type, shape=value.shape.copy() if value.shape is not None else None) for value in values
    )
