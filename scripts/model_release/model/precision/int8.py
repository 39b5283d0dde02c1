"""Weights stored as int8 and multiplied as integers."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from model_release.contract.blueprint import Parameter
from model_release.contract.metadata import ModelMetadata
from model_release.contract.output_checks import Array
from model_release.model.precision.calibration import Calibration
from model_release.model.precision.graph_edits import Builder, BuilderAtStart, require_finite, store

_WEIGHT_LEVELS = 64
"""int8-dynamic keeps weights in [-64, 64]. On x64 without VNNI, u8 x s8 products are added in pairs in
16 bits and saturate: 2 x 255 x 127 does not fit, 2 x 255 x 64 does. onnxruntime's own quantizer calls
this `reduce_range`."""
_ACTIVATION_LEVELS = 127
_ACTIVATION_ZERO = 128
_U8_MAX = 255
_SMALLEST_SCALE = 1e-30  # Keeps a row of zeros from dividing by zero.


def store_int8_dynamic(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored as int8 with a scale a channel; products computed in integers.

    Activations are quantized to u8 at run time with a scale for each token, not one for the whole
    tensor: so a token's numbers depend neither on later tokens nor on the batch's other rows, and an
    outlier at one position costs the others nothing.

    Before: `x @ w`. After: `(u8(x / s_x) @ w.int8) x s_x x w.scale`.
    Before: `Gather(table, ids)`. After: `Cast(Gather(table.int8, ids)) x Gather(table.scale, ids)`.
    """
    _store_int8(model, metadata, lambda product, _, stored, scale: _multiply_integers(model, product, stored, scale))


def store_int8_static(model: ir.Model, metadata: ModelMetadata, calibration: Calibration) -> None:
    """Matrices and tables stored as int8 with a scale a channel, and products in the form that runtimes know as QDQ.

    Activations are quantized to u8 with one scale for all of a matrix's inputs, from the range they have on
    calibration text; what lies beyond is clipped.

    Before: `x @ w`. After: `DequantizeLinear(QuantizeLinear(x / step)) @ DequantizeLinear(w.int8)`.
    Before: `Gather(table, ids)`. After: `Cast(Gather(table.int8, ids)) x Gather(table.scale, ids)`.
    """

    def multiply(product: ir.Node, name: str, stored: ir.Value, scale: ir.Value) -> None:
        _multiply_quantized(model, product, name, stored, scale, calibration.range(name))

    _store_int8(model, metadata, multiply)


Multiply = Callable[[ir.Node, str, ir.Value, ir.Value], None]
"""Replaces a product with a parameter of that name by one with its stored values [in, out] and scale."""


def _store_int8(model: ir.Model, metadata: ModelMetadata, multiply: Multiply) -> None:
    build = BuilderAtStart(model)
    for parameter in metadata.blueprint.parameters.values():
        if parameter.is_vector:
            continue
        weight, name = model.graph.initializers[parameter.name], parameter.name
        scale_shape = _scale_shape(parameter)
        parts = {"int8": (ir.DataType.INT8, parameter.dims), "scale": (ir.DataType.FLOAT, scale_shape)}
        stored, scale = store(model, weight, parts, _to_int8(parameter.input_axis, scale_shape))
        if len(parameter.dims) == 2:  # Products with experts are taken in float32.
            for node, _ in list(weight.uses()):
                if node.op_type == "Gather":
                    _gather_decoded(model, node, stored, scale)
                elif node.op_type == "Transpose":
                    products, turned, turned_scale = _transposed(model, node, stored, scale)
                    for product in products:
                        multiply(product, name, turned, turned_scale)
                    if not node.outputs[0].uses():
                        model.graph.remove(node, safe=True)
                elif node.op_type == "Gemm":  # With a tied table; products in integers cannot turn it themselves.
                    build_here = Builder(model, node)
                    turned, turned_scale = (build_here("Transpose", value, perm=[1, 0]) for value in (stored, scale))
                    multiply(node, name, turned, turned_scale)
                elif node.op_type == "MatMul":
                    multiply(node, name, stored, scale)
        if weight.uses():  # Read for something else than a product with tokens.
            build("Mul", build("Cast", stored, to=ir.DataType.FLOAT), scale, output=weight)


def _scale_shape(parameter: Parameter) -> tuple[int, ...]:
    """One scale a channel, so that scales and values can be multiplied."""
    if parameter.layout == "columns":
        return parameter.dims[1:]
    kept = list(parameter.dims)
    kept[parameter.input_axis] = 1
    return tuple(kept)


