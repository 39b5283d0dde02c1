"""What a graph may ask of the machine that runs it, judged before anything runs."""

import math
from collections.abc import Iterator
from pathlib import Path

import google.protobuf.message
import onnx

from model_release.base.errors import ContractError
from model_release.model.onnx_files.data_files import model_bytes
from model_release.model.onnx_files.file import read_outline

_SHARE = 128
"""Bytes of constants for a byte of the file: a code of three bits becomes eleven times as much, in a few steps."""

_ROOM_BYTES = 256 * 2**20
_ITEM_BYTES = 4


def check_limits(path: Path, *, name: str = "") -> None:
    """Refuses a graph that would run without end, or ask for memory out of proportion to its file.

    What depends on the input has no size here; it grows with what the contract asks for.

    Args:
        path: An ONNX file.
        name: What to call it in messages, if not by its own name.

    Raises:
        ContractError: It has loops, functions, or branches that do more than copy; or values whose sizes are known,
            and absurd.
    """
    called = name or path.name
    outline = read_outline(path)
    nested = [node.op_type for node in outline.graph.node if _does_more_than_copy(node)]
    if nested or outline.functions:
        raise ContractError(
            f"RUN01: {called} must be one plain graph to be run, got {(nested or ['functions'])[0][:40]!r}. "
            "Export it again."
        )
    try:
        inferred = onnx.shape_inference.infer_shapes(outline, data_prop=True)
    except (onnx.shape_inference.InferenceError, google.protobuf.message.Error, RuntimeError, ValueError):
        return  # GRAPH01 and onnxruntime, which refuses to load it, say so.
    asked_bytes = sum(_known_sizes(inferred.graph)) * _ITEM_BYTES
    allowed_bytes = _SHARE * model_bytes(path) + _ROOM_BYTES
    if asked_bytes > allowed_bytes:
        raise ContractError(
            f"RUN01: {called} must take at most {allowed_bytes / 1e6:.0f} MB for constants to be run, "
            f"its graph asks for {asked_bytes / 1e6:.0f} MB. Export it again."
        )


def _does_more_than_copy(node: onnx.NodeProto) -> bool:
    """Whether a node has graphs inside, other than branches of one copy, at which stored weights wait for a pass."""
    inner = [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs) if graph.ByteSize()]
    copies = [[each.op_type for each in graph.node] == ["Dropout"] for graph in inner]
    return bool(inner) and not (node.op_type == "If" and all(copies))


def _known_sizes(graph: onnx.GraphProto) -> Iterator[int]:
    """Elements of each value, as far as its sizes are numbers."""
    for value in graph.value_info:
        dims = value.type.tensor_type.shape.dim
        yield math.prod(dim.dim_value for dim in dims if dim.HasField("dim_value") and dim.dim_value >= 0)
