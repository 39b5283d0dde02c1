"""Sizes that a traced graph takes as it runs: each read once, and the axes of such a size named.

As in `passes`, each pass returns whether it modified the model; running it twice changes nothing.
"""

from collections.abc import Sequence

import onnx_ir as ir

from model_release.contract.tensor_names import parse_tensor_name
from model_release.model.onnx_files.naming import values_of


def read_sizes_once(model: ir.Model) -> bool:
    """Reads sizes that inputs share from the first of them, and adds them up in one order.

    Before: `Shape(past_key_values.1.key)[2] + Shape(input_ids)[1]`. After:
    `Shape(input_ids)[1] + Shape(past_key_values.0.key)[2]`. Keys and values of all layers are of the same tokens, which
    the exporter does not know; layers that each ask their own, or in their own order, would not be the same.
    """
    ids, *past = _sequences(model)
    modified = bool(past) and _order_sums(model)
    for node in model.graph:
        axis = node.attributes.get_int("start", 0)
        if node.op_type != "Shape" or node.inputs[0] not in past or node.attributes.get_int("end", -1) != axis + 1:
            continue
        source = {0: ids, 2: past[0]}.get(axis, node.inputs[0])
        if source is not node.inputs[0]:
            node.replace_input_with(0, source)
            modified = True
    return modified


def name_dimensions(model: ir.Model) -> bool:
    """Calls the dynamic axes `batch` and `seq`, and with `--cache` `past` and `total`, wherever they occur.

    Before: `input_ids [s72, s70]`, `x [s72, (s70**2)//s70]`. After: `input_ids [batch, seq]`, `x [batch, seq]`.

    The first axis of keys and values that are handed in is `batch` too, but is called what transformers.js wants.
    """
    ids, *past = _sequences(model)
    names = _dimensions(ids, ("batch", "seq"))
    for value in past:
        names |= _dimensions(value, ("batch", "", "past"))
    for value in model.graph.outputs:
        if parse_tensor_name(str(value.name))[0] in ("present_key", "present_value"):
            names |= _dimensions(value, ("batch", "", "total"))

    def name(dim: int | ir.SymbolicDim) -> int | str:
        if isinstance(dim, int):
            return dim
        if str(dim) not in names:
            names[str(dim)] = names.get(str(dim.simplify()), str(dim))
        return names[str(dim)]

    modified = False
    for value in values_of(model):
        if value.shape is None:
            continue
        renamed = [name(dim) for dim in value.shape]
        if value in past:
            renamed[0] = "batch_size"
        if renamed != list(value.shape):
            value.shape = ir.Shape(renamed)
            modified = True
    return modified


def _sequences(model: ir.Model) -> list[ir.Value]:
    """The inputs that differ in size from run to run: token ids first, then keys and values."""
    ids, *others = model.graph.inputs
    return [ids, *(value for value in others if parse_tensor_name(str(value.name))[0] in ("past_key", "past_value"))]


def _order_sums(model: ir.Model) -> bool:
    """Puts the terms of sums of sizes in the order of the inputs that they are of."""
    places: dict[ir.Value | None, int] = {value: place for place, value in enumerate(model.graph.inputs)}
    modified = False
    for node in model.graph:
        if node.op_type == "Add" and all(_measured(value) in places for value in node.inputs):
            ordered = sorted(node.inputs, key=lambda value: places[_measured(value)])
            if ordered != list(node.inputs):
                for index, value in enumerate(ordered):
                    node.replace_input_with(index, value)
                modified = True
    return modified


def _measured(value: ir.Value | None) -> ir.Value | None:
    """The value that a size is of: `Squeeze(Shape(value))`; None for what is no size."""
    squeeze = None if value is None else value.producer()
    shape = squeeze.inputs[0].producer() if squeeze and squeeze.op_type == "Squeeze" and squeeze.inputs[0] else None
    return shape.inputs[0] if shape and shape.op_type == "Shape" else None


def _dimensions(value: ir.Value, axes: Sequence[str]) -> dict[str, str]:
    """The symbols of a value's dynamic axes, and what they are to be called."""
    return {
        str(dim): name for dim, name in zip(value.shape or (), axes, strict=False) if isinstance(dim, ir.SymbolicDim)
    }
