"""Model files that are ONNX and lie: about sizes, types, values, and what they ask of a machine."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cli
from workroom import Workshop, at_most

CONTRACT, QUANTIZE = 3, 6
VECTOR, TABLE = "transformer.ln_f.bias", "transformer.wte.weight"
Change = Callable[[onnx.ModelProto], object]


@pytest.fixture
def change(workshop: Workshop) -> Callable[[Change], None]:
    """Changes model.onnx."""

    def work(edit: Change) -> None:
        model = onnx.load(workshop.root / "model.onnx")
        edit(model)
        (workshop.root / "model.onnx").write_bytes(model.SerializeToString())

    return work


def verify(workshop: Workshop, *says: str) -> None:
    with at_most(seconds=60, memory_bytes=2 << 30):
        workshop.refuses(cli.verify, "--model", "model.onnx", code=CONTRACT, says=says, silent=False)


def quantize(workshop: Workshop, *says: str, precision: str = "fp16,int8-dynamic,int4") -> None:
    with at_most(seconds=60, memory_bytes=2 << 30):
        options = ("--model", "model.onnx", "--precision", precision, "--output-dir", "new")
        workshop.refuses(cli.quantize, *options, code=QUANTIZE, says=says, silent=False)


# -- parameters


def tensor(name: str, **values: Any) -> Change:
    """Gives a parameter other fields, and none of those that are None."""

    def edit(model: onnx.ModelProto) -> None:
        found = next(each for each in model.graph.initializer if each.name == name)
        for field, value in values.items():
            found.ClearField(field)
            if isinstance(value, Iterable) and not isinstance(value, bytes):
                getattr(found, field).extend(value)
            elif value is not None:
                setattr(found, field, value)

    return edit


LYING_TENSORS: dict[str, Change] = {
    "a table of sizes whose product overflows": tensor(TABLE, dims=[2**32, 2**32]),
    "a table of more than it holds": tensor(TABLE, dims=[2**62, 4]),
    "a table of negative sizes": tensor(TABLE, dims=[-31, -16]),
    "a table of nothing": tensor(TABLE, dims=[0]),
    "a table without values": tensor(TABLE, raw_data=None),
    "a table of one value": tensor(TABLE, raw_data=None, float_data=[1.0]),
    "a table of strings": tensor(TABLE, raw_data=None, data_type=TensorProto.STRING, string_data=[b"x"] * 496),
    "a table elsewhere without end": tensor(TABLE, dims=[2**32, 2**32], data_location=TensorProto.EXTERNAL),
    "a vector of sizes whose product overflows": tensor(VECTOR, dims=[2**32, 2**32]),
    "a vector of another rank": tensor(VECTOR, dims=[4, 4]),
    "a vector of no rank": tensor(VECTOR, dims=[]),
    "a vector of a negative size": tensor(VECTOR, dims=[-16]),
    "a vector without values": tensor(VECTOR, raw_data=None),
    "a vector of no type": tensor(VECTOR, data_type=TensorProto.UNDEFINED),
    "a vector of an unknown type": tensor(VECTOR, data_type=99),
    "a vector of whole numbers": tensor(VECTOR, data_type=TensorProto.INT32),
    "a vector of four bits": tensor(VECTOR, data_type=TensorProto.UINT4),
    "a vector of strings": tensor(VECTOR, raw_data=None, data_type=TensorProto.STRING, string_data=[b"x"] * 16),
    "a vector of bytes for strings": tensor(VECTOR, data_type=TensorProto.STRING),
}


@pytest.mark.parametrize("edit", LYING_TENSORS.values(), ids=LYING_TENSORS)
def test_a_parameter_that_is_not_what_it_says_is_refused(
    workshop: Workshop, change: Callable[[Change], None], edit: Change
) -> None:
    change(edit)
    verify(workshop, "model.onnx")
    quantize(workshop, "model.onnx")


def with_kind(**entries: object) -> Change:
    """Changes what the metadata's blueprint says of the layers."""

    def edit(model: onnx.ModelProto) -> None:
        entry = next(each for each in model.metadata_props if each.key.endswith("blueprint"))
        blueprint = json.loads(entry.value)
        blueprint["kinds"]["A"].update(entries)
        entry.value = json.dumps(blueprint)

    return edit


LYING_KINDS: dict[str, Change] = {
    "heads it has not": with_kind(heads=1024, kv_heads=1),
    "no heads": with_kind(heads=0),
    "a window": with_kind(window=3),
    "no parameters": with_kind(parameters=[]),
    "parameters of petabytes": with_kind(parameters=[["{L}.x", [4_194_304, 4_194_304], "rows", "matrix"]] * 256),
    "outputs nobody knows": with_kind(outputs=["soul"]),
}


