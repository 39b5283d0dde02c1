"""Passes over a traced graph: folded, tidied, named by place, and given its parameters.

Each pass returns whether it modified the model; running it twice changes nothing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.rewriter
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    IdentityEliminationPass,
    OutputFixPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.rewriter.rules.common import transpose_transpose_rule

from model_release.model.onnx_files.naming import name_nodes

PRODUCER = "transformer-model-release"


_RESHAPE = "reshape_"  # Constant targets, named after their values.


def fold(model: ir.Model) -> ir.Model:
    """Makes a traced graph small, without looking at parameters' values.

    Constants are folded, copies removed, symbolic dimensions named `batch` and `seq`, and
    everything that speaks of the exporting machine (stack traces, source lines) is dropped.

    Args:
        model: A graph from `capture.capture`. Several of its outputs may be one value afterwards
            (what leaves a layer enters the next), which `tidy` resolves.
    """
    with _quiet():
        onnxscript.optimizer.optimize(model, onnx_shape_inference=False)
        drop_equal_reshapes(model)
        spell_out_reshapes(model)
        for cleanup in (
            IdentityEliminationPass(),
            CommonSubexpressionEliminationPass(),
            RemoveUnusedNodesPass(),
            RemoveUnusedOpsetsPass(),
            ClearMetadataAndDocStringPass(),
        ):
            cleanup(model)
    model.graph.outputs[:] = [_original(value) for value in model.graph.outputs]
    RemoveUnusedNodesPass()(model)
    for value in (*_values(model), *model.graph.initializers.values()):
        value.metadata_props.clear()  # The exporter's names of all this.
    name_dimensions(model)
    return model


def tidy(model: ir.Model, known: Sequence[str], wanted: Sequence[str]) -> ir.Model:
    """Leaves the outputs that are wanted, and gives everything a name that depends on the graph alone.

    Args:
        model: A graph from `fold`.
        known: The names of its outputs.
        wanted: The names of those to keep, in order. Each gets a value of its own.
    """
    values = dict(zip(known, model.graph.outputs, strict=True))
    model.graph.outputs[:] = [values[name] for name in wanted]
    with _quiet():
        # Keys turn twice: on the way out as `layer_L_k`, then for the product with the queries.
        onnxscript.rewriter.rewrite(model, [transpose_transpose_rule])
    OutputFixPass()(model)
    name_values(model, wanted)
    model.graph.name = "see_through"
    model.producer_name = PRODUCER
    model.producer_version = ""
    model.functions.clear()
    return model


def drop_equal_reshapes(model: ir.Model) -> bool:
    """Removes Reshapes whose output has the shape of their input.

    Before: `x [batch, seq, hidden] -> Reshape -> y [batch, seq, hidden]`. After: readers of y read x.
    """
    modified = False
    outputs = set(model.graph.outputs)
    for node in list(model.graph):
        if node.op_type != "Reshape" or node.outputs[0] in outputs:
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is not None and source.shape is not None and source.shape == result.shape:
            result.replace_all_uses_with(source)
            model.graph.remove(node, safe=True)
            modified = True
    return modified


def spell_out_reshapes(model: ir.Model) -> bool:
    """Gives Reshapes a constant target, where the dynamic axes stay where they are.

    Before: `Reshape(x, Concat(Shape(...), Shape(...), heads, head_dim))`. After: `Reshape(x, [0, 0,
    heads, head_dim])`, where 0 copies the axis of x; what computed the shape goes unused.
    """
    modified = False
    for node in list(model.graph):
        source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type != "Reshape" or source is None or source.shape is None or result.shape is None:
            continue
        kept = [dim == before for dim, before in zip(result.shape, source.shape, strict=False)]
        kept += [False] * (len(result.shape) - len(kept))
        if not all(isinstance(dim, int) or same for dim, same in zip(result.shape, kept, strict=True)):
            continue
        target = [dim if isinstance(dim, int) else 0 for dim in result.shape]
        name = _RESHAPE + "_".join(map(str, target))
        if name not in model.graph.initializers:
            tensor = ir.tensor(np.array(target, dtype=np.int64), name=name)
            model.graph.initializers[name] = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([len(target)]), const_value=tensor
            )
        if node.inputs[1] is not model.graph.initializers[name]:
            node.replace_input_with(1, model.graph.initializers[name])
            node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
            modified = True
    return modified


def name_dimensions(model: ir.Model) -> bool:
    """Calls the two dynamic axes `batch` and `seq`, wherever they occur.

    Before: `input_ids [s72, s70]`. After: `input_ids [batch, seq]`.
    """
    axes = model.graph.inputs[0].shape or ir.Shape([])
    names = {str(dim): name for dim, name in zip(axes, ("batch", "seq"), strict=True)}
    modified = False
    for value in _values(model):
        if value.shape is None:
            continue
        renamed = [names.get(str(dim), str(dim)) if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape]
        if renamed != list(value.shape):
            value.shape = ir.Shape(renamed)
            modified = True
    return modified


def name_values(model: ir.Model, output_names: Sequence[str]) -> bool:
    """Names nodes, values and constants by their place in the graph, not by the order of their tracing.

    Before: `layer_norm_7, val_63 -> Mul -> mul_66`. After: `LayerNormalization_84, constant_5 -> Mul -> Mul_85`.
    """
    values = list(_values(model))
    constants = dict.fromkeys(
        value
        for node in model.graph
        for value in node.inputs
        if value is not None and value.const_value is not None and not str(value.name).startswith(_RESHAPE)
    )
    before = [value.name for value in (*values, *constants)]
    for index, constant in enumerate(constants):
        constant.name = f"constant_{index}"
    name_nodes(model)
    for value, name in zip(model.graph.outputs, output_names, strict=True):
        value.name = name
    return before != [value.name for value in (*values, *constants)]


def attach_parameters(model: ir.Model, shapes: dict[str, tuple[int, ...]], load: Callable[[str], np.ndarray]) -> None:
    """Gives each parameter a float32 value that is loaded when it is written, and not kept.

    Args:
        model: A graph from `capture.capture`.
        shapes: Parameters' names and shapes.
        load: Name -> float32 array of that shape.
    """
    for name, shape in shapes.items():

        def loader(name: str = name) -> ir.TensorProtocol:
            return ir.Tensor(load(name), name=name)

        value = model.graph.initializers[name]
        value.const_value = ir.LazyTensor(loader, dtype=ir.DataType.FLOAT, shape=ir.Shape(shape), name=name)
    order = {name: index for index, name in enumerate(shapes)}
    ordered = sorted(model.graph.initializers.items(), key=lambda item: (order.get(item[0], -1), item[0]))
    model.graph.initializers.clear()
    for name, value in ordered:
        model.graph.initializers[name] = value


def _original(value: ir.Value) -> ir.Value:
    """What a value is a copy of, itself if of none."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for node in model.graph:
        yield from node.outputs


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the optimizer's notes on parameters without values: that is how we trace."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
