"""Weights stored as codes in blocks and computed in fp32: decoding is folded when a session is created."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from model_release.contract.activations import load_contract
from model_release.contract.metadata import ModelMetadata
from model_release.contract.output_checks import Array
from model_release.contract.shape import EMBEDDING, is_table
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.calibration import Calibration
from model_release.model.precision.codebook import Codebook
from model_release.model.precision.fp16 import store_halved
from model_release.model.precision.gptq import encode_matrix, encode_table
from model_release.model.precision.graph_edits import Builder, store

Encode = Callable[[Blocks, Array, str], tuple[Array, Array]]
"""Blocks, values and name of a parameter -> its codes and scales."""


def store_in_blocks(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored as codes in blocks, computed in fp32.

    Before: `w fp32`. After, where a code is a weight: `Cast(w.codes) x Cast(w.scales) -> Reshape -> w`;
    where it stands for several: `Gather(codebook, Cast(w.codes)) x Cast(w.scales) -> Reshape -> w`.
    Rows whose last block is padded end in a Slice.
    """
    _store_weights(model, metadata, lambda blocks, values, _: blocks.encode(values))


def store_compensated(model: ir.Model, metadata: ModelMetadata, calibration: Calibration) -> None:
    """As `store_in_blocks`, with rounding errors compensated where products are taken."""

    def encode(blocks: Blocks, values: Array, name: str) -> tuple[Array, Array]:
        if name not in calibration.inputs:  # A table that is only looked up.
            return blocks.encode(values)
        if is_table(name):
            return encode_table(values, blocks, calibration.gram(name), looked_up=name == EMBEDDING)
        return encode_matrix(values, blocks, calibration.gram(name))

    _store_weights(model, metadata, encode)


def _store_weights(model: ir.Model, metadata: ModelMetadata, encode: Encode) -> None:
    precision = load_contract().precision(metadata.precision)
    build = Builder(model, model.graph[0])
    for name, dims in metadata.shape.parameters().items():
        if len(dims) == 2:
            _store_blocks(model, build, name, Blocks(precision.storage(name), dims, name), encode)
        elif precision.vector_bits == 16:
            store_halved(model, build, name, dims)


def _store_blocks(model: ir.Model, build: Builder, name: str, blocks: Blocks, encode: Encode) -> None:
    weight = model.graph.initializers[name]
    storage = blocks.storage

    def encode_parts(values: Array, name: str) -> Mapping[str, Array]:
        codes, scales = encode(blocks, values, name)
        return {"codes": codes, "scales": scales.reshape(scales_shape)}

    dtype = ir.DataType.UINT8 if storage.is_codebook else ir.DataType.INT8
    scales_shape = (*blocks.shape[:2], *[1] * (2 if storage.is_codebook else 1))
    parts = {
        "codes": (dtype, blocks.shape),
        "scales": (ir.DataType.FLOAT16, scales_shape),
    }
    codes, scales = store(model, weight, parts, encode_parts)
    if isinstance(blocks.codes, Codebook):
        book = build.constant(f"codebook_{storage.weights}", blocks.codes.points, np.float32)
        unscaled = build("Gather", book, build("Cast", codes, to=ir.DataType.INT32), axis=0)
    else:
        unscaled = build("Cast", codes, to=ir.DataType.FLOAT)
    scaled = build("Mul", unscaled, build("Cast", scales, to=ir.DataType.FLOAT))
    join = build.constant("join_blocks", [0, -1], np.int64)
    if blocks.count * blocks.size == blocks.columns:
        build("Reshape", scaled, join, output=weight)
        return
    start, last_axis = build.constant("row_start", [0], np.int64), build.constant("row_axis", [1], np.int64)
    end = build.constant(f"row_end_{blocks.columns}", [blocks.columns], np.int64)
    build("Slice", build("Reshape", scaled, join), start, end, last_axis, output=weight)
