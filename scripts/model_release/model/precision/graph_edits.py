"""Edits that every codec makes: tensors encoded when the file is written, and nodes built in place."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import onnx_ir as ir

from model_release.base.errors import QuantizeError
from model_release.contract.measures import Array
from model_release.model.onnx_files.constants import shared_constant


def store(
    model: ir.Model,
    weight: ir.Value,
    parts: Mapping[str, tuple[ir.DataType, tuple[int, ...]]],
    encode: Callable[[Array, str], Mapping[str, Array]],
) -> list[ir.Value]:
    """Replaces an initializer's values by parts that are encoded from them when the file is written.

    Args:
        model: Loses the initializer `weight` and gains one a part, `{name}.{part}`.
        weight: A parameter. Its readers keep reading it: give it a producer, or give them another input.
        parts: Part -> dtype and shape.
        encode: Values and name of the parameter -> its parts. Called once, whichever part is asked for first.

    Returns:
        The stored parts, in order.

    Raises:
        QuantizeError: The parameter has no values.
    """
    name, tensor = str(weight.name), weight.const_value
    if tensor is None:
        raise QuantizeError(f"{name} must have values. Export the model again.")
    del model.graph.initializers[name]
    encoded: dict[str, Array] = {}

    def load(part: str) -> ir.TensorProtocol:
        if part not in encoded:
            encoded.update(encode(tensor.numpy(), name))
        return ir.Tensor(encoded.pop(part), dtype=parts[part][0], name=f"{name}.{part}")

    values = []
    for part, (dtype, dims) in parts.items():
        stored_name, shape = f"{name}.{part}", ir.Shape(dims)
        value = ir.Value(name=stored_name, type=ir.TensorType(dtype), shape=shape)
        value.const_value = ir.LazyTensor(partial(load, part), dtype=dtype, shape=shape, name=stored_name)
        model.graph.initializers[stored_name] = value
        values.append(value)
    return values


def replace_readers(
    model: ir.Model,
    weight: ir.Value,
    *,
    look_up: Callable[[ir.Node], None],
    multiply: Callable[[ir.Node, ir.Node | None], None],
) -> None:
    """Hands over the lookups in a matrix or table, and the products with it; whoever else reads it keeps doing so.

    Args:
        model: The graph.
        weight: The matrix or table.
        look_up: Replaces a Gather of rows.
        multiply: Replaces a product, MatMul or Gemm, given the Transpose that it reads the matrix through, if any.
    """
    for node, _ in list(weight.uses()):
        if node.op_type == "Gather":
            look_up(node)
        elif node.op_type in ("MatMul", "Gemm"):
            multiply(node, None)
        elif node.op_type == "Transpose":
            for product, _ in list(node.outputs[0].uses()):
                if product.op_type == "MatMul":
                    multiply(product, node)
            if not node.outputs[0].uses():
                model.graph.remove(node, safe=True)


def require_finite(values: Array, name: str, stored: str) -> None:
    """Refuses what no integer code can stand for.

    Raises:
        QuantizeError: A value is infinite or not a number.
    """
    if not np.isfinite(values).all():
        raise QuantizeError(f"{name} must be finite to be stored as {stored}. Correct the weights.")


class Builder:
    """Builds nodes just before `node`."""

    def __init__(self, model: ir.Model, node: ir.Node) -> None:
        self._graph, self._node = model.graph, node

    def __call__(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        output: ir.Value | None = None,
        domain: str = "",
        **attributes: int | list[int] | ir.DataType | ir.Graph,
    ) -> ir.Value:
        """Inserts a node, of the standard domain unless told, and returns its output: a new value, or `output`."""
        node = ir.node(op_type, list(inputs), attributes, domain=domain, outputs=None if output is None else [output])
        self._graph.insert_before(self._node, node)
        return node.outputs[0]

    def constant(self, name: str, value: Array | float | list[int], dtype: type[np.generic]) -> ir.Value:
        """A small initializer, made once and shared by all that ask for it."""
        return shared_constant(self._graph, name, np.array(value, dtype=dtype))

    def replace(self, value: ir.Value) -> None:
        """Puts `value` in the place of the node's output, name included, and removes the node."""
        ir.convenience.replace_nodes_and_values(self._graph, self._node, [self._node], [], self._node.outputs, [value])


class BuilderAtStart(Builder):
    """Builds nodes before all others, one after the other."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model, model.graph[0])

    def __call__(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        output: ir.Value | None = None,
        domain: str = "",
        **attributes: int | list[int] | ir.DataType | ir.Graph,
    ) -> ir.Value:
        """See `Builder`."""
        if self._node.graph is None:  # Where the tokens' table is read first of all, that node is replaced.
            self._node = self._graph[0]
        return super().__call__(op_type, *inputs, output=output, domain=domain, **attributes)
