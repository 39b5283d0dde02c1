"""Weights stored as int8 and multiplied as integers."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import onnx_ir as ir

from model_release.contract.blueprint import Blueprint, Parameter
from model_release.contract.measures import Array
from model_release.contract.metadata import ModelMetadata
from model_release.model.precision.calibration import Calibration
from model_release.model.precision.graph_edits import (
    Builder,
    BuilderAtStart,
    replace_readers,
    require_finite,
    store,
)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """How a product is taken in whole numbers.

    On x64 without VNNI, u8 x s8 products are added in pairs in 16 bits and saturate: 2 x 255 x 127 does not fit,
    2 x 255 x 64 does, and so does 2 x 127 x 127. onnxruntime's own quantizer calls this `reduce_range`.

    Attributes:
        weight: Weights become -weight … weight.
        activation: Activations become -activation … activation.
        shifted: Whether a token's range is from its smallest value to its largest; else 0 is in its middle.
        twice: Whether what is lost of the activations is multiplied as well, in steps 2 x activation times as fine.
        lift: See `_Lifts`.
    """

    weight: int
    activation: int
    shifted: bool = False
    twice: bool = False
    lift: int = 0

    @property
    def suffix(self) -> str:
        """Of the names of its constants, which products of one way share."""
        return "_twice" if self.twice else ""


_PLAIN = _Way(weight=64, activation=127)
_SHIFTED = _Way(weight=64, activation=127, shifted=True)
_TWICE = _Way(weight=127, activation=63, twice=True)
_U8_MAX = 255
_GPT2_MATRICES = 4  # Of a layer: no two of them multiply the same x.
_SMALLEST_SCALE = 1e-30  # Keeps a row of zeros from dividing by zero.


def store_int8_dynamic(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored as int8 with a scale a channel; products computed in integers.

    Activations are quantized to u8 at run time with a scale for each token, not one for the whole
    tensor: so a token's numbers depend neither on later tokens nor on the batch's other rows, and an
    outlier at one position costs the others nothing.

    Before: `x @ w`. After: `(u8(x / s_x) @ w.int8) x s_x x w.scale`.
    Before: `Gather(table, ids)`. After: `Cast(Gather(table.int8, ids)) x Gather(table.scale, ids)`.
    """
    ways, lifts = _ways(metadata.blueprint), _Lifts(metadata.blueprint)

    def multiply(product: ir.Node, parameter: Parameter, stored: ir.Value, scale: ir.Value) -> None:
        way = replace(ways.get(parameter.name, _PLAIN), lift=lifts.next(product))
        _multiply_integers(model, product, stored, scale, way, parameter.inputs)

    _store_int8(model, metadata, multiply, lambda name: ways.get(name, _PLAIN).weight)


