"""Keys and values handed from run to run: a sequence that is run in steps gives what one run of it gives."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import helper

from builders import gpt2_folder
from families import EVERY, family_folder, network, token_ids
from model_release.base.errors import ContractError, ExportError
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.clauses import NOTHING_JUDGED, Judgement
from model_release.contract.comparison_checks import check_steps
from model_release.contract.measures import Array
from model_release.contract.output_checks import Run
from model_release.contract.request import SelectionRequest
from model_release.contract.selection import Selection
from model_release.contract.tensor_names import tensor_name
from model_release.model.export.attention import AttentionWatch, route_of
from model_release.model.export.network import Network
from model_release.model.export.seams import Seams
from model_release.model.pipeline import export_model
from model_release.model.precision.quantize import CALIBRATED, CODECS, quantize_file
from model_release.model.verify.probes import cuts_of
from model_release.model.verify.reference import Reference
from model_release.model.verify.verification import CachedReference, verify_file
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import SourceRequest

TURNED_ANEW = "phi3, longrope"
"""Keys of a long sequence are turned in another way than those of a short one, so that none can be kept."""


def judged(name: str, batch: int, cuts: Sequence[int], past_of: Callable[[dict[str, Any], int], Any]) -> Judgement:
    """What STEP01 says of a family's steps, by our functions, against one run of its own code that knows no cache.

    Args:
        name: Of `EVERY`.
        batch: Sequences.
        cuts: Tokens of each step.
        past_of: Outputs of a step and a layer's number -> what the next step is given for that layer.
    """
    (ours, blueprint), (theirs, _) = network(name, in_the_open=True), network(name, in_the_open=False)
    contract = load_contract()
    layers = range(blueprint.layers)
    selection = Selection(layers=tuple(layers), activations=contract.all_activations, cache=True)
    outputs = contract.expected_outputs(blueprint, selection)
    wanted = frozenset(output.name for output in outputs)

    def run(model: Network, ids: Array, **past: Any) -> dict[str, Any]:
        route = route_of(model) if model is ours else "tapped"
        with torch.no_grad(), Seams(model, route=route, wanted=wanted) as seams:
            return seams.run(torch.from_numpy(ids), **past)

    def as_run(ids: Array, seen: dict[str, Any], past: int) -> Run:
        return Run(ids=ids, outputs={name: tensor.numpy() for name, tensor in seen.items()}, past=past)

    ids = token_ids(blueprint, batch, sum(cuts))
    whole = as_run(ids, run(theirs, ids), 0)
    past, steps, start = nothing(blueprint, batch), [], 0
    for cut in cuts:
        part = ids[:, start : start + cut]
        seen = run(ours, part, past=past)
        steps.append(as_run(part, seen, start))
        past, start = [past_of(seen, layer) for layer in layers], start + cut
    return check_steps(whole, steps, outputs, contract.precision("fp32"))


def nothing(blueprint: Blueprint, batch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    sizes = [(blueprint.layer(layer).kv_heads, blueprint.layer(layer).head_dim) for layer in range(blueprint.layers)]
    return [(torch.zeros(batch, heads, 0, width),) * 2 for heads, width in sizes]


def handed_on(seen: dict[str, Any], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    return seen[tensor_name("present_key", layer)], seen[tensor_name("present_value", layer)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EVERY if name != TURNED_ANEW])
def test_steps_of_every_family_give_what_its_own_code_gives_at_once(name: str) -> None:
    found = NOTHING_JUDGED
    for batch, cuts in zip((1, 3), cuts_of(40), strict=True):
        found += judged(name, batch, cuts, handed_on)
    assert list(map(str, found.findings)) == []
    assert found.held == ("STEP01",)


def test_keys_that_a_long_sequence_turns_anew_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = family_folder(tmp_path / "model", EVERY[TURNED_ANEW])
    with pytest.raises(ExportError, match=r"longrope turns all of them anew after 16 tokens\. Give --context 16, or"):
        export_model(SourceRequest(folder=folder), SelectionRequest(cache=True), tmp_path / "model.onnx")


# Mistakes


def of_another_layer(seen: dict[str, Any], layer: int) -> Any:
    return handed_on(seen, 1 - layer)


def of_another_sequence(seen: dict[str, Any], layer: int) -> Any:
    return tuple(tensor.flip(0) for tensor in handed_on(seen, layer))


def one_token_late(seen: dict[str, Any], layer: int) -> Any:
    return tuple(tensor.roll(1, 2) for tensor in handed_on(seen, layer))


@pytest.mark.parametrize("name", ["gpt2", "llama, tied", "mistral", "bloom"])
@pytest.mark.parametrize("mistake", [of_another_layer, of_another_sequence, one_token_late])
def test_keys_and_values_that_belong_elsewhere_are_rejected(mistake: Callable[..., Any], name: str) -> None:
    assert judged(name, 3, (5, 1, 4), mistake).broken == ("STEP01",)


def test_positions_that_do_not_advance_are_rejected_where_they_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    (ours, _) = network("llama, tied", in_the_open=True)
    real = ours.model.forward

    def forward(*, position_ids: torch.Tensor | None = None, **rest: Any) -> Any:
        return real(position_ids=position_ids if position_ids is None else position_ids - position_ids[:, :1], **rest)

    monkeypatch.setattr(ours.model, "forward", forward)
    assert judged("llama, tied", 1, (5, 1, 4), handed_on).broken == ("STEP01",)


def test_a_window_that_is_off_by_one_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    real = AttentionWatch.mask

    def mask(self: AttentionWatch, *, mask_function: Any, **rest: Any) -> torch.Tensor:
        return real(self, mask_function=lambda b, h, q, k: mask_function(b, h, q - 1, k) | (k == q), **rest)

    monkeypatch.setattr(AttentionWatch, "mask", mask)
    assert judged("mistral", 1, (9, 1, 4), handed_on).broken == ("STEP01",)


# Files


def exported(folder: Path, output: Path, **request: Any) -> Path:
    request = {"activations": None, "layers": "-1"} | request
    export_model(SourceRequest(folder=folder), SelectionRequest(cache=True, **request), output)
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt2_folder(tmp_path_factory.mktemp("steps"), layers=3, hidden=32, heads=4, vocab=101, positions=24)


@pytest.fixture(scope="module")
def reference(folder: Path) -> CachedReference:
    return CachedReference(Reference(load_folder(folder)))


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(folder, tmp_path_factory.mktemp("exported") / "model.onnx", layers="0,2")


@pytest.mark.slow
def test_a_file_has_the_names_and_axes_that_clients_know(model: Path) -> None:
    def axes(value: onnx.ValueInfoProto) -> list[int | str]:
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    graph = onnx.load(model).graph
    inputs = {value.name: axes(value) for value in graph.input}
    pairs = [f"{layer}.{part}" for layer in range(3) for part in ("key", "value")]
    assert list(inputs) == ["input_ids", *(f"past_key_values.{pair}" for pair in pairs)]
    assert inputs["past_key_values.1.key"] == ["batch_size", 4, "past", 8]
    outputs = {value.name: axes(value) for value in graph.output}
    assert list(outputs)[-6:] == [f"present.{pair}" for pair in pairs]
    assert outputs["present.1.value"] == ["batch", 4, "total", 8]
    assert outputs["layer_2_attn_probs"] == ["batch", 4, "seq", "total"]
    assert outputs["logits"] == ["batch", "seq", 101]


@pytest.mark.slow
def test_the_file_keeps_every_clause_in_every_precision(
    model: Path, reference: CachedReference, tmp_path: Path
) -> None:
    result = verify_file(model, reference=reference)
    assert list(map(str, result.findings)) == []
    assert "STEP01" in result.clauses
    for precision in (*CODECS, *CALIBRATED):
        quantize_file(model, tmp_path / "other.onnx", precision)
        result = verify_file(tmp_path / "other.onnx", reference=reference)
        # Random weights of width 32 have nothing that rounding to 4 bits could keep.
        fragile = {"NUM01", "REL01", "KL01", "TOP01"} if precision in ("int4", "int4-compute", "small") else set()
        assert {finding.clause for finding in result.findings} <= fragile, precision
        assert "STEP01" in result.clauses


def reader(model: onnx.ModelProto, op_type: str, name: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == op_type and name in node.input)
    return found


def tokens_before(model: onnx.ModelProto) -> str:
    shape = reader(model, "Shape", "past_key_values.0.key")
    return str(reader(model, "Squeeze", shape.output[0]).output[0])


def positions(model: onnx.ModelProto) -> onnx.NodeProto:
    """Positions of the new tokens: the sum of a range and the tokens before."""
    ranges = {node.output[0] for node in model.graph.node if node.op_type == "Range"}
    before = tokens_before(model)
    sums = [node for node in model.graph.node if node.op_type == "Add" and before in node.input]
    found: onnx.NodeProto = next(node for node in sums if not ranges.isdisjoint(node.input))
    return found


def position_not_advanced(model: onnx.ModelProto) -> None:
    table = reader(model, "Gather", "transformer.wpe.weight")
    lookup = next(node for node in model.graph.node if node.output[0] == table.input[1])
    lookup.input[0] = next(name for name in positions(model).input if name != tokens_before(model))


def mask_off_by_one(model: onnx.ModelProto) -> None:
    """After any token a query sees one key too many."""
    compared = next(node for node in model.graph.node if node.op_type == "LessOrEqual")
    queries = next(node for node in model.graph.node if node.output[0] == compared.input[1])
    place = list(model.graph.node).index(queries)
    model.graph.node.insert(place, helper.make_node("Add", [queries.input[0], "one"], ["moved"]))
    model.graph.node.insert(place, helper.make_node("Sign", [tokens_before(model)], ["one"]))
    queries.input[0] = "moved"


def cache_of_another_layer(model: onnx.ModelProto) -> None:
    readers = [reader(model, "Concat", f"past_key_values.{layer}.key") for layer in (0, 1)]
    for node, layer in zip(readers, (1, 0), strict=True):
        node.input[0] = f"past_key_values.{layer}.key"


def keys_taken_for_values(model: onnx.ModelProto) -> None:
    readers = [reader(model, "Concat", f"past_key_values.1.{part}") for part in ("key", "value")]
    readers[0].input[0], readers[1].input[0] = readers[1].input[0], readers[0].input[0]


MISTAKES = [position_not_advanced, mask_off_by_one, cache_of_another_layer, keys_taken_for_values]


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_that_shows_only_after_other_tokens_is_rejected(
    mistake: Callable[[onnx.ModelProto], None], model: Path, tmp_path: Path
) -> None:
    changed = onnx.load(model)
    mistake(changed)
    onnx.save(changed, tmp_path / "model.onnx")
    result = verify_file(tmp_path / "model.onnx")
    assert result.judgement.broken == ("STEP01",)
    with pytest.raises(ContractError, match="STEP01"):
        result.require()


@pytest.mark.slow
def test_a_file_that_lacks_an_input_breaks_the_clause_of_inputs(model: Path, tmp_path: Path) -> None:
    changed = onnx.load(model)
    last = changed.graph.input[-1]
    last.name = "past_key_values.9.value"
    onnx.save(changed, tmp_path / "model.onnx")
    with pytest.raises(ContractError):
        verify_file(tmp_path / "model.onnx").require()