@pytest.mark.parametrize("edit", LYING_KINDS.values(), ids=LYING_KINDS)
def test_a_blueprint_of_another_model_is_refused(
    workshop: Workshop, change: Callable[[Change], None], edit: Change
) -> None:
    change(edit)
    verify(workshop, "model.onnx")


# -- outputs


def output(op_type: str, *more: Any, elem_type: int = TensorProto.FLOAT, **attributes: Any) -> Change:
    """Puts an operator between an output and what it was."""

    def edit(model: onnx.ModelProto) -> None:
        graph, name = model.graph, model.graph.output[1].name
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = ["before" if each == name else each for each in names]
        graph.initializer.extend(numpy_helper.from_array(np.array(each), f"more_{i}") for i, each in enumerate(more))
        inputs = ["before"] if op_type != "Constant" else []
        graph.node.append(
            helper.make_node(op_type, [*inputs, *(f"more_{i}" for i in range(len(more)))], [name], **attributes)
        )
        graph.output[1].type.tensor_type.elem_type = elem_type
        graph.output[1].type.tensor_type.ClearField("shape")

    return edit


STRINGS = numpy_helper.from_array(np.array(["a", "b"], dtype=object))
ODD_OUTPUTS: dict[str, Change] = {
    "strings": output("Constant", elem_type=TensorProto.STRING, value=STRINGS),
    "strings that are no text": output("Constant", elem_type=TensorProto.STRING, value_strings=[b"a", b"\xff\xfe"]),
    "booleans": output("Cast", elem_type=TensorProto.BOOL, to=TensorProto.BOOL),
    "bfloat16": output("Cast", elem_type=TensorProto.BFLOAT16, to=TensorProto.BFLOAT16),
    "bytes of floats": output("Cast", elem_type=TensorProto.FLOAT8E4M3FN, to=TensorProto.FLOAT8E4M3FN),
    "a scalar": output("ReduceSum", keepdims=0),
    "nothing": output("Slice", [0], [0]),
    "two axes more": output("Unsqueeze", [0, 1]),
    "not a number": output("Mul", np.float32("nan")),
    "a sequence": output("SequenceConstruct"),
}


@pytest.mark.parametrize("edit", ODD_OUTPUTS.values(), ids=ODD_OUTPUTS)
def test_an_output_of_another_kind_is_refused(
    workshop: Workshop, change: Callable[[Change], None], edit: Change
) -> None:
    change(edit)
    verify(workshop, "model.onnx")


def test_a_name_that_is_no_text_is_refused(workshop: Workshop) -> None:
    path = workshop.root / "model.onnx"
    name = onnx.load(path).graph.output[1].name.encode()
    path.write_bytes(path.read_bytes().replace(name, b"\xff" * len(name)))
    verify(workshop, "model.onnx")
    quantize(workshop, "model.onnx")


# -- what a graph asks for


def asking(op_type: str, *values: Any, **attributes: Any) -> Change:
    """Adds the sum of something large to an output."""

    def edit(model: onnx.ModelProto) -> None:
        graph = model.graph
        output("Add", np.float32(0))(model)
        graph.initializer.extend(numpy_helper.from_array(np.array(each), f"asked_{i}") for i, each in enumerate(values))
        large = helper.make_node(op_type, [f"asked_{i}" for i in range(len(values))], ["large"], **attributes)
        graph.node.insert(0, helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0))
        graph.node.insert(0, large)
        graph.node[-1].input[1] = "sum"

    return edit


def endless(model: onnx.ModelProto) -> None:
    inputs = [helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("go_on", 9))]
    result = [helper.make_tensor_value_info("still", TensorProto.BOOL, [])]
    body = helper.make_graph([helper.make_node("Identity", ["go_on"], ["still"])], "body", inputs, result)
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "times"))
    model.graph.node.insert(0, helper.make_node("Loop", ["times", ""], [], body=body))


ABSURD: dict[str, Change] = {
    "eight gigabytes of zeros": asking("ConstantOfShape", [2 * 10**9]),
    "zeros of two axes": asking("ConstantOfShape", [10**5, 10**5]),
    "zeros beyond counting": asking("ConstantOfShape", [2**32, 2**32]),
    "a number spread out": asking("Expand", np.float32(1), [10**5, 10**5]),
    "noise": asking("RandomNormal", shape=[10**5, 10**5]),
    "a loop of 2^62 rounds": endless,
}


@pytest.mark.parametrize("edit", ABSURD.values(), ids=ABSURD)
def test_a_graph_that_asks_for_too_much_is_refused_before_it_runs(
    workshop: Workshop, change: Callable[[Change], None], edit: Change
) -> None:
    change(edit)
    with at_most(seconds=60, memory_bytes=1 << 30):
        verify(workshop, "RUN01", "to be run")
        quantize(workshop, "to be run", precision="small")