class _Lifts:
    """How many axes of length 1 stand in front of what a product multiplies: no two products of one x have as many.

    Products in integers are taken on a processor. onnxruntime-web 1.30's default import on WebGPU brings their sums
    back at once, into memory that steps not yet submitted still write to where their results had the same shape; what
    comes next then reads nonsense. Its `webgpu` build waits. Where no two products share an x, as in GPT-2, sums are
    brought back right after x was fetched, for which everything is submitted.

    From opset 23 on that import leaves Squeeze, Cast and others to the processor, and shapes are equal on the way back.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        self._is_needed = any(
            sum(parameter.role == "matrix" for parameter in kind.parameters) > _GPT2_MATRICES
            for kind in blueprint.kinds.values()
        )
        self._products: Counter[str] = Counter()

    def next(self, product: ir.Node) -> int:
        """Of a product that is about to be replaced."""
        if not self._is_needed or product.inputs[0] is None:
            return 0
        x = str(product.inputs[0].name)
        self._products[x] += 1
        return self._products[x]


def _ways(blueprint: Blueprint) -> dict[str, _Way]:
    """Matrix -> how it is multiplied, where a model's MLPs have gates.

    In such models one number of a token can be hundreds of times as large as all others, above all in the products of
    gate and up projection (https://arxiv.org/abs/2405.14428). Steps that span it are too coarse for the others. On
    SmolLM2-135M this halves the mean KL, from 0.07 nats.
    """
    return {
        parameter.name.replace("{L}", str(number)): _TWICE if parameter.inputs == kind.intermediate else _SHIFTED
        for number in range(blueprint.layers)
        for kind in [blueprint.layer(number)]
        if kind.is_gated
        for parameter in kind.parameters
        if parameter.role == "matrix"
    }


def store_int8_static(model: ir.Model, metadata: ModelMetadata, calibration: Calibration) -> None:
    """Matrices and tables stored as int8 with a scale a channel, and products in the form that runtimes know as QDQ.

    Activations are quantized to u8 with one scale for all of a matrix's inputs, from the range they have on
    calibration text; what lies beyond is clipped. Where one scale cannot serve all tokens, after gates, products are
    those of int8-dynamic.

    Before: `x @ w`. After: `DequantizeLinear(QuantizeLinear(x / step)) @ DequantizeLinear(w.int8)`.
    Before: `Gather(table, ids)`. After: `Cast(Gather(table.int8, ids)) x Gather(table.scale, ids)`.
    """
    spiked = {name: way for name, way in _ways(metadata.blueprint).items() if way.twice}

    def multiply(product: ir.Node, parameter: Parameter, stored: ir.Value, scale: ir.Value) -> None:
        name = parameter.name
        if name in spiked:
            _multiply_integers(model, product, stored, scale, spiked[name], parameter.inputs)
        else:
            _multiply_quantized(model, product, name, stored, scale, calibration.range(name))

    _store_int8(model, metadata, multiply, lambda name: spiked.get(name, _PLAIN).weight)


Multiply = Callable[[ir.Node, Parameter, ir.Value, ir.Value], None]
"""Replaces a product with a parameter by one with its stored values [in, out] and scale."""


def _store_int8(model: ir.Model, metadata: ModelMetadata, multiply: Multiply, levels: Callable[[str], int]) -> None:
    build = BuilderAtStart(model)
    for parameter in metadata.blueprint.parameters.values():
        if parameter.is_vector:
            continue
        weight, name = model.graph.initializers[parameter.name], parameter.name
        scale_shape = _scale_shape(parameter)
        parts = {"int8": (ir.DataType.INT8, parameter.dims), "scale": (ir.DataType.FLOAT, scale_shape)}
        stored, scale = store(model, weight, parts, _to_int8(parameter.input_axis, scale_shape, levels(name)))
        if len(parameter.dims) == 2:  # Products with experts are taken in float32.
            _read_int8(model, parameter, weight, (stored, scale), multiply)
        if weight.uses():  # Read for something else than a product with tokens.
            build("Mul", build("Cast", stored, to=ir.DataType.FLOAT), scale, output=weight)


def _read_int8(
    model: ir.Model, parameter: Parameter, weight: ir.Value, parts: tuple[ir.Value, ir.Value], multiply: Multiply
) -> None:
    """Lets products and lookups take what is stored, values and scales."""

    @cache
    def turned(before: ir.Node) -> tuple[ir.Value, ir.Value]:
        return _turned(model, before, *parts)

    def multiply_stored(product: ir.Node, transpose: ir.Node | None) -> None:
        if product.op_type == "Gemm":  # With a tied table; products in integers cannot turn it themselves.
            transpose = product
        multiply(product, parameter, *(parts if transpose is None else turned(transpose)))

    replace_readers(
        model, weight, look_up=lambda gather: _gather_decoded(model, gather, *parts), multiply=multiply_stored
    )


def _scale_shape(parameter: Parameter) -> tuple[int, ...]:
    """One scale a channel, so that scales and values can be multiplied."""
    if parameter.layout == "columns":
        return parameter.dims[1:]
    kept = list(parameter.dims)
    kept[parameter.input_axis] = 1
    return tuple(kept)


def _to_int8(axis: int, scale_shape: tuple[int, ...], levels: int) -> Callable[[Array, str], Mapping[str, Array]]:
    """Encodes a matrix with one scale a channel, so that its largest value becomes `levels`."""

    def encode(values: Array, name: str) -> Mapping[str, Array]:
        require_finite(values, name, "int8")
        largest = np.abs(values).max(axis=axis, keepdims=True)
        scale = np.maximum(largest / np.float32(levels), np.float32(_SMALLEST_SCALE)).astype(np.float32)
        return {"int8": np.rint(values / scale).astype(np.int8), "scale": scale.reshape(scale_shape)}

    return encode


def _gather_decoded(model: ir.Model, gather: ir.Node, stored: ir.Value, scale: ir.Value) -> None:
    """Looks rows up as int8, then decodes the few that were asked for."""
    build = Builder(model, gather)
    ids = gather.inputs[1]
    rows = build("Cast", build("Gather", stored, ids, axis=0), to=ir.DataType.FLOAT)
    build.replace(build("Mul", rows, build("Gather", scale, ids, axis=0)))


def _turned(model: ir.Model, before: ir.Node, stored: ir.Value, scale: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The stored values of a matrix [out, in] as [in, out], and their scales as a row."""
    build = Builder(model, before)
    return build("Transpose", stored, perm=[1, 0]), build("Transpose", scale, perm=[1, 0])


def _multiply_integers(
    model: ir.Model, product: ir.Node, stored: ir.Value, scale: ir.Value, way: _Way, inputs: int
) -> None:
    """Replaces `x @ w` by u8 x s8 products with a scale for each token of x.

    Args:
        model: Holds the product.
        product: The node to replace.
        stored: w as int8, [inputs, out].
        scale: Of each channel of w.
        way: How to multiply.
        inputs: How many numbers a product sums over.
    """
    build = Builder(model, product)
    x = product.inputs[0]
    last = build.constant("axes_last", [-1], np.int64)
    middle = None
    if way.shifted:
        low, high = build("ReduceMin", x, last, keepdims=1), build("ReduceMax", x, last, keepdims=1)
        middle = build("Mul", build("Add", low, high), build.constant("half", 0.5, np.float32))
        largest, x = build("Sub", high, middle), build("Sub", x, middle)
    else:
        largest = build("ReduceMax", build("Abs", x), last, keepdims=1)  # [batch, seq, 1]
    token_scale = build(
        "Max",
        build("Mul", largest, build.constant(f"per_level{way.suffix}", 1 / way.activation, np.float32)),
        build.constant("smallest_scale", _SMALLEST_SCALE, np.float32),
    )
    scaled = build("Div", x, token_scale)
    levels = build("Round", scaled)
    sums = _integer_product(build, levels, stored, way)
    if way.twice:
        finer = build.constant("finer", 2 * way.activation, np.float32)  # What is lost is half a step at most.
        lost = build("Round", build("Mul", build("Sub", scaled, levels), finer))
        again = replace(way, lift=way.lift + 1) if way.lift else way
        sums = build("Add", sums, build("Div", _integer_product(build, lost, stored, again), finer))
    sums = build("Mul", sums, token_scale)
    if middle is not None:  # The sums of w's channels depend on no input: they are folded when a session is created.
        ones = build.constant(f"ones_{inputs}", np.ones((1, inputs)), np.uint8)
        channel_sums = build("Cast", build("MatMulInteger", ones, stored), to=ir.DataType.FLOAT)
        sums = build("Add", sums, build("Mul", middle, channel_sums))
    build.replace(build("Mul", sums, scale))


def _integer_product(build: Builder, levels: ir.Value, stored: ir.Value, way: _Way) -> ir.Value:
    """Whole numbers times w: float32."""
    zero = way.activation + 1
    unsigned = build("Add", levels, build.constant(f"zero_level{way.suffix}", zero, np.float32))
    axes = build.constant(f"lift_{way.lift}", list(range(way.lift)), np.int64) if way.lift else None
    if axes is not None:
        unsigned = build("Unsqueeze", unsigned, axes)
    sums = build(
        "MatMulInteger",
        build("Cast", unsigned, to=ir.DataType.UINT8),
        stored,
        build.constant(f"zero_point{way.suffix}", zero, np.uint8),
    )
    product = build("Cast", sums, to=ir.DataType.FLOAT)
    return product if axes is None else build("Squeeze", product, axes)


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
