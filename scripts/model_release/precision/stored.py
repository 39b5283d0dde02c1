"""Precisions that are stored small and computed in fp32: decoding is folded when a session is created."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from model_release.checks import Array
from model_release.contract import load_contract
from model_release.errors import QuantizeError
from model_release.metadata import ModelMetadata
from model_release.precision.blocks import Blocks
from model_release.precision.codebook import Codebook
from model_release.precision.editing import Builder, store
from model_release.storage import Storage

_FP16_MAX = 65504.0


def store_fp16(model: ir.Model, metadata: ModelMetadata) -> None:
    """Parameters stored as fp16, computed in fp32.

    Before: `w fp32`. After: `w.fp16 -> Cast -> w`.
    """
    build = Builder(model, model.graph[0])
    for name, dims in metadata.shape.parameters().items():
        _store_halved(model, build, name, dims)


def store_in_blocks(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored as codes in blocks, computed in fp32.

    Before: `w fp32`. After, where a code is a weight: `Cast(w.codes) x Cast(w.scales) -> Reshape -> w`;
    where it stands for several: `Gather(codebook, Cast(w.codes)) -> Reshape -> x Cast(w.scales) -> Reshape -> w`.
    Rows whose last block is padded end in a Slice.
    """
    precision = load_contract().precision(metadata.precision)
    build = Builder(model, model.graph[0])
    for name, dims in metadata.shape.parameters().items():
        if len(dims) == 2:
            _store_blocks(model, build, name, dims, precision.storage(name))
        elif precision.vector_bits == 16:
            _store_halved(model, build, name, dims)


def _store_halved(model: ir.Model, build: Builder, name: str, dims: tuple[int, ...]) -> None:
    weight = model.graph.initializers[name]
    (stored,) = store(model, weight, {"fp16": (ir.DataType.FLOAT16, dims)}, _to_fp16)
    build("Cast", stored, to=ir.DataType.FLOAT, output=weight)


def _to_fp16(values: Array, name: str) -> Mapping[str, Array]:
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _FP16_MAX:
        raise QuantizeError(
            f"{name} must lie within ±{_FP16_MAX:.0f} to be stored as fp16, got {largest:g}. Choose another precision."
        )
    return {"fp16": values.astype(np.float16)}


def _store_blocks(model: ir.Model, build: Builder, name: str, dims: tuple[int, ...], storage: Storage) -> None:
    weight = model.graph.initializers[name]
    rows, columns = dims
    blocks = Blocks(storage, columns, name)

    def encode(values: Array, _: str) -> Mapping[str, Array]:
        return dict(zip(("codes", "scales"), blocks.encode(values), strict=True))

    dtype = ir.DataType.UINT8 if storage.is_codebook else ir.DataType.INT8
    shape = (rows, blocks.count, blocks.size // storage.weights)
    codes, scales = store(
        model,
        weight,
        {"codes": (dtype, shape), "scales": (ir.DataType.FLOAT16, (rows, blocks.count, 1))},
        encode,
    )
    if isinstance(blocks.codes, Codebook):
        book = build.constant(f"codebook_{storage.weights}", blocks.codes.points, np.float32)
        groups = build("Gather", book, build("Cast", codes, to=ir.DataType.INT32), axis=0)
        unscaled = build("Reshape", groups, build.constant("join_codes", [0, 0, -1], np.int64))
    else:
        unscaled = build("Cast", codes, to=ir.DataType.FLOAT)
    scaled = build("Mul", unscaled, build("Cast", scales, to=ir.DataType.FLOAT))
    join = build.constant("join_blocks", [0, -1], np.int64)
    if blocks.count * blocks.size == columns:
        build("Reshape", scaled, join, output=weight)
        return
    start, last_axis = build.constant("row_start", [0], np.int64), build.constant("row_axis", [1], np.int64)
    end = build.constant(f"row_end_{columns}", [columns], np.int64)
    build("Slice", build("Reshape", scaled, join), start, end, last_axis, output=weight)
