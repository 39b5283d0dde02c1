"""Names and metadata of a graph that was changed."""

from collections.abc import Collection, Iterator

import onnx_ir as ir

from model_release.contract.metadata import ModelMetadata


def name_nodes(model: ir.Model, keep: Collection[str] = ()) -> None:
    """Names nodes by their place in the graph, and what they return after them, but for names to keep."""
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{index}"
        for number, value in enumerate(node.outputs):
            if value.name not in keep:
                value.name = node.name if len(node.outputs) == 1 else f"{node.name}_{number}"


def values_of(model: ir.Model) -> Iterator[ir.Value]:
    """What a graph is given and what its nodes return, in its order; not what it holds."""
    yield from model.graph.inputs
    for node in model.graph:
        yield from node.outputs


def set_metadata(model: ir.Model, metadata: ModelMetadata) -> None:
    """Writes our metadata in place of all other."""
    model.metadata_props.clear()
    model.metadata_props.update(metadata.to_props())
