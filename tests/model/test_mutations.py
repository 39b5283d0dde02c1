"""Graphs broken on purpose: each must be rejected, by the clause one expects.

A mutation edits the exported file the way a careless export script or a later edit would break it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from builders import gpt2_config, gpt2_folder, gpt2_state, save_weights
from model_release.base.errors import ContractError, NumericMismatchError
from model_release.contract.request import SelectionRequest
from model_release.model.pipeline import export_model
from model_release.model.precision.quantize import quantize_file
from model_release.model.verify.reference import Reference
from model_release.model.verify.verification import CachedReference, verify_file
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import SourceRequest

pytestmark = pytest.mark.slow

TABLE = "transformer.wte.weight"
Mutation = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt2_folder(tmp_path_factory.mktemp("mutants"), layers=3, hidden=32, heads=4, vocab=101, positions=24)


@pytest.fixture(scope="module")
def reference(folder: Path) -> CachedReference:
    return CachedReference(Reference(load_folder(folder)))


@pytest.fixture(scope="module")
def exported(folder: Path, export: Callable[..., Path]) -> Path:
    """Layers 0 and 2 with the default activations: what most releases have, and the least to see."""
    return export(folder, layers="0,2", activations=None)


def of_type(model: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op_type]


def bypass(model: onnx.ModelProto, node: onnx.NodeProto, source: str) -> None:
    """Makes readers of a node's output read `source`."""
    for reader in model.graph.node:
        for index, name in enumerate(reader.input):
            if name == node.output[0]:
                reader.input[index] = source


def parameter(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    assert isinstance(found, onnx.TensorProto)
    return found


def set_parameter(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    parameter(model, name).CopyFrom(numpy_helper.from_array(values, name))


def take_over(model: onnx.ModelProto, output: str, op_type: str, *inputs: str, **attributes: Any) -> None:
    """Renames the node behind an output, and computes the output from it by another node."""
    for node in model.graph.node:
        node.output[:] = [f"{output}/before" if name == output else name for name in node.output]
        node.input[:] = [f"{output}/before" if name == output else name for name in node.input]
    model.graph.node.append(helper.make_node(op_type, [f"{output}/before", *inputs], [output], **attributes))


def constant(model: onnx.ModelProto, name: str, values: object, dtype: str = "float32") -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=dtype), name))
    return name


def drop_the_causal_mask(model: onnx.ModelProto) -> None:
    for node in of_type(model, "Where"):
        bypass(model, node, node.input[1])


def swap_queries_and_keys(model: onnx.ModelProto) -> None:
    for node in of_type(model, "Split"):
        node.output[0], node.output[1] = node.output[1], node.output[0]


def forget_the_scale_of_scores(model: onnx.ModelProto) -> None:
    for node in of_type(model, "Where"):
        scaled = next(other for other in model.graph.node if node.input[1] in other.output)
        bypass(model, scaled, scaled.input[0])


def leave_out_the_last_norm(model: onnx.ModelProto) -> None:
    last = of_type(model, "LayerNormalization")[-1]
    bypass(model, last, last.input[0])


def leave_out_positions(model: onnx.ModelProto) -> None:
    set_parameter(model, "transformer.wpe.weight", np.zeros((24, 32), np.float32))


