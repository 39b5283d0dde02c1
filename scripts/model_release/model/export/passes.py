"""Passes over a traced graph: folded, tidied, named by place, and given its parameters.

Each pass returns whether it modified the model; running it twice changes nothing.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from model_release.contract.tensor_names import parse_tensor_name, tensor_name
from model_release.model.export.sizes import name_dimensions, read_sizes_once
from model_release.model.onnx_files.constants import shared_constant
from model_release.model.onnx_files.naming import name_nodes, values_of

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
    declared = [(value.type, value.shape) for value in model.graph.outputs]
    with _quiet():
        onnxscript.optimizer.optimize(model, onnx_shape_inference=False)
        read_sizes_once(model)
        spell_out_gemms(model)
        spell_out_gelus(model)
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
    for value, (type_, shape) in zip(model.graph.outputs, declared, strict=True):
        if value.type is None:  # A value inside what the exporter writes for one operator of PyTorch.
            value.type, value.shape = type_, shape
    RemoveUnusedNodesPass()(model)
    for value in (*values_of(model), *model.graph.initializers.values()):
        value.metadata_props.clear()  # The exporter's names of all this.
    name_dimensions(model)
    return model


def tidy(model: ir.Model, known: Sequence[str], wanted: Sequence[str]) -> ir.Model:
    """Leaves the outputs that are wanted, and gives everything a name that depends on the graph alone.

    Args:
        model: A graph from `fold`.
        known: The names of its outputs.
        wanted: The names of those to keep, in order. Each gets a value of its own. Lenses need not be known: they
            are made here.
    """
    values = dict(zip(known, model.graph.outputs, strict=True))
    add_lenses(model, values, [name for name in wanted if name not in values])
    model.graph.outputs[:] = [values[name] for name in wanted]
    with _quiet():
        # Keys turn twice: on the way out as `layer_L_k`, then for the product with the queries.
        onnxscript.rewriter.rewrite(model, [transpose_transpose_rule])
        multiply_by_tied_tables(model)
        ClearMetadataAndDocStringPass()(model)  # Which rule wrote a node.
    OutputFixPass()(model)
    name_values(model, wanted)
    model.graph.name = "see_through"
    model.producer_name = PRODUCER
    model.producer_version = ""
    model.functions.clear()
    return model


def add_lenses(model: ir.Model, values: dict[str, ir.Value], names: Sequence[str]) -> bool:
    """Adds what the end of the model makes of earlier layers' streams; tables are shared.

    Before: `layer_7_resid_post -> norm -> head -> logits`. After, for `layer_3_logit_lens`, besides:
    `layer_3_resid_post -> norm -> head -> layer_3_logit_lens`.

    Args:
        model: The graph.
        values: Its outputs by name; lenses are added.
        names: Of the lenses.
    """
    if not names:
        return False
    layers = [layer for _, layer in map(parse_tensor_name, values) if layer is not None]
    logits, stream = values["logits"], values[tensor_name("resid_post", max(layers))]
    dependent = {stream}
    tail = []
    for node in model.graph:
        if not dependent.isdisjoint(value for value in node.inputs if value is not None):
            dependent.update(node.outputs)
            tail.append(node)
    needed: list[ir.Node] = []
    wanted = {logits}
    for node in reversed(tail):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(value for value in node.inputs if value is not None)
            needed.insert(0, node)
    for name in names:
        _, layer = parse_tensor_name(name)
        copies = {stream: values[tensor_name("resid_post", layer)]}
        if copies[stream] is stream:
            values[name] = logits
            continue
        for node in needed:
            outputs = [ir.Value(type=value.type, shape=value.shape) for value in node.outputs]
            inputs = [copies.get(value, value) if value is not None else None for value in node.inputs]
            copies |= dict(zip(node.outputs, outputs, strict=True))
            copy = ir.node(
                node.op_type, inputs, node.attributes, domain=node.domain, version=node.version, outputs=outputs
            )
            model.graph.append(copy)
        values[name] = copies[logits]
    return True


def spell_out_gemms(model: ir.Model) -> bool:
    """Writes Gemms as what codecs look for.

    Before: `Gemm(x, w, b, transB=1)`. After: `MatMul(x, Transpose(w)) + b`.
    """
    modified = False
    for node in list(model.graph):
        factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")] if node.op_type == "Gemm" else []
        if factors != [1.0, 1.0] or node.attributes.get_int("transA", False):
            continue
        x, weight, *bias = node.inputs
        result = node.outputs[0]
        made = []
        if node.attributes.get_int("transB", False) and weight is not None:
            made.append(ir.node("Transpose", [weight], {"perm": [1, 0]}))
            turned = made[-1].outputs[0]
            turned.type = weight.type
            turned.shape = None if weight.shape is None else ir.Shape(list(weight.shape)[::-1])
            weight = turned
        made.append(ir.node("MatMul", [x, weight]))
        if bias and bias[0] is not None:
            made[-1].outputs[0].type, made[-1].outputs[0].shape = result.type, result.shape
            made.append(ir.node("Add", [made[-1].outputs[0], bias[0]]))
        made[-1].outputs[0].type, made[-1].outputs[0].shape = result.type, result.shape
        model.graph.insert_before(node, made)
        result.replace_all_uses_with(made[-1].outputs[0], replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        modified = True
    return modified


def spell_out_gelus(model: ir.Model) -> bool:
    """Writes GELUs by tanh in smaller steps: a runtime may read the operator as that by the error function.

    Before: `Gelu(x, approximate="tanh")`. After, as GPT-2's own code has it and runtimes know to be one:
    `x / 2 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))`.
    """
    numbers = {"half": 0.5, "three": 3.0, "bend": 0.044715, "slope": math.sqrt(2 / math.pi), "one": 1.0}
    modified = False
    for node in list(model.graph):
        if node.op_type != "Gelu" or node.attributes.get_string("approximate", "none") != "tanh":
            continue
        result, x = node.outputs[0], node.inputs[0]
        dtype = np.float32 if result.dtype is None else result.dtype.numpy()
        half, three, bend, slope, one = (
            shared_constant(model.graph, f"gelu_{name}", np.array(number, dtype)) for name, number in numbers.items()
        )
        tape = ir.tape.Tape()
        bent = tape.op("Add", [x, tape.op("Mul", [tape.op("Pow", [x, three]), bend])])
        share = tape.op("Add", [tape.op("Tanh", [tape.op("Mul", [bent, slope])]), one])
        tape.op("Mul", [tape.op("Mul", [x, half]), share])
        for made in tape.nodes:
            made.outputs[0].type, made.outputs[0].shape = result.type, result.shape
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], tape.nodes, [result], [tape.nodes[-1].outputs[0]]
        )
        modified = True
    return modified


def multiply_by_tied_tables(model: ir.Model) -> bool:
    """Multiplies by a table that is looked up as well as it lies: runtimes would keep a turned copy beside it.

    Before: `MatMul(x [batch, seq, hidden], Transpose(table))`. After, where rows are those of all of the batch:
    `Reshape(Gemm(rows of x, table, transB=1), [batch, seq, vocab])`.
    """
    modified = False
    for transpose in list(model.graph):
        table, turned = transpose.inputs[0] if transpose.inputs else None, transpose.outputs[0]
        if transpose.op_type != "Transpose" or table is None or not table.is_initializer() or table.shape is None:
            continue
        if not any(reader.op_type == "Gather" for reader, _ in table.uses()) or not table.shape.is_static():
            continue
        vocab, hidden = table.shape.numpy()
        for product, place in list(turned.uses()):
            x, result = product.inputs[0], product.outputs[0]
            if product.op_type != "MatMul" or place != 1 or x is None or x.shape is None or len(x.shape) != 3:
                continue
            rows = ir.node("Reshape", [x, _shape_constant(model, [-1, hidden])])
            products = ir.node("Gemm", [rows.outputs[0], table], {"transB": 1})
            leading = ir.node("Shape", [x], {"start": 0, "end": 2})
            dims = ir.node("Concat", [leading.outputs[0], _shape_constant(model, [vocab])], {"axis": 0})
            back = ir.node("Reshape", [products.outputs[0], dims.outputs[0]])
            ir.convenience.replace_nodes_and_values(
                model.graph, product, [product], [rows, products, leading, dims, back], [result], back.outputs
            )
            modified = True
        if not turned.uses():
            model.graph.remove(transpose, safe=True)
    return modified


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
        constant = _shape_constant(model, target)
        if node.inputs[1] is not constant:
            node.replace_input_with(1, constant)
            node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
            modified = True
    return modified


def name_values(model: ir.Model, output_names: Sequence[str]) -> bool:
    """Names nodes, values and constants by their place in the graph, not by the order of their tracing.

    Before: `layer_norm_7, val_63 -> Mul -> mul_66`. After: `LayerNormalization_84, constant_5 -> Mul -> Mul_85`.
    """
    values = list(values_of(model))
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


def attach_parameters(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], load: Callable[[str], np.ndarray]
) -> None:
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


def _shape_constant(model: ir.Model, target: Sequence[int]) -> ir.Value:
    """A constant target of Reshapes, made once and shared by all of them."""
    name = _RESHAPE + "_".join(map(str, target))
    return shared_constant(model.graph, name, np.array(target, dtype=np.int64))


def _original(value: ir.Value) -> ir.Value:
    """What a value is a copy of, itself if of none."""
    node = value.producer()
    while node is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


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
