"""Small constants of a graph."""

import numpy as np
import onnx_ir as ir

from model_release.contract.measures import Array


def shared_constant(graph: ir.Graph, name: str, value: Array) -> ir.Value:
    """An initializer, made once and shared by all that ask for it by its name."""
    if name not in graph.initializers:
        tensor = ir.tensor(np.asarray(value), name=name)
        graph.initializers[name] = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor
        )
    return graph.initializers[name]