def shift_positions_by_one(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(parameter(model, "transformer.wpe.weight"))
    set_parameter(model, "transformer.wpe.weight", np.roll(values, 1, axis=0))


def return_another_layer_under_the_name(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            node.output[index] = {
                "layer_0_mlp_output": "layer_2_mlp_output",
                "layer_2_mlp_output": "layer_0_mlp_output",
            }.get(name, name)
        for index, name in enumerate(node.input):
            node.input[index] = {
                "layer_0_mlp_output": "layer_2_mlp_output",
                "layer_2_mlp_output": "layer_0_mlp_output",
            }.get(name, name)
    nodes = {name: node for node in model.graph.node for name in node.output}
    ordered: list[onnx.NodeProto] = []
    done: set[str] = {tensor.name for tensor in model.graph.initializer} | {"input_ids", ""}

    def visit(node: onnx.NodeProto) -> None:
        for name in node.input:
            if name not in done:
                visit(nodes[name])
        if node.output[0] not in done:
            done.update(node.output)
            ordered.append(node)

    for node in list(model.graph.node):
        visit(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def store_the_head_apart(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(parameter(model, TABLE))
    model.graph.initializer.append(numpy_helper.from_array(values, "lm_head.weight"))
    of_type(model, "Gemm")[0].input[1] = "lm_head.weight"


def store_the_head_transposed(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(parameter(model, TABLE)).T.copy()
    model.graph.initializer.append(numpy_helper.from_array(values, "head"))
    (node,) = of_type(model, "Gemm")
    node.input[1] = "head"
    node.attribute[0].i = 0


def hide_a_copy_in_a_constant(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(parameter(model, TABLE))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["copy"], value=numpy_helper.from_array(values)))
    of_type(model, "Gemm")[0].input[1] = "copy"


def put_nan_in_a_weight(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(parameter(model, "transformer.h.1.mlp.c_fc.weight")).copy()
    values[3, 5] = np.nan
    set_parameter(model, "transformer.h.1.mlp.c_fc.weight", values)


def return_logits_as_fp16(model: onnx.ModelProto) -> None:
    take_over(model, "logits", "Cast", to=onnx.TensorProto.FLOAT16)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16


def declare_a_fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 1


def declare_a_fixed_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


def fix_a_length_inside(model: onnx.ModelProto) -> None:
    take_over(model, "embedding_sum", "Reshape", constant(model, "fixed", [-1, 7, 32], "int64"))
    model.graph.node.insert(0, model.graph.node.pop())
    order = next(node for node in model.graph.node if "embedding_sum/before" in node.output)
    moved = model.graph.node.pop(0)
    model.graph.node.insert(list(model.graph.node).index(order) + 1, moved)


def forget_to_normalize(model: onnx.ModelProto) -> None:
    take_over(model, "layer_2_attn_probs", "Mul", constant(model, "half", 0.5))


def rename_an_output(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.output[:] = ["attention_0" if name == "layer_0_attn_probs" else name for name in node.output]
        node.input[:] = ["attention_0" if name == "layer_0_attn_probs" else name for name in node.input]
    next(output for output in model.graph.output if output.name == "layer_0_attn_probs").name = "attention_0"


def return_zeros(model: onnx.ModelProto) -> None:
    take_over(model, "layer_2_mlp_output", "Mul", constant(model, "nothing", 0.0))


def mix_the_batch(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("ReduceMean", ["embedding_sum/before", constant(model, "rows", [0], "int64")], ["mean"])
    )
    take_over(model, "embedding_sum", "Add", "mean")


def square_the_embedding(model: onnx.ModelProto) -> None:
    take_over(model, "embedding_sum", "Mul", "embedding_sum/before")


def use_an_operator_of_one_runtime(model: onnx.ModelProto) -> None:
    take_over(model, "logits", "FastGelu")
    model.graph.node[-1].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def ask_for_a_mask(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("attention_mask", onnx.TensorProto.INT64, ["batch", "seq"]))


def claim_another_contract(model: onnx.ModelProto) -> None:
    next(prop for prop in model.metadata_props if prop.key == "model_release.contract_version").value = "2.0.0"


def claim_other_layers(model: onnx.ModelProto) -> None:
    next(prop for prop in model.metadata_props if prop.key == "model_release.layers").value = "0,1"


MUTATIONS: list[tuple[Mutation, str]] = [
    (drop_the_causal_mask, "PROB02"),
    (drop_the_causal_mask, "CAUS01"),
    (swap_queries_and_keys, "NUM01"),
    (forget_the_scale_of_scores, "NUM01"),
    (leave_out_the_last_norm, "NUM01"),
    (leave_out_positions, "NUM01"),
    (shift_positions_by_one, "NUM01"),
    (return_another_layer_under_the_name, "NUM01"),
    (store_the_head_apart, "TIED01"),
    (store_the_head_transposed, "TIED01"),
    (hide_a_copy_in_a_constant, "SIZE01"),
    (put_nan_in_a_weight, "FIN01"),
    (return_logits_as_fp16, "IO03"),
    (declare_a_fixed_batch, "IO04"),
    (declare_a_fixed_input, "IO01"),
    (fix_a_length_inside, "RUN01"),
    (forget_to_normalize, "PROB01"),
    (rename_an_output, "IO02"),
    (return_zeros, "CONST01"),
    (mix_the_batch, "BATCH01"),
    (square_the_embedding, "EMB01"),
    (use_an_operator_of_one_runtime, "GRAPH01"),
    (ask_for_a_mask, "IO01"),
    (claim_another_contract, "META01"),
    (claim_other_layers, "IO02"),
]


@pytest.mark.parametrize(
    ("mutate", "clause"), MUTATIONS, ids=[f"{mutate.__name__}-{clause}" for mutate, clause in MUTATIONS]
)
def test_a_broken_graph_is_rejected_by_the_clause_one_expects(
    mutate: Mutation, clause: str, exported: Path, reference: CachedReference, tmp_path: Path
) -> None:
    model = onnx.load(exported)
    mutate(model)
    broken = tmp_path / "model.onnx"
    onnx.save(model, broken)
    result = verify_file(broken, reference=reference)
    assert clause in {finding.clause for finding in result.findings}
    with pytest.raises((ContractError, NumericMismatchError), match=clause):
        result.require()


def test_the_unbroken_graph_passes(exported: Path, reference: CachedReference) -> None:
    assert verify_file(exported, reference=reference).findings == ()


NUMERIC = [mutate for mutate, clause in MUTATIONS if clause in ("NUM01", "PROB02")]


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic", "int4", "int4-compute", "small"])
@pytest.mark.parametrize("mutate", NUMERIC, ids=[mutate.__name__ for mutate in NUMERIC])
def test_a_looser_precision_still_rejects_wrong_numbers(
    mutate: Mutation, precision: str, exported: Path, reference: CachedReference, tmp_path: Path
) -> None:
    model = onnx.load(exported)
    mutate(model)
    onnx.save(model, tmp_path / "model.onnx")
    quantize_file(tmp_path / "model.onnx", tmp_path / "quantized.onnx", precision)
    assert not verify_file(tmp_path / "quantized.onnx", reference=reference).passed


def test_exact_gelu_in_place_of_gelu_new_is_rejected_as_wrong_numbers(
    reference: CachedReference, tmp_path: Path
) -> None:
    config = gpt2_config(layers=3, hidden=32, heads=4, vocab=101, positions=24)
    changed = tmp_path / "exact"
    save_weights(changed, gpt2_state(config))
    (changed / "config.json").write_text(json.dumps(config | {"activation_function": "gelu"}))
    export_model(SourceRequest(folder=changed), SelectionRequest(layers="0,2"), tmp_path / "model.onnx")
    result = verify_file(tmp_path / "model.onnx", reference=reference)
    assert {finding.clause for finding in result.findings} == {"NUM01", "REL01"}
    with pytest.raises(NumericMismatchError, match="NUM01"):
        result.require()


def test_every_clause_of_the_contract_is_broken_by_a_test() -> None:
    from model_release.contract.activations import load_contract

    elsewhere = {"SUM01", "ATTN01", "LENS01", "REL01", "KL01", "TOP01", "PPL01"}  # tests/contract/test_output_checks.py
    elsewhere |= {"TOK01"}  # tests/browser/test_gate.py
    elsewhere |= {"STEP01"}  # tests/model/test_cache.py
    elsewhere |= {"TOUCH01", "GAIN01", "STEER01"}  # tests/model/test_touch.py
    assert {clause for _, clause in MUTATIONS} | elsewhere == set(load_contract().clauses)
