"""ONNX files read and written tensor by tensor, so that memory does not grow with the model.

`onnx.load` and `onnx.save` hold a model two or three times over. Here a file's large tensors stay
on disk: reading notes where their bytes are, writing streams them into place. The bytes follow
protobuf's wire format (https://protobuf.dev/programming-guides/encoding/) and the field numbers of
onnx.proto; everything but large `raw_data` goes through the onnx package's own classes.
"""

import math
import mmap
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import google.protobuf.message
import numpy as np
import onnx
import onnx_ir as ir

from model_release.base.errors import ContractError, ReleaseError
from model_release.base.files import open_file
from model_release.base.text import first_lines
from model_release.contract.manifest import data_file_name, is_data_file
from model_release.contract.measures import Array
from model_release.model.onnx_files.data_files import atomic_model
from model_release.model.onnx_files.wire import fields, tag, varint

MAX_FILE_BYTES = 2**31 - 1
"""Largest protobuf message that parsers accept; also below GitHub's limit for a release asset."""

_MAX_READ_BYTES = 2**31 - 1  # No larger file is an ONNX file, or data of one, that anyone can load.
_LARGE_BYTES = 1024  # Smaller tensors travel inside the graph.
_MOST_WAITING = 2  # Tensors that are encoded and not yet written: a weight's codes and scales.
_GRAPH_ROOM_BYTES = 64 * 2**20  # Kept free beside the tensors of a single file.

# Tensors of a data file: the page size lets runtimes map them (https://onnx.ai/onnx/repo-docs/ExternalData.html);
# smaller tensors than `_OUTSIDE_BYTES` stay in the model file, so that padding is next to nothing.
_PAGE_BYTES = 4096
_OUTSIDE_BYTES = 65_536

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9


def read_model(path: Path) -> ir.Model:
    """Reads a model whose large tensors are loaded from the file when asked for, one at a time.

    Args:
        path: An ONNX model, perhaps with data files (see `data_files.py`).

    Raises:
        ContractError: The file is missing, is no ONNX model, or keeps tensors in files that are not its own.
    """
    proto, places = _read_outline(path)
    try:
        return _with_stored_tensors(path, proto, places)
    except (KeyError, ValueError, TypeError, RuntimeError, OverflowError) as failure:
        raise ContractError(
            f"{path} must be a well-formed ONNX graph, got: {first_lines(failure)}. Export it again."
        ) from failure


def _with_stored_tensors(path: Path, proto: onnx.ModelProto, places: dict[str, "_Place"]) -> ir.Model:
    """The outline as a model whose large tensors read their bytes from their files."""
    lazy: dict[str, ir.LazyTensor] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            lazy[tensor.name] = _stored_tensor(_outside_place(path, tensor), tensor)
        elif tensor.name in places:
            lazy[tensor.name] = _stored_tensor(places[tensor.name], tensor)
            _mark_external(tensor)
        else:
            _require_whole(path, tensor)
    for graph in graphs(proto.graph):
        for node in graph.node:
            for attribute in node.attribute:
                for tensor in (attribute.t, *attribute.tensors):
                    if tensor.data_type or attribute.type == onnx.AttributeProto.TENSOR:
                        _require_whole(path, tensor)
    model = ir.from_proto(proto)
    for name, stored in lazy.items():
        model.graph.initializers[name].const_value = stored
    return model


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.ByteSize():
                    yield from graphs(inner)


