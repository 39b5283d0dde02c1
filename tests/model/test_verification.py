"""What a verification claims: a clause holds only where the file had something to judge."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from builders import gpt2_folder
from model_release.base.errors import ContractError, NumericMismatchError
from model_release.contract.activations import load_contract
from model_release.contract.clauses import VERIFIED, Finding, Judgement
from model_release.contract.metadata import metadata_from_props
from model_release.contract.tensor_names import parse_tensor_name
from model_release.model.onnx_files.facts import read_facts
from model_release.model.precision.quantize import quantize_file
from model_release.model.verify import verification
from model_release.model.verify.reference import Reference
from model_release.model.verify.report import render_verification, verification_document
from model_release.model.verify.verification import Verification, verify_file
from model_release.model.weights.folder import load_folder

STRUCTURE = {"META01", "IO01", "IO02", "IO03", "IO04", "GRAPH01", "TIED01", "SIZE01"}
ALWAYS = STRUCTURE | {"RUN01", "FIN01", "CONST01", "CAUS01", "BATCH01"}
"""What any file of a model with several tokens and positions lets one judge, as it has logits."""

AGAINST_PYTORCH = {"NUM01", "REL01", "KL01", "TOP01"}


def verified(model: Path, *, weights: Path | None = None, text_ids: Sequence[int] = ()) -> Verification:
    """A verification, whose three groups hold every clause of its stages once."""
    result = verify_file(model, reference=Reference(load_folder(weights)) if weights else None, text_ids=text_ids)
    groups = [*result.clauses, *result.judgement.broken, *result.judgement.nothing_to_judge(VERIFIED)]
    clauses = load_contract().clauses.values()
    assert sorted(groups) == sorted(clause.id for clause in clauses if clause.stage in VERIFIED)
    return result


def keeping(model: Path, kinds: set[str], path: Path) -> Path:
    """A file as `--activations` would have made it: outputs of these kinds, and logits."""
    proto = onnx.load(model)
    outputs = [output for output in proto.graph.output if parse_tensor_name(output.name)[0] in {"logits", *kinds}]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    names = ",".join(kind for kind in load_contract().all_activations if kind in kinds)
    next(prop for prop in proto.metadata_props if prop.key == "model_release.activations").value = names
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def everything(tiny: Path, export: Callable[..., Path]) -> Path:
    """A file with every kind that the model has, those included that are no part of `all`."""
    blueprint = load_folder(tiny).blueprint
    kinds = [kind for kind in load_contract().all_activations if blueprint.has(kind, 0) or blueprint.has(kind, None)]
    return export(tiny, activations=",".join(kinds), all_layers=True)


def test_a_file_with_everything_has_every_clause_judged(tiny: Path, everything: Path) -> None:
    result = verified(everything, weights=tiny, text_ids=range(31))
    assert (result.passed, result.judgement.nothing_to_judge(VERIFIED)) == (True, {})


def test_a_file_with_mlp_outputs_alone_claims_nothing_of_attention(tiny: Path, export: Callable[..., Path]) -> None:
    result = verified(export(tiny, activations="mlp_output"))
    assert set(result.clauses) == ALWAYS
    nothing = {"PROB01", "PROB02", "EMB01", "SUM01", "ATTN01", "LENS01", "PPL01"} | AGAINST_PYTORCH
    assert set(verification_document(result)["nothing_to_judge"]) == nothing
    for style in ("text", "markdown"):
        lines = render_verification(result, style).splitlines()
        (held,) = (line for line in lines if "clauses hold" in line)
        assert held.startswith("13 clauses hold: META01 ")
        assert held.endswith(" (not compared with PyTorch: give --reference)")
        assert not [clause for clause in nothing if clause in held]
        assert [
            line for line in lines if line.strip("| ").startswith("PROB01 ") and line.strip("| ").endswith("attn_probs")
        ]


FURTHER = {
    "attn_probs": {"PROB01", "PROB02"},
    "embedding_sum": {"EMB01"},
    "token_embedding position_embedding embedding_sum": {"EMB01", "SUM01"},
    "resid_pre attn_output resid_mid": {"SUM01"},
    "resid_post resid_pre": {"SUM01"},
    "attn_scores attn_probs": {"PROB01", "PROB02", "ATTN01"},
    "v attn_probs attn_z": {"PROB01", "PROB02", "ATTN01"},
    "logit_lens": {"LENS01"},
}
"""Kinds of activations -> what can be judged besides `ALWAYS`; for all other single kinds it is nothing."""


@pytest.mark.parametrize("kinds", dict.fromkeys((*load_contract().all_activations, *FURTHER)))
def test_kinds_of_activations_decide_what_can_be_judged(
    kinds: str, tiny: Path, everything: Path, tmp_path: Path
) -> None:
    result = verified(keeping(everything, set(kinds.split()), tmp_path / "model.onnx"), weights=tiny)
    assert set(result.clauses) == ALWAYS | AGAINST_PYTORCH | FURTHER.get(kinds, set())


def test_the_last_positions_logits_say_nothing_of_later_tokens(tiny: Path, export: Callable[..., Path]) -> None:
    result = verified(export(tiny, logits="last", activations="logits"), weights=tiny)
    assert set(result.clauses) == ALWAYS - {"CAUS01"} | AGAINST_PYTORCH


SMALLEST: dict[str, tuple[dict[str, Any], set[str]]] = {
    "one position": ({"positions": 1}, {"CONST01", "PROB02", "EMB01", "CAUS01", "LENS01"}),
    "a vocabulary of one": ({"vocab": 1}, {"EMB01", "CAUS01", "LENS01", "KL01", "TOP01", "PPL01"}),
    "both": (
        {"positions": 1, "vocab": 1},
        {"CONST01", "PROB02", "EMB01", "CAUS01", "LENS01", "KL01", "TOP01", "PPL01"},
    ),
}


@pytest.mark.long_cases("one position", "a vocabulary of one")
@pytest.mark.parametrize(("sizes", "nothing"), SMALLEST.values(), ids=SMALLEST.keys())
def test_the_smallest_models_have_less_to_judge(
    sizes: dict[str, Any], nothing: set[str], export: Callable[..., Path], tmp_path: Path
) -> None:
    folder = gpt2_folder(tmp_path / "model", layers=1, **sizes)
    result = verified(export(folder, all_layers=True), weights=folder, text_ids=[0, 0, 0])
    assert list(map(str, result.findings)) == []
    assert set(result.judgement.nothing_to_judge(VERIFIED)) == nothing
    assert result.agreement is not None, "it is measured, if not judged"


def test_a_text_too_short_for_a_window_has_no_perplexity(tiny: Path, everything: Path) -> None:
    result = verified(everything, weights=tiny, text_ids=range(12))
    assert set(result.judgement.nothing_to_judge(VERIFIED)) == {"PPL01"}


def test_a_file_without_any_output_of_the_contract_is_broken_and_nothing_is_run(
    tiny: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    proto = onnx.load(keeping(tiny_onnx, set(), tmp_path / "model.onnx"))
    proto.graph.node.append(helper.make_node("Identity", ["logits"], ["scores"]))
    proto.graph.output[0].name = "scores"
    onnx.save(proto, tmp_path / "model.onnx")
    result = verified(tmp_path / "model.onnx", weights=tiny)
    assert (result.judgement.broken, set(result.clauses)) == (("IO02",), STRUCTURE - {"IO02", "IO03", "IO04"})
    with pytest.raises(ContractError, match="IO02"):
        result.require()


@pytest.mark.parametrize("compared", [False, True])
@pytest.mark.parametrize(
    "name", ["logits", "embedding_sum", "layer_1_attn_probs", "layer_1_attn_z", "layer_1_resid_mid"]
)
def test_an_output_of_another_rank_is_a_finding_and_the_others_are_judged(
    name: str, compared: bool, tiny: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    proto = onnx.load(tiny_onnx)
    for node in proto.graph.node:
        node.output[:] = ["before" if output == name else output for output in node.output]
        node.input[:] = ["before" if read == name else read for read in node.input]
    proto.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "flat"))
    proto.graph.node.append(helper.make_node("Reshape", ["before", "flat"], [name]))
    next(output for output in proto.graph.output if output.name == name).ClearField("type")
    onnx.save(proto, tmp_path / "model.onnx")
    result = verified(tmp_path / "model.onnx", weights=tiny if compared else None)
    assert "RUN01" in result.judgement.broken
    assert {"FIN01", "BATCH01", "CAUS01"} < set(result.clauses)
    with pytest.raises(ContractError):
        result.require()


@pytest.mark.parametrize(
    ("precision", "advice"),
    [
        ("fp16", "0.3. See"),
        ("int8", "0.3. Choose fp16. See"),
        ("int8-dynamic", "0.3. Choose int8 or fp16. See"),
        ("small", "0.3. Choose int8 or fp16, or give --fit more MB. See"),
    ],
)
def test_a_precision_that_loses_too_much_says_what_may_help(tiny_onnx: Path, precision: str, advice: str) -> None:
    result = verified(tiny_onnx)
    finding = Finding(clause="KL01", tensor="logits", message="mean KL must be at most 0.1 nats, got 0.3")
    lossy = replace(
        result,
        metadata=replace(result.metadata, precision=precision),
        judgement=Judgement(judged=frozenset({"KL01"}), findings=(finding,)),
    )
    with pytest.raises(NumericMismatchError, match=re.escape(advice)):
        lossy.require()


@pytest.mark.parametrize("precision", ["fp16", "int4"])
def test_a_large_model_is_decoded_in_each_run_with_the_same_numbers(
    tiny: Path, tiny_onnx: Path, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize_file(tiny_onnx, tmp_path / "model.onnx", precision)
    told: list[list[str]] = []
    results = []
    for most in (verification.MOST_DECODED_BYTES, 0):
        monkeypatch.setattr(verification, "MOST_DECODED_BYTES", most)
        told.append([])
        reference = Reference(load_folder(tiny))
        results.append(verify_file(tmp_path / "model.onnx", reference=reference, progress=told[-1].append))
    said = "a large model: weights are decoded in each run, which takes long and little memory"
    assert [said in lines for lines in told] == [False, True]
    folded, decoded = results
    assert folded.judgement == decoded.judgement
    for one, other in zip(folded.deviations, decoded.deviations, strict=True):
        assert other.relative == pytest.approx(one.relative, abs=1e-5)


def test_only_what_is_decoded_is_large(tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST_DECODED_BYTES", 0)
    large = []
    for precision in ("fp16", "int4", "int4-compute"):
        quantize_file(tiny_onnx, tmp_path / "model.onnx", precision)
        large.append(verification.is_large(metadata_from_props(read_facts(tmp_path / "model.onnx").props)))
    plain = verification.is_large(metadata_from_props(read_facts(tiny_onnx).props))
    assert (plain, large) == (False, [True, True, False])
