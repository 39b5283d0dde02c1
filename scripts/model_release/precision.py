"""Stored and computed precision of a model's weights.

What is downloaded and what is computed are separate choices. A codec replaces each parameter of the
fp32 graph by a smaller stored tensor and the standard ONNX operators that decode it. Decoding that
depends on no input is folded by the runtime when a session is created, so such a precision runs
exactly like fp32.

Parameters are read, encoded and written one at a time.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir

from model_release.architecture import EMBEDDING
from model_release.checks import Array
from model_release.contract import FULL_PRECISION
from model_release.errors import ContractError, QuantizeError
from model_release.graph import set_metadata
from model_release.metadata import ModelMetadata, metadata_of
from model_release.modelfile import read_model, write_model

_FP16_MAX = 65504.0
_WEIGHT_LEVELS = 64
"""int8-dynamic keeps weights in [-64, 64]. On x64 without VNNI, u8 x s8 products are added in pairs in
16 bits and saturate: 2 x 255 x 127 does not fit, 2 x 255 x 64 does. onnxruntime's own quantizer calls
this `reduce_range`."""
_ACTIVATION_LEVELS = 127
_ACTIVATION_ZERO = 128
_SMALLEST_SCALE = 1e-30  # Keeps a row of zeros from dividing by zero.


def quantize_file(source: Path, target: Path, precision: str) -> ModelMetadata:
    """Makes one precision of a model file.

    Args:
        source: `model.onnx` as `export.py` writes it (fp32).
        target: The file to write, whole or not at all.
        precision: A name of `CODECS`.

    Returns:
        The metadata of the new file.

    Raises:
        QuantizeError: The source is not an fp32 model of ours, a weight does not fit the precision,
            or the file cannot be written.
    """
    try:
        model = read_model(source)
        metadata = metadata_of(source.name, model.metadata_props)
    except ContractError as failure:
        raise QuantizeError(str(failure)) from failure
    if metadata.precision != FULL_PRECISION:
        raise QuantizeError(
            f"{source} must be an fp32 model, got {metadata.precision}. Quantize the model.onnx that export.py made."
        )
    missing = sorted(metadata.shape.parameters().keys() - model.graph.initializers.keys())
    if missing:
        raise QuantizeError(
            f"{source} must hold every parameter under its own name, {missing[0]} is missing. Export it again."
        )
    CODECS[precision](model, metadata)
    metadata = ModelMetadata(**{**vars(metadata), "precision": precision})
    set_metadata(model, metadata)
    for index, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{index}"
    write_model(model, target, error=QuantizeError)
    return metadata


def store_fp16(model: ir.Model, metadata: ModelMetadata) -> None:
    """Parameters stored as fp16, computed in fp32.

    Before: `w fp32`. After: `w.fp16 -> Cast -> w`.
    """
    for name in reversed(metadata.shape.parameters()):
        decoded = model.graph.initializers.pop(name)
        stored = _store(model, f"{name}.fp16", decoded, ir.DataType.FLOAT16, decoded.shape, _to_fp16)
        cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT}, outputs=[decoded])
        model.graph.insert_before(model.graph[0], cast)


def store_int8_dynamic(model: ir.Model, metadata: ModelMetadata) -> None:
    """Matrices and tables stored as int8 with a scale a channel; products computed in integers.

    Activations are quantized to u8 at run time with a scale for each token, not one for the whole
    tensor: so a token's numbers depend neither on later tokens nor on the batch's other rows, and an
    outlier at one position costs the others nothing.

    Before: `x @ w`. After: `(u8(x / s_x) @ w.int8) x s_x x w.scale`.
    Before: `Gather(table, ids)`. After: `Cast(Gather(table.int8, ids)) x Gather(table.scale, ids)`.
    """
    for name, dims in metadata.shape.parameters().items():
        if len(dims) != 2:
            continue
        weight = model.graph.initializers.pop(name)
        # Tables are [rows, hidden] with a scale a row, Conv1D matrices [in, out] with a scale a column.
        is_table = weight.uses() and _is_table(weight)
        axis = 1 if is_table else 0
        scale_shape = (dims[0], 1) if is_table else (dims[1],)
        stored = _store(model, f"{name}.int8", weight, ir.DataType.INT8, ir.Shape(dims), _to_int8(axis))
        scale = _store(
            model, f"{name}.scale", weight, ir.DataType.FLOAT, ir.Shape(scale_shape), _to_scale(axis, scale_shape)
        )
        for node, _ in list(weight.uses()):
            if node.op_type == "Gather":
                _gather_decoded(model, node, stored, scale)
            elif node.op_type == "Transpose":
                _multiply_integers(model, *_transposed(model, node, stored, scale))
            elif node.op_type == "MatMul":
                _multiply_integers(model, node, stored, scale)
            else:
                raise QuantizeError(
                    f"{name} must be read by Gather, Transpose or MatMul, got {node.op_type}. Export the model again."
                )


CODECS: dict[str, Callable[[ir.Model, ModelMetadata], None]] = {
    "fp16": store_fp16,
    "int8-dynamic": store_int8_dynamic,
}


def _store(
    model: ir.Model,
    name: str,
    source: ir.Value,
    dtype: ir.DataType,
    shape: ir.Shape | None,
    encode: Callable[[Array, str], Array],
) -> ir.Value:
    """Adds an initializer whose values are encoded from `source`'s when the file is written."""
    tensor = source.const_value
    if tensor is None or shape is None:
        raise QuantizeError(f"{source.name} must have values. Export the model again.")

    def load() -> ir.TensorProtocol:
        return ir.Tensor(encode(tensor.numpy(), str(source.name)), dtype=dtype, name=name)

    value = ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)
    value.const_value = ir.LazyTensor(load, dtype=dtype, shape=shape, name=name)
    model.graph.initializers[name] = value
    return value


