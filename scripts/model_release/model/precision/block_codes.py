"""Weights stored as codes in blocks and computed in fp32: decoding is folded when a session is created."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from model_release.contract.blueprint import Parameter
from model_release.contract.measures import Array
from model_release.contract.metadata import ModelMetadata
from model_release.contract.precision import Precision
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.calibration import Calibration
from model_release.model.precision.codebook import Codebook
from model_release.model.precision.fold_passes import FoldPasses
from model_release.model.precision.fp16 import store_halved
from model_release.model.precision.gptq import encode_columns, encode_rows
from model_release.model.precision.graph_edits import Builder, BuilderAtStart, store

Encode = Callable[[Blocks, Array, Parameter], tuple[Array, Array]]
"""Blocks, values [rows, columns] of a parameter, and the parameter -> its codes and scales."""


def store_in_blocks(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored as codes in blocks, computed in fp32.

    Before: `w fp32`. After, where a code is a weight: `Cast(w.codes) x Cast(w.scales) -> Reshape -> w`;
    where it stands for several: `Gather(codebook, Cast(w.codes)) x Cast(w.scales) -> Reshape -> w`.
    Rows whose last block is padded end in a Slice. Codes wait for a pass of the optimizer, see `fold_passes`.
    """
    _store_weights(model, metadata, _encode_plainly)


def store_compensated(model: ir.Model, metadata: ModelMetadata, calibration: Calibration) -> None:
    """As `store_in_blocks`, with rounding errors compensated where products are taken."""

    def encode(blocks: Blocks, values: Array, parameter: Parameter) -> tuple[Array, Array]:
        if parameter.name not in calibration.inputs or not blocks.storage.is_codebook:
            # A table that is only looked up; experts; what loses next to nothing.
            return blocks.encode(values)
        if parameter.layout == "rows":
            return encode_rows(values, blocks, calibration.gram(parameter.name), looked_up=parameter.role == "tokens")
        return encode_columns(values, blocks, calibration.gram(parameter.name))

    _store_weights(model, metadata, encode)


def _store_weights(model: ir.Model, metadata: ModelMetadata, encode: Encode) -> None:
    precision = metadata.stored_precision
    parameters = metadata.blueprint.parameters.values()
    store_decoded(model, precision, [parameter for parameter in parameters if not parameter.is_vector], encode)
    if precision.vector_bits == 16:
        build = BuilderAtStart(model)
        for parameter in parameters:
            if parameter.is_vector:
                store_halved(model, build, parameter)


def _encode_plainly(blocks: Blocks, values: Array, _: Parameter) -> tuple[Array, Array]:
    """Each weight for itself."""
    return blocks.encode(values)


def store_decoded(
    model: ir.Model, precision: Precision, parameters: Sequence[Parameter], encode: Encode = _encode_plainly
) -> None:
    """Stores some parameters in blocks, decoded for whoever reads them."""
    build = BuilderAtStart(model)
    passes = FoldPasses(build, parameters)
    for parameter in parameters:
        blocks = Blocks(precision.storage(parameter), parameter.matrix, parameter.name)
        _store_blocks(model, build, passes, parameter, blocks, encode)


def _store_blocks(
    model: ir.Model, build: Builder, passes: FoldPasses, parameter: Parameter, blocks: Blocks, encode: Encode
) -> None:
    weight = model.graph.initializers[parameter.name]
    storage = blocks.storage

    def encode_parts(values: Array, _name: str) -> Mapping[str, Array]:
        codes, scales = encode(blocks, values.reshape(parameter.matrix), parameter)
        return {"codes": codes, "scales": scales.reshape(scales_shape)}

    scales_shape = (*blocks.shape[:2], *[1] * (2 if storage.is_codebook else 1))
    parts = {
        "codes": (ir.DataType.from_numpy(np.dtype(blocks.codes.dtype)), blocks.shape),
        "scales": (ir.DataType.FLOAT16, scales_shape),
    }
    codes, scales = store(model, weight, parts, encode_parts)
    codes = passes.wait(codes, parameter.name)
    if isinstance(blocks.codes, Codebook):
        book = build.constant(f"codebook_{storage.weights}", blocks.codes.points, np.float32)
        unscaled = build("Gather", book, build("Cast", codes, to=ir.DataType.INT32), axis=0)
    else:
        unscaled = build("Cast", codes, to=ir.DataType.FLOAT)
    scaled = build("Mul", unscaled, build("Cast", scales, to=ir.DataType.FLOAT))
    is_padded = blocks.count * blocks.size != blocks.columns
    if len(parameter.dims) == 2:
        join = build.constant("join_blocks", [0, -1], np.int64)
    else:
        join = build.constant(
            f"join_experts_{parameter.dims[0]}_{parameter.dims[1]}", [*parameter.dims[:2], -1], np.int64
        )
    if not is_padded:
        build("Reshape", scaled, join, output=weight)
        return
    start, last_axis = (
        build.constant("row_start", [0], np.int64),
        build.constant(
            f"row_axis{'' if len(parameter.dims) == 2 else '_experts'}", [len(parameter.dims) - 1], np.int64
        ),
    )
    end = build.constant(f"row_end_{blocks.columns}", [blocks.columns], np.int64)
    build("Slice", build("Reshape", scaled, join), start, end, last_axis, output=weight)