def _require_whole(path: Path, tensor: onnx.TensorProto) -> None:
    """Refuses a small tensor whose values are not as many as its shape says, or not in the file.

    Raises:
        ContractError: It is in another file.
        ValueError, TypeError, KeyError: It has other values than its type and shape say.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ContractError(
            f"{path} must hold its constants itself, {tensor.name[:80]!r} is elsewhere. Export it again."
        )
    if any(dim < 0 for dim in tensor.dims):
        raise ValueError(f"{tensor.name[:80]!r} has a negative size")
    onnx.numpy_helper.to_array(tensor)


def read_outline(path: Path) -> onnx.ModelProto:
    """A file's graph, in which large tensors have a type and a shape and no values.

    Raises:
        ContractError: The file is missing or no ONNX model.
    """
    proto, places = _read_outline(path)
    for index in reversed(range(len(proto.graph.initializer))):
        tensor = proto.graph.initializer[index]
        if tensor.name in places or tensor.data_location == onnx.TensorProto.EXTERNAL:
            # To the checker a tensor without its values is an input: it has a name, a type and a shape.
            proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
            del proto.graph.initializer[index]
    return proto


def write_model(model: ir.Model, path: Path, *, error: type[ReleaseError]) -> None:
    """Writes a model, whole or not at all; large tensors are streamed one by one.

    What fits into one file becomes one file. Of a larger model the large tensors go into data files
    (see `data_files.py`). Equal models give equal bytes: tensors are written in the order of the
    graph's initializers, and nothing depends on time or place.

    Raises:
        ReleaseError: `error`, when a file cannot be written, or a single tensor would pass `MAX_FILE_BYTES`.
    """
    large = {
        name: value.const_value
        for name, value in model.graph.initializers.items()
        if isinstance(value.const_value, ir.LazyTensor)
        or (value.const_value is not None and value.const_value.nbytes > _LARGE_BYTES)
    }
    outside = _places_outside(large, path.name, error)
    try:
        for name, tensor in large.items():
            # Serializing must not load the values; a marker stands in for them.
            place = outside.get(name)
            location, offset = (place.path.name, place.offset) if place else ("-", 0)
            model.graph.initializers[name].const_value = ir.ExternalTensor(
                location, offset, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
        proto: onnx.ModelProto = ir.to_proto(model)
    except ir.serde.SerdeError as failure:
        raise error(
            f"{path.name} must be a well-formed graph, got: {first_lines(failure)}. Export it again."
        ) from failure
    finally:
        for name, tensor in large.items():
            model.graph.initializers[name].const_value = tensor
    inside = {name: tensor for name, tensor in large.items() if name not in outside}
    entries = [_Entry.of(tensor, inside) for tensor in proto.graph.initializer]
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    head = proto.SerializeToString(deterministic=True)
    graph_bytes = len(graph) + sum(entry.size_bytes for entry in entries)
    if len(head) + graph_bytes + 16 > MAX_FILE_BYTES:
        raise _too_large(path.name, graph_bytes, error)
    with atomic_model(path, error=error) as temporary:
        for name, place in outside.items():
            with temporary.with_name(place.path.name).open("ab") as file:
                file.truncate(place.offset)  # Zeros up to the page.
                _write_values(large[name], file)
        with temporary.open("wb") as file:
            _write_each(head + tag(_MODEL_GRAPH) + varint(graph_bytes) + graph, entries, file)


def _places_outside(large: dict[str, ir.TensorProtocol], model: str, error: type[ReleaseError]) -> dict[str, "_Place"]:
    """Where in data files the tensors go that one file cannot hold; nothing, if it can hold all."""
    if sum(tensor.nbytes for tensor in large.values()) + _GRAPH_ROOM_BYTES <= MAX_FILE_BYTES:
        return {}
    places: dict[str, _Place] = {}
    number, end = 0, 0
    for name, tensor in large.items():
        if tensor.nbytes < _OUTSIDE_BYTES:
            continue
        if tensor.nbytes > MAX_FILE_BYTES:
            raise _too_large(name, tensor.nbytes, error)
        offset = -(-end // _PAGE_BYTES) * _PAGE_BYTES
        if offset + tensor.nbytes > MAX_FILE_BYTES:
            number, offset = number + 1, 0
        places[name] = _Place(path=Path(data_file_name(model, number)), offset=offset, length=tensor.nbytes)
        end = offset + tensor.nbytes
    return places


def _too_large(name: str, size_bytes: int, error: type[ReleaseError]) -> ReleaseError:
    return error(
        f"{name} must be smaller than 2 GiB (the limit of an ONNX file and of a release asset), "
        f"got {size_bytes / 1e6:.0f} MB. Choose a smaller precision or a smaller model."
    )


def checker_problem(path: Path) -> str:
    """What the ONNX checker says against a file, or nothing; large tensors' values are not looked at.

    Raises:
        ContractError: The file is missing or no ONNX model.
    """
    proto = read_outline(path)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as failure:
        return first_lines(failure)
    return ""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An initializer as it stands in the graph message: its header, then perhaps streamed data."""

    header: bytes
    data: ir.TensorProtocol | None
    size_bytes: int

    @classmethod
    def of(cls, proto: onnx.TensorProto, large: dict[str, ir.TensorProtocol]) -> "_Entry":
        data = large.get(proto.name)
        data_bytes = 0
        if data is not None:
            proto.ClearField("external_data")
            proto.ClearField("data_location")
            data_bytes = data.nbytes
        values = proto.SerializeToString(deterministic=True)
        if data is not None:
            values += tag(_TENSOR_RAW_DATA) + varint(data_bytes)
        header = tag(_GRAPH_INITIALIZER) + varint(len(values) + data_bytes) + values
        return cls(header=header, data=data, size_bytes=len(header) + data_bytes)

    def write(self, values: ir.TensorProtocol | None, file: BinaryIO) -> None:
        file.write(self.header)
        if values is not None:
            _write_values(values, file)


def _write_each(head: bytes, entries: list[_Entry], file: BinaryIO) -> None:
    """Writes what stands before the entries, then these, one after another, while the next one's values are encoded."""
    with ThreadPoolExecutor(1) as writer:
        waiting: deque[Future[object]] = deque([writer.submit(file.write, head)])
        for entry in entries:
            values = entry.data.raw() if isinstance(entry.data, ir.LazyTensor) else entry.data
            waiting.append(writer.submit(entry.write, values, file))
            if len(waiting) > _MOST_WAITING:
                waiting.popleft().result()
        for written in waiting:
            written.result()


