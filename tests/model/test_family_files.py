"""Exported files of families, one for each way in which graphs differ: plain, and with all inputs there are."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.torch import load_file, save_file

from commands import traced_once
from families import EVERY, RELATIVE, every_output, family_folder
from model_release.contract.request import SelectionRequest
from model_release.model.onnx_files.session import Session
from model_release.model.pipeline import export_model
from model_release.model.precision.quantize import CALIBRATED, CODECS, quantize_file
from model_release.model.verify.reference import Reference
from model_release.model.verify.verification import CachedReference, verify_file
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import SourceRequest

pytestmark = pytest.mark.slow

PLAIN: dict[str, dict[str, Any]] = {
    "llama, yarn rope, biases": {"num_hidden_layers": 3},  # Of which two are traced, and one is a copy.
    "gemma3_text": {},
    "gpt_neox, parallel": {"num_hidden_layers": 1},
    "opt": {"num_hidden_layers": 1},
    "mixtral": {"num_hidden_layers": 1},
    "falcon, new": {"num_hidden_layers": 1},
}
"""Families, and what is otherwise in their tiny configs: layers that are the same are no other graph."""

WITH_INPUTS = {
    "gemma3_text": "two kinds of layers, windows and rotary positions that differ",
    "bloom": "attention that the family writes out, and positions as a bias",
    "falcon, new": "keys that the family repeats for its queries",
    "gptj": "attention as a method, and positions by table",
    "gpt_oss": "sinks and experts",
}


def all_kinds(folder: Path) -> set[str]:
    return {output.kind for output in every_output(load_folder(folder).blueprint)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """The folder of a family of `PLAIN`, and its file with every kind of output."""

    @cache
    def make(name: str) -> tuple[Path, Path]:
        place = tmp_path_factory.mktemp("family")
        folder, model = family_folder(place / "model", EVERY[name] | PLAIN[name]), place / "model.onnx"
        with traced_once():
            export_model(SourceRequest(folder=folder), everything(folder), model)
        return folder, model

    return make


def everything(folder: Path) -> SelectionRequest:
    return SelectionRequest(activations=",".join(sorted(all_kinds(folder))), all_layers=True)


@pytest.mark.long_cases("gemma3_text", "falcon, new", "gpt_neox, parallel", "llama, yarn rope, biases")
@pytest.mark.parametrize("name", PLAIN)
def test_a_file_keeps_every_clause_in_every_precision(
    name: str, exported: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    folder, model = exported(name)
    kinds = all_kinds(folder)
    reference = CachedReference(Reference(load_folder(folder)))
    result = verify_file(model, reference=reference)
    assert list(map(str, result.findings)) == []
    assert {row.kind for row in result.deviations} == kinds
    assert max(row.relative for row in result.deviations) <= RELATIVE
    for precision in (*CODECS, *CALIBRATED):
        quantize_file(model, tmp_path / "other.onnx", precision)
        broken = {finding.clause for finding in verify_file(tmp_path / "other.onnx", reference=reference).findings}
        # Random weights of width 48 have nothing that rounding to 4 bits could keep, and a random router is so
        # undecided that any rounding makes it choose other experts.
        is_fragile = precision in ("int4", "int4-compute", "small") or "expert_weights" in kinds
        assert broken <= ({"NUM01", "REL01", "KL01", "TOP01"} if is_fragile else set()), precision


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(EVERY.keys() - PLAIN.keys()))
def test_a_file_of_any_family_keeps_every_clause(name: str, tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", EVERY[name])
    export_model(SourceRequest(folder=folder), everything(folder), tmp_path / "model.onnx")
    result = verify_file(tmp_path / "model.onnx", reference=Reference(load_folder(folder)))
    assert list(map(str, result.findings)) == []
    assert {row.kind for row in result.deviations} == all_kinds(folder)


@pytest.mark.long_cases("gemma3_text", "bloom", "falcon, new", "gpt_oss")
@pytest.mark.parametrize("name", WITH_INPUTS)
def test_a_file_that_takes_keys_and_is_touched_keeps_every_clause(name: str, tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", EVERY[name])
    request = SelectionRequest(
        activations="attn_probs,q,k,v,attn_z,head_output,attn_output,resid_post",
        all_layers=True,
        logits="last",
        cache=True,
        interventions=True,
    )
    export_model(SourceRequest(folder=folder), request, tmp_path / "model.onnx")
    result = verify_file(tmp_path / "model.onnx", reference=Reference(load_folder(folder)))
    assert list(map(str, result.findings)) == []
    assert set(result.clauses) >= {"STEP01", "TOUCH01", "GAIN01", "STEER01"}
    assert {"present_key", "present_value"} <= {row.kind for row in result.deviations}


def operators(model: Path) -> set[str]:
    return {node.op_type for node in onnx.load(model).graph.node}


@pytest.mark.long_cases("gemma3_text")
@pytest.mark.parametrize("name", ["llama, yarn rope, biases", "gemma3_text"])
def test_cosines_are_looked_up(name: str, exported: Callable[[str], tuple[Path, Path]]) -> None:
    """WebGPU's cosines are coarse: those of all positions are constants, which every runtime reads as they are."""
    assert {"Cos", "Sin"}.isdisjoint(operators(exported(name)[1]))


def test_cosines_are_computed_where_angles_follow_the_sequences_length(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", EVERY["phi3, longrope"] | {"num_hidden_layers": 1})
    export_model(SourceRequest(folder=folder), SelectionRequest(activations="logits"), tmp_path / "model.onnx")
    assert {"Cos", "Sin"} <= operators(tmp_path / "model.onnx")


def test_one_huge_number_after_a_gate_costs_the_others_of_its_token_little_in_int8(
    exported: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    """As in trained models with gates: one number a thousand times as large as the others, which still count."""
    name = "llama, yarn rope, biases"
    exported(name)  # Whose graph this is.
    folder = family_folder(tmp_path / "model", EVERY[name] | PLAIN[name])
    state = load_file(folder / "model.safetensors")
    for part in ("gate", "up"):
        state[f"model.layers.0.mlp.{part}_proj.weight"][7] *= 30
    state["model.layers.0.mlp.down_proj.weight"][:, 7] /= 1000
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with traced_once():
        export_model(SourceRequest(folder=folder), everything(folder), tmp_path / "model.onnx")
    quantize_file(tmp_path / "model.onnx", tmp_path / "q.onnx", "int8-dynamic")
    ids, names = np.arange(24)[None], ["layer_0_mlp_gelu", "layer_0_mlp_output"]
    (act, expected), (_, got) = (Session(tmp_path / name).run(ids, names).values() for name in ("model.onnx", "q.onnx"))
    assert np.abs(act[..., 7]).max() > 300 * np.median(np.abs(act))
    lost = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert lost <= 0.1  # Steps that span the huge number lose 0.38.