def _to_int8(axis: int, scale_shape: tuple[int, ...]) -> Callable[[Array, str], Mapping[str, Array]]:
    """Encodes a matrix with one scale a channel, so that its largest value becomes `_WEIGHT_LEVELS`."""

    def encode(values: Array, name: str) -> Mapping[str, Array]:
        require_finite(values, name, "int8")
        largest = np.abs(values).max(axis=axis, keepdims=True)
        scale = np.maximum(largest / np.float32(_WEIGHT_LEVELS), np.float32(_SMALLEST_SCALE)).astype(np.float32)
        return {"int8": np.rint(values / scale).astype(np.int8), "scale": scale.reshape(scale_shape)}

    return encode


def _gather_decoded(model: ir.Model, gather: ir.Node, stored: ir.Value, scale: ir.Value) -> None:
    """Looks rows up as int8, then decodes the few that were asked for."""
    build = Builder(model, gather)
    ids = gather.inputs[1]
    rows = build("Cast", build("Gather", stored, ids, axis=0), to=ir.DataType.FLOAT)
    build.replace(build("Mul", rows, build("Gather", scale, ids, axis=0)))


def _transposed(
    model: ir.Model, transpose: ir.Node, stored: ir.Value, scale: ir.Value
) -> tuple[list[ir.Node], ir.Value, ir.Value]:
    """A matrix [out, in] is read transposed: so are the stored values, and their scales become a row."""
    build = Builder(model, transpose)
    turned = build("Transpose", stored, perm=[1, 0])
    turned_scale = build("Transpose", scale, perm=[1, 0])
    return [node for node, _ in transpose.outputs[0].uses() if node.op_type == "MatMul"], turned, turned_scale


def _multiply_integers(model: ir.Model, product: ir.Node, stored: ir.Value, scale: ir.Value) -> None:
    """Replaces `x @ w` by a u8 x s8 product with a scale for each token of x."""
    build = Builder(model, product)
    x = product.inputs[0]
    largest = build(
        "ReduceMax", build("Abs", x), build.constant("axes_last", [-1], np.int64), keepdims=1
    )  # [batch, seq, 1]
    token_scale = build(
        "Max",
        build("Mul", largest, build.constant("per_level", 1 / _ACTIVATION_LEVELS, np.float32)),
        build.constant("smallest_scale", _SMALLEST_SCALE, np.float32),
    )
    levels = build(
        "Add", build("Round", build("Div", x, token_scale)), build.constant("zero_level", _ACTIVATION_ZERO, np.float32)
    )
    sums = build(
        "MatMulInteger",
        build("Cast", levels, to=ir.DataType.UINT8),
        stored,
        build.constant("zero_point", _ACTIVATION_ZERO, np.uint8),
    )
    scaled = build("Mul", build("Cast", sums, to=ir.DataType.FLOAT), token_scale)
    build.replace(build("Mul", scaled, scale))


def _steady(value: float) -> float:
    """A measured value to 8 bits, away from 0: its last digits differ from machine to machine."""
    mantissa, exponent = math.frexp(value)
    return math.copysign(math.ldexp(math.ceil(abs(mantissa) * 256) / 256, exponent), value)


def _multiply_quantized(
    model: ir.Model, product: ir.Node, name: str, stored: ir.Value, scale: ir.Value, limits: tuple[float, float]
) -> None:
    """Replaces `x @ w` by a product of quantized values, with the scale that `limits` of x ask for."""
    build = Builder(model, product)
    low, high = (_steady(limit) for limit in limits)
    step = max(_steady((high - low) / _U8_MAX), _SMALLEST_SCALE)
    # Dividing by the step first keeps onnxruntime from moving QuantizeLinear up, past what is an output of the model.
    levels = build("Mul", product.inputs[0], build.constant(f"{name}.per_step", 1 / step, np.float32))
    unit = build.constant("unit_scale", 1, np.float32)
    zero = build.constant(f"{name}.zero", round(-low / step), np.uint8)
    x = build("DequantizeLinear", build("QuantizeLinear", levels, unit, zero), unit, zero)
    channels = build("Reshape", scale, build.constant("one_axis", [-1], np.int64))
    channels = build("Mul", channels, build.constant(f"{name}.step", step, np.float32))
    build.replace(build("MatMul", x, build("DequantizeLinear", stored, channels, axis=1)))