def _write_values(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    """Appends a tensor's bytes to a file."""
    file.flush()  # `tofile` may write past Python's buffer.
    start = file.seek(0, os.SEEK_END)
    cast(ir.LazyTensor, tensor).tofile(file)
    written = file.seek(0, os.SEEK_END) - start
    if written != tensor.nbytes:
        raise OSError(f"tensor {tensor.name} gave {written} bytes in place of {tensor.nbytes}")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a tensor's bytes are: `length` of them at `offset` of a file."""

    path: Path
    offset: int
    length: int


def _read_outline(path: Path) -> tuple[onnx.ModelProto, dict[str, _Place]]:
    """A file's graph, and the places of the large tensors' bytes left out of it."""
    try:
        with (
            open_file(path, limit_bytes=_MAX_READ_BYTES) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            outline, inside = _outline(content)
        proto = onnx.ModelProto.FromString(outline)
    except FileNotFoundError as failure:
        raise ContractError(f"{path} must exist, got no such file. Export it first, or correct the path.") from failure
    except (OSError, ValueError, google.protobuf.message.DecodeError) as failure:
        raise ContractError(f"{path} must be an ONNX file, got: {first_lines(failure)}. Export it again.") from failure
    if not proto.graph.node:
        raise ContractError(f"{path} must be an ONNX file with a graph, got none. Export it again.")
    return proto, {name: _Place(path=path, offset=offset, length=length) for name, (offset, length) in inside.items()}


def _outside_place(path: Path, tensor: onnx.TensorProto) -> _Place:
    """Where in the model file's own data files a tensor is. The file's text is not trusted.

    Raises:
        ContractError: It names another file, a place beyond its end, or a file that is missing.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not is_data_file(location, path.name):
        raise ContractError(
            f"{path} must hold its tensors itself or in {data_file_name(path.name, 0)}, "
            f"{tensor.name[:80]!r} points at another file, {location[:80]!r}. Give the file its old name, "
            f"or export it again."
        )
    data = path.with_name(location)
    try:
        place = _Place(path=data, offset=int(entries.get("offset", "0")), length=int(entries["length"]))
        with open_file(data, limit_bytes=_MAX_READ_BYTES) as file:
            size_bytes = os.fstat(file.fileno()).st_size
    except (OSError, ValueError, KeyError) as failure:
        raise ContractError(
            f"{data} must hold {tensor.name[:80]!r}, got: {first_lines(failure)}. "
            "Fetch it with the model, or export again."
        ) from failure
    if not 0 <= place.offset <= place.offset + place.length <= size_bytes:
        raise ContractError(
            f"{data} must be whole, {tensor.name[:80]!r} ends behind its end. Fetch it again, or export again."
        )
    return place


def _stored_tensor(place: _Place, tensor: onnx.TensorProto) -> ir.LazyTensor:
    """A tensor whose bytes are at a place."""
    path, length = place.path, place.length
    dtype = ir.DataType(tensor.data_type)
    shape = ir.Shape(tuple(tensor.dims))
    elements = math.prod(tensor.dims)  # A number without end: sizes may lie.
    if any(dim < 0 for dim in tensor.dims) or length != -(-elements * dtype.bitwidth // 8):
        raise ContractError(
            f"{path} must hold whole tensors, {tensor.name[:80]!r} has {length} bytes for {elements} elements. "
            f"Export it again."
        )

    def load() -> ir.TensorProtocol:
        with open_file(path, limit_bytes=_MAX_READ_BYTES) as file:
            mapped = np.memmap(file, mode="r", dtype=np.uint8, offset=place.offset, shape=(length,))
        raw: Array = mapped.view(np.ndarray)
        if dtype.bitwidth < 8:
            return ir.PackedTensor(raw, dtype, shape=shape, name=tensor.name)
        return ir.Tensor(
            raw.view(dtype.numpy().newbyteorder("<")).reshape(tuple(tensor.dims)), dtype=dtype, name=tensor.name
        )

    return ir.LazyTensor(load, dtype=dtype, shape=shape, name=tensor.name)


def _mark_external(tensor: onnx.TensorProto) -> None:
    """Makes a tensor without data acceptable to the parser; its values are attached afterwards."""
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "-"


def _outline(content: mmap.mmap) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The model without its large raw data, and where in the file that data is.

    Raises:
        ValueError: The bytes are no protobuf message.
    """
    places: dict[str, tuple[int, int]] = {}
    model, graph = bytearray(), bytearray()
    for number, start, body, end in fields(content, 0, len(content)):
        if number != _MODEL_GRAPH:
            model += content[start:end]
            continue
        for inner, inner_start, inner_body, inner_end in fields(content, body, end):
            if inner != _GRAPH_INITIALIZER or inner_end - inner_body <= _LARGE_BYTES:
                graph += content[inner_start:inner_end]
                continue
            tensor, place = bytearray(), None
            for field, field_start, field_body, field_end in fields(content, inner_body, inner_end):
                if field == _TENSOR_RAW_DATA:
                    place = (field_body, field_end - field_body)
                else:
                    tensor += content[field_start:field_end]
            if place is not None:
                places[onnx.TensorProto.FromString(bytes(tensor)).name] = place
            graph += tag(_GRAPH_INITIALIZER) + varint(len(tensor)) + tensor
    return bytes(model + tag(_MODEL_GRAPH) + varint(len(graph)) + graph), places
