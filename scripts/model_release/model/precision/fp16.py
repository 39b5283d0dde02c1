"""Weights stored as fp16, computed in fp32 or in fp16."""

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
import onnx_ir as ir

from model_release.base.errors import QuantizeError
from model_release.contract.blueprint import Parameter
from model_release.contract.measures import Array
from model_release.contract.metadata import ModelMetadata
from model_release.model.precision.chunks import in_chunks
from model_release.model.precision.graph_edits import (
    Builder,
    BuilderAtStart,
    replace_readers,
    require_finite,
    store,
)

_FP16_MAX = 65504.0
_FP16_MAX_BITS = 0x7BFF


def store_fp16(model: ir.Model, metadata: ModelMetadata) -> None:
    """Parameters stored as fp16, computed in fp32.

    Before: `w fp32`. After: `w.fp16 -> Cast -> w`, folded when a session is created.
    """
    build = BuilderAtStart(model)
    for parameter in metadata.blueprint.parameters.values():
        store_halved(model, build, parameter)


def store_fp16_compute(model: ir.Model, metadata: ModelMetadata) -> None:
    """Parameters stored as fp16; products with matrices taken in fp16, everything around them in fp32.

    The residual stream, norms and softmax need fp32's range and their cost is small; products have neither trait.
    A runtime without fp16 products computes them in fp32.

    Before: `x @ w`. After: `Cast(Cast(x) @ w.fp16)`; so for a Gemm with a tied table.
    Before: `Gather(table, ids)`. After: `Cast(Gather(table.fp16, ids))`.
    """
    build = BuilderAtStart(model)
    for parameter in metadata.blueprint.parameters.values():
        if parameter.is_vector:
            store_halved(model, build, parameter)
            continue
        weight = model.graph.initializers[parameter.name]
        (stored,) = store(model, weight, {"fp16": (ir.DataType.FLOAT16, parameter.dims)}, _to_fp16)
        _read_halves(model, weight, stored)
        if weight.uses():  # Read for something else than a product with tokens.
            build("Cast", stored, to=ir.DataType.FLOAT, output=weight)


def store_halved(model: ir.Model, build: Builder, parameter: Parameter) -> None:
    """Stores one parameter as fp16, and casts it back.

    Raises:
        QuantizeError: A value is not finite, or larger than fp16 can hold.
    """
    weight = model.graph.initializers[parameter.name]
    (stored,) = store(model, weight, {"fp16": (ir.DataType.FLOAT16, parameter.dims)}, _to_fp16)
    build("Cast", stored, to=ir.DataType.FLOAT, output=weight)


def _read_halves(model: ir.Model, weight: ir.Value, stored: ir.Value) -> None:
    """Lets products and lookups take what is stored."""

    @cache
    def turned(transpose: ir.Node) -> ir.Value:
        axes = list(transpose.attributes.get_ints("perm", [1, 0]))
        return Builder(model, transpose)("Transpose", stored, perm=axes)

    def multiply(product: ir.Node, transpose: ir.Node | None) -> None:
        _multiply_halves(model, product, stored if transpose is None else turned(transpose))

    def look_up(gather: ir.Node) -> None:
        build = Builder(model, gather)
        rows = build("Gather", stored, gather.inputs[1], axis=0)
        build.replace(build("Cast", rows, to=ir.DataType.FLOAT))

    replace_readers(model, weight, look_up=look_up, multiply=multiply)


def _multiply_halves(model: ir.Model, product: ir.Node, stored: ir.Value) -> None:
    build = Builder(model, product)
    x = build("Cast", product.inputs[0], to=ir.DataType.FLOAT16)
    halves = build("Gemm", x, stored, transB=1) if product.op_type == "Gemm" else build("MatMul", x, stored)
    build.replace(build("Cast", halves, to=ir.DataType.FLOAT))


def _to_fp16(values: Array, name: str) -> Mapping[str, Array]:
    halved = np.empty(values.shape, dtype=np.float16)

    def halve(chunk: slice) -> bool:
        """Whether the chunk's numbers are finite and not the largest: as bits, without the sign, in one pass."""
        with np.errstate(over="ignore", invalid="ignore"):
            halved[chunk] = values[chunk]
        bits = halved[chunk].view(np.uint16) & 0x7FFF
        return bool(bits.max(initial=0) < _FP16_MAX_BITS)

    if not all(in_chunks(halve, len(values), math.prod(values.shape[1:]))):
        require_finite(values, name, "fp16")
        largest = float(np.abs(values).max())
        if largest > _FP16_MAX:
            raise QuantizeError(
                f"{name} must lie within ±{_FP16_MAX:.0f} to be stored as fp16, got {largest:g}. "
                "Choose another precision."
            )
    return {"fp16": halved}
