"""Exported graphs against PyTorch: every output of every layer, on shapes and switches GPT-2 configs come in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from transformers import GPT2LMHeadModel

from builders import gpt2_folder
from model_release.base.errors import ExportError
from model_release.contract.activations import load_contract
from model_release.contract.request import SelectionRequest
from model_release.contract.selection import parse_layers
from model_release.model.export.sizes import name_dimensions
from model_release.model.onnx_files.file import read_model
from model_release.model.pipeline import export_model
from model_release.model.verify.reference import Reference
from model_release.model.verify.verification import Verification, verify_file
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import SourceRequest

EVERY = "all,head_output,logit_lens"

VARIANTS: dict[str, dict[str, Any]] = {
    "untied head, odd sizes, exact GELU, another epsilon, float16 in the config": {
        "layers": 1,
        "tied": False,
        "hidden": 21,
        "heads": 3,
        "vocab": 257,
        "activation_function": "gelu",
        "layer_norm_epsilon": 1e-3,
        "dtype": "float16",
    },
    "one head, vocabulary of 3, narrow MLP, ReLU, unscaled attention": {
        "layers": 1,
        "heads": 1,
        "vocab": 3,
        "n_inner": 5,
        "activation_function": "relu",
        "scale_attn_weights": False,
    },
    "reordered attention scaled by layer, dropout left on": {
        "layers": 2,
        "scale_attn_by_inverse_layer_idx": True,
        "reorder_and_upcast_attn": True,
        "resid_pdrop": 0.5,
        "embd_pdrop": 0.5,
        "attn_pdrop": 0.5,
    },
    "one position": {"layers": 1, "positions": 1},
    "two positions, as wide as its vocabulary": {
        "layers": 1,
        "positions": 2,
        "hidden": 16,
        "vocab": 64,
        "n_inner": 64,
    },
}
"""What configs switch, several at a time: each switch that is passed over changes every number."""


def verified(folder: Path, model: Path) -> Verification:
    """A verification of every clause, against PyTorch."""
    return verify_file(model, reference=Reference(load_folder(folder)))


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_output_of_every_layer_equals_pytorch(
    variant: dict[str, Any], tmp_path: Path, export: Callable[..., Path]
) -> None:
    folder = gpt2_folder(tmp_path / "model", **variant)
    result = verified(folder, export(folder, activations=EVERY, all_layers=True))
    assert list(map(str, result.findings)) == []
    blueprint = result.metadata.blueprint
    assert {row.kind for row in result.deviations} == {*blueprint.outputs, *blueprint.layer(0).outputs}


def test_every_layer_and_activation_of_a_deeper_model_equals_pytorch(tiny: Path, tiny_onnx: Path) -> None:
    result = verified(tiny, tiny_onnx)
    assert list(map(str, result.findings)) == []
    assert max(row.max_abs for row in result.deviations if row.kind in ("logits", "attn_probs")) < 1e-5


def test_the_reference_is_what_transformers_itself_returns(tiny: Path) -> None:
    ids = np.arange(12)[None]
    blueprint = load_folder(tiny).blueprint
    outputs = load_contract().expected_outputs(
        blueprint, SelectionRequest(all_layers=True, activations=EVERY).resolve(blueprint)
    )
    ours = Reference(load_folder(tiny)).run(ids, outputs)
    model = GPT2LMHeadModel.from_pretrained(tiny, attn_implementation="eager")
    theirs = model(torch.from_numpy(ids), output_attentions=True, output_hidden_states=True)
    np.testing.assert_array_equal(ours["logits"], theirs.logits.detach().numpy())
    for layer in range(3):
        np.testing.assert_array_equal(ours[f"layer_{layer}_attn_probs"], theirs.attentions[layer].detach().numpy())
        np.testing.assert_array_equal(ours[f"layer_{layer}_resid_pre"], theirs.hidden_states[layer].detach().numpy())
    np.testing.assert_array_equal(ours["final_ln"], theirs.hidden_states[-1].detach().numpy())


@pytest.mark.parametrize("layers", ["0", "1", "-1", "0,2", "0-2"])
def test_only_the_layers_asked_for_are_returned(layers: str, tiny: Path, export: Callable[..., Path]) -> None:
    model = onnxruntime.InferenceSession(export(tiny, layers=layers, activations="attn_probs"))
    wanted = [f"layer_{layer}_attn_probs" for layer in parse_layers(layers, 3)]
    assert [output.name for output in model.get_outputs()] == ["logits", *wanted]


def test_last_logits_are_the_last_position_of_all_logits(
    tiny: Path, tiny_onnx: Path, export: Callable[..., Path]
) -> None:
    ids = {"input_ids": np.arange(10).reshape(2, 5)}
    last = export(tiny, logits="last", activations="logits")
    (short,) = onnxruntime.InferenceSession(last).run(["logits"], ids)
    (full,) = onnxruntime.InferenceSession(tiny_onnx).run(["logits"], ids)
    assert short.shape == (2, 1, 31)
    np.testing.assert_allclose(short, full[:, -1:], atol=1e-6)
    assert verified(tiny, last).passed


@pytest.mark.long_cases("25")
@pytest.mark.parametrize("opset", [load_contract().min_opset, load_contract().max_opset])
def test_other_opsets_give_the_same_numbers(opset: int, tiny: Path, export: Callable[..., Path]) -> None:
    model = export(tiny, opset=opset, all_layers=True)
    assert onnx.load(model).opset_import[0].version == opset
    assert verified(tiny, model).passed


@pytest.mark.slow
def test_exporting_twice_gives_identical_bytes(tiny: Path, tmp_path: Path) -> None:
    request = SelectionRequest(layers="0,2")
    for name in ("a", "b"):
        export_model(SourceRequest(folder=tiny), request, tmp_path / name / "model.onnx")
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_a_file_names_no_path_of_the_machine_that_made_it(tiny_onnx: Path) -> None:
    content = tiny_onnx.read_bytes()
    assert str(Path.home()).encode() not in content
    assert b"site-packages" not in content
    assert b".py" not in content


def test_matrix_products_stand_without_reshapes_around_them(tiny_onnx: Path) -> None:
    nodes = [node.op_type for node in onnx.load(tiny_onnx).graph.node]
    assert nodes.count("Gemm") == 1  # the tied head
    assert nodes.count("Reshape") == 3 * 4 + 2  # q, k, v and z of each layer; around the head
    assert nodes.count("LessOrEqual") == 1  # one mask for all layers


def test_a_tied_head_reads_the_embedding_table_as_it_lies(tiny_onnx: Path) -> None:
    """A table turned for the head would be held beside the one that is looked up."""
    model = onnx.load(tiny_onnx)
    readers = {node.op_type for node in model.graph.node if "transformer.wte.weight" in node.input}
    assert readers == {"Gather", "Gemm"}


def test_naming_dimensions_twice_changes_nothing(tiny_onnx: Path) -> None:
    assert name_dimensions(read_model(tiny_onnx)) is False


def test_a_dimension_that_is_computed_has_the_name_of_what_it_comes_to() -> None:
    """As BLOOM's attention has them, whose last axis is what is left of the others."""
    ids = ir.val("input_ids", ir.DataType.INT64, ["s72", "s70"])
    scores = ir.val("scores", ir.DataType.FLOAT, ["s72", 6, "((s70**2)//s70)", "s70 + 1"])
    node = ir.node("Cast", [ids], outputs=[scores])
    model = ir.Model(ir.Graph([ids], [scores], nodes=[node], opset_imports={"": 20}), ir_version=10)
    assert name_dimensions(model) is True
    assert list(map(str, ids.shape or ())) == ["batch", "seq"]
    assert list(map(str, scores.shape or ())) == ["batch", "6", "seq", "s70 + 1"]
    assert name_dimensions(model) is False


def test_an_activation_function_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    folder = gpt2_folder(tmp_path / "model", activation_function="frobnicate")
    with pytest.raises(ExportError, match="config"):
        export_model(SourceRequest(folder=folder), SelectionRequest(), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