def _to_fp16(values: Array, name: str) -> Array:
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _FP16_MAX:
        raise QuantizeError(
            f"{name} must lie within ±{_FP16_MAX:.0f} to be stored as fp16, got {largest:g}. Choose another precision."
        )
    return values.astype(np.float16)


def _to_int8(axis: int) -> Callable[[Array, str], Array]:
    def encode(values: Array, name: str) -> Array:
        encoded: Array = np.rint(values / _channel_scale(values, axis, name)).astype(np.int8)
        return encoded

    return encode


def _to_scale(axis: int, shape: tuple[int, ...]) -> Callable[[Array, str], Array]:
    return lambda values, name: _channel_scale(values, axis, name).reshape(shape)


def _channel_scale(values: Array, axis: int, name: str) -> Array:
    """The scale of each channel, so that its largest value becomes `_WEIGHT_LEVELS`."""
    largest = np.abs(values).max(axis=axis, keepdims=True)
    if not np.isfinite(largest).all():
        raise QuantizeError(f"{name} must be finite to be stored as int8. Correct the weights.")
    scale: Array = np.maximum(largest / np.float32(_WEIGHT_LEVELS), np.float32(_SMALLEST_SCALE)).astype(np.float32)
    return scale


def _is_table(weight: ir.Value) -> bool:
    return all(node.op_type in ("Gather", "Transpose") for node, _ in weight.uses())


def _gather_decoded(model: ir.Model, gather: ir.Node, stored: ir.Value, scale: ir.Value) -> None:
    """Looks rows up as int8, then decodes the few that were asked for."""
    build = _Builder(model, gather)
    ids = gather.inputs[1]
    rows = build("Cast", build("Gather", stored, ids, axis=0), to=ir.DataType.FLOAT)
    build.replace(build("Mul", rows, build("Gather", scale, ids, axis=0)))


def _transposed(
    model: ir.Model, transpose: ir.Node, stored: ir.Value, scale: ir.Value
) -> tuple[ir.Node, ir.Value, ir.Value]:
    """A head reads its table transposed: so do the stored values, and their scales become a row."""
    build = _Builder(model, transpose)
    turned = build("Transpose", stored, perm=[1, 0])
    turned_scale = build("Transpose", scale, perm=[1, 0])
    (product, _), *others = transpose.outputs[0].uses()
    if others or product.op_type != "MatMul":
        raise QuantizeError(f"{EMBEDDING} transposed must be read by one MatMul. Export the model again.")
    return product, turned, turned_scale


def _multiply_integers(model: ir.Model, product: ir.Node, stored: ir.Value, scale: ir.Value) -> None:
    """Replaces `x @ w` by a u8 x s8 product with a scale for each token of x."""
    build = _Builder(model, product)
    x, weight = product.inputs
    transpose = weight.producer() if weight is not None else None  # A head's; nothing reads it any more.
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
    if transpose is not None:
        model.graph.remove(transpose, safe=True)


class _Builder:
    """Builds nodes just before `node`, whose output a built value finally takes over."""

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self._graph, self._node = model.graph, node

    def __call__(self, op_type: str, *inputs: ir.Value | None, **attributes: int | list[int] | ir.DataType) -> ir.Value:
        """Inserts a node of the standard domain and returns its output."""
        node = ir.node(op_type, list(inputs), attributes)
        self._graph.insert_before(self._node, node)
        return node.outputs[0]

    def constant(self, name: str, value: float | list[int], dtype: type[np.generic]) -> ir.Value:
        """A small initializer, made once and shared by all that ask for it."""
        if name not in self._graph.initializers:
            tensor = ir.tensor(np.array(value, dtype=dtype), name=name)
            self._graph.initializers[name] = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
            )
        return self._graph.initializers[name]

    def replace(self, value: ir.Value) -> None:
        """Puts `value` in the place of the node's output, name included, and removes the node."""
        ir.convenience.replace_nodes_and_values(self._graph, self._node, [self._node], [], self._node.outputs, [value])
