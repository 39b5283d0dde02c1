"""Heads switched off and streams steered: what `--interventions` promises, of every family and every precision."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import helper

from builders import gpt2_folder
from families import EVERY, config, family_folder, network, token_ids
from model_release.base.errors import ReleaseError
from model_release.contract.activations import Input, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.clauses import Judgement
from model_release.contract.comparison_checks import check_gains, check_steering
from model_release.contract.measures import Array
from model_release.contract.request import SelectionRequest
from model_release.contract.selection import Selection
from model_release.contract.tensor_names import tensor_name
from model_release.model.export.attention import AttentionWatch, route_of
from model_release.model.export.seams import Seams
from model_release.model.export.survey import draw_blueprint
from model_release.model.export.touch import Touch, join
from model_release.model.export.trace import trace_layers
from model_release.model.onnx_files.session import Session
from model_release.model.pipeline import export_model
from model_release.model.precision.quantize import CALIBRATED, CODECS, quantize_file
from model_release.model.verify.probes import past_of, touch_of
from model_release.model.verify.reference import Reference
from model_release.model.verify.verification import CachedReference, verify_file
from model_release.model.weights.folder import load_folder
from model_release.model.weights.source import SourceRequest

TOUCHED = {"TOUCH01", "GAIN01", "STEER01"}


def touches_of(blueprint: Blueprint) -> tuple[Array, Array]:
    """Gains and vectors of every layer; vectors as large as these tiny models' streams."""
    gain, steering = touch_of(blueprint)
    gain[gain == 1] = 0.75
    return gain, steering


def judged(name: str, path: Path) -> tuple[Judgement, Judgement]:
    """GAIN01 and STEER01 of a family by our functions, against its own code with hooks of PyTorch's."""
    ours, blueprint = network(name, in_the_open=True)
    theirs = Reference(load_folder(family_folder(path / "model", EVERY[name])))
    contract = load_contract()
    layers = tuple(range(blueprint.layers))
    outputs = contract.expected_outputs(
        blueprint, Selection(layers=layers, activations=contract.all_activations, cache=True)
    )
    outputs = tuple(output for output in outputs if not output.name.startswith("present."))
    ids = token_ids(blueprint, 2, 9)
    gain, steering = touches_of(blueprint)

    def run(gain: Array, steering: Array) -> dict[str, Array]:
        touches = [
            Touch(gain=torch.from_numpy(gain[layer, : blueprint.layer(layer).heads]), steering=torch.from_numpy(vector))
            for layer, vector in enumerate(steering)
        ]
        wanted = frozenset(output.name for output in outputs)
        with torch.no_grad(), Seams(ours, route=route_of(ours), wanted=wanted) as seams:
            seen = seams.run(torch.from_numpy(ids), touches=touches)
        return {key: tensor.numpy() for key, tensor in seen.items()}

    precision = contract.precision("fp32")
    return (
        check_gains(
            run(gain, np.zeros_like(steering)), theirs.run(ids, outputs, touch={"head_gain": gain}), outputs, precision
        ),
        check_steering(
            run(np.ones_like(gain), steering),
            theirs.run(ids, outputs, touch={"steering": steering}),
            outputs,
            precision,
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_family_is_touched_as_its_own_code_with_hooks_is(name: str, tmp_path: Path) -> None:
    gains, steering = judged(name, tmp_path)
    assert list(map(str, gains.findings + steering.findings)) == []
    assert (gains + steering).held == ("GAIN01", "STEER01")


# Mistakes of ours

_scaled = Touch.scaled


def of_another_head(self: Touch, z: torch.Tensor) -> torch.Tensor:
    return _scaled(Touch(gain=self.gain.roll(1), steering=self.steering), z)


def of_grouped_heads_in_another_order(self: Touch, z: torch.Tensor) -> torch.Tensor:
    mixed = self.gain.reshape(-1, 2).T.reshape(-1)
    return _scaled(Touch(gain=mixed, steering=self.steering), z)


def not_at_all(_self: Touch, z: torch.Tensor) -> torch.Tensor:
    return z


@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        *((of_another_head, name) for name in ("gpt2", "llama, tied", "bloom")),
        *((not_at_all, name) for name in ("gpt2", "bloom")),
        (of_grouped_heads_in_another_order, "llama, tied"),
    ],
)
def test_gains_that_reach_other_heads_are_rejected(
    mistake: Callable[..., Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Touch, "scaled", mistake)
    gains, steering = judged(name, tmp_path)
    assert (gains.broken, steering.held) == (("GAIN01",), ("STEER01",))


def test_gains_that_are_only_shown_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AttentionWatch.attend

    def attend(self: AttentionWatch, *given: Any, **named: Any) -> Any:
        z, rest = real(self, *given, **named)
        gain = self._touches[self._layer_of[given[0]]].gain
        return torch.where(gain[:, None] == 0, 1.0, 1.0 / gain[:, None]) * z, rest

    network("gpt2", in_the_open=True)  # Before: a look at its sizes runs it untouched.
    monkeypatch.setattr(AttentionWatch, "attend", attend)
    assert judged("gpt2", tmp_path)[0].broken == ("GAIN01",)


# Files

PARTS = """<ir_version: 10, opset_import: ["" : 20]>
agraph (float[b] ids, float[2] layer_0_head_gain, float[3] layer_1_head_gain) => (float[2] first, float[3] second)
{
    first = Neg (layer_0_head_gain)
    second = Neg (layer_1_head_gain)
}"""


def test_parts_become_rows_of_one_input_and_a_layer_with_fewer_heads_reads_the_first_ones() -> None:
    model = ir.from_onnx_text(PARTS)
    wanted = [Input(name="head_gain", dtype="FLOAT", dims=(2, 3)), Input(name="steering", dtype="FLOAT", dims=(2, 5))]
    assert join(model, wanted)
    assert [value.name for value in model.graph.inputs] == ["ids", "head_gain"]
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    gain = np.arange(6, dtype=np.float32).reshape(2, 3)
    first, second = session.run(None, {"ids": gain[0], "head_gain": gain})
    assert (first.tolist(), second.tolist()) == ([0, -1], [-3, -4, -5])
    assert not join(model, wanted)


@pytest.mark.long
@pytest.mark.slow
def test_layers_that_take_keys_and_are_touched_are_still_repeated() -> None:
    """Keys of grouped heads are spread by sizes that a run tells: all layers must ask one input for them."""
    entries = config("llama", layers=14)
    every = tuple(range(14))
    selection = Selection(layers=every, activations=("resid_post",), cache=True, interventions=True)
    model, is_whole = trace_layers(entries, draw_blueprint(entries), selection, None, opset=20)
    assert is_whole
    wanted = {tensor_name(kind, layer) for layer in every for kind in ("past_key", "head_gain")}
    assert wanted <= {value.name for value in model.graph.inputs}


def exported(folder: Path, output: Path, **request: Any) -> Path:
    selection = SelectionRequest(activations="attn_z,head_output,attn_output,resid_post", all_layers=True, **request)
    export_model(SourceRequest(folder=folder), selection, output)
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt2_folder(tmp_path_factory.mktemp("touched"), layers=4, hidden=32, heads=4, vocab=101, positions=24)


@pytest.fixture(scope="module")
def reference(folder: Path) -> CachedReference:
    return CachedReference(Reference(load_folder(folder)))


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(folder, tmp_path_factory.mktemp("exported") / "model.onnx", interventions=True, cache=True)


@pytest.mark.slow
def test_the_inputs_stand_last_and_have_a_row_a_layer(model: Path) -> None:
    inputs = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in onnx.load(model).graph.input
    }
    assert next(iter(inputs)) == "input_ids"
    assert list(inputs.items())[-2:] == [("head_gain", [4, 4]), ("steering", [4, 32])]


@pytest.mark.slow
def test_neutral_values_change_no_bit(folder: Path, model: Path, tmp_path: Path) -> None:
    plain = Session(exported(folder, tmp_path / "plain.onnx", cache=True))
    ids = np.arange(20, dtype=np.int64).reshape(2, 10)
    expected, got = plain.run(ids), Session(model).run(ids)
    assert expected.keys() == got.keys()
    assert [name for name, array in expected.items() if array.tobytes() != got[name].tobytes()] == []


@pytest.mark.slow
def test_a_sequence_in_steps_is_touched_as_one_run_is(folder: Path, model: Path) -> None:
    session = Session(model)
    gain, steering = touches_of(load_folder(folder).blueprint)
    touch: Mapping[str, Array] = {"head_gain": gain, "steering": steering}
    ids = np.arange(12, dtype=np.int64)[None]
    whole = session.run(ids, touch=touch)
    first = session.run(ids[:, :7], touch=touch)
    second = session.run(ids[:, 7:], touch=touch, past=past_of(first))
    np.testing.assert_allclose(second["logits"], whole["logits"][:, 7:], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", *CODECS, *CALIBRATED])
def test_a_file_keeps_the_clauses_in_every_precision(
    precision: str, model: Path, reference: CachedReference, tmp_path: Path
) -> None:
    path = model
    if precision != "fp32":
        path = tmp_path / "other.onnx"
        quantize_file(model, path, precision)
    result = verify_file(path, reference=reference)
    # Random weights of width 32 have nothing that rounding to 4 bits could keep.
    coarse = precision in ("int4", "int4-compute", "small")
    fragile = {"NUM01", "REL01", "KL01", "TOP01", "GAIN01", "STEER01"} if coarse else set()
    assert {finding.clause for finding in result.findings} <= fragile
    assert set(result.clauses) >= TOUCHED - fragile


def rows(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    """Where each layer reads its row, in the layers' order."""
    return [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] == name]


def row_of_another_layer(name: str) -> Callable[[onnx.ModelProto], None]:
    def mistake(model: onnx.ModelProto) -> None:
        readers = rows(model, name)
        readers[1].input[1], readers[2].input[1] = readers[2].input[1], readers[1].input[1]

    return mistake


def ignored(name: str) -> Callable[[onnx.ModelProto], None]:
    """Multiplied with, or added, as if all rows were neutral."""

    def mistake(model: onnx.ModelProto) -> None:
        neutral = next(row.neutral for row in load_contract().interventions if row.name == name)
        tensor = helper.make_tensor("unmoved", onnx.TensorProto.FLOAT, [1], [neutral])
        model.graph.initializer.append(tensor)
        for node in rows(model, name):
            where = [other for other in model.graph.node if node.output[0] in other.input]
            for other in where:
                if other.op_type in ("Add", "Mul"):
                    other.input[list(other.input).index(node.output[0])] = "unmoved"
                else:  # A row gets axes first.
                    for reader in (each for each in model.graph.node if other.output[0] in each.input):
                        reader.input[list(reader.input).index(other.output[0])] = "unmoved"

    return mistake


def an_earlier_layer_is_touched_too(model: onnx.ModelProto) -> None:
    readers = rows(model, "head_gain")
    readers[0].input[1] = readers[2].input[1]


MISTAKES = {
    "gain of another layer": (row_of_another_layer("head_gain"), {"GAIN01"}),
    "steering of another layer": (row_of_another_layer("steering"), {"STEER01"}),
    "gain ignored": (ignored("head_gain"), {"GAIN01"}),
    "steering ignored": (ignored("steering"), {"STEER01"}),
    "an earlier layer touched": (an_earlier_layer_is_touched_too, {"GAIN01", "TOUCH01"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_that_shows_only_when_a_run_is_touched_is_rejected(
    name: str, model: Path, reference: CachedReference, tmp_path: Path
) -> None:
    mistake, clauses = MISTAKES[name]
    changed = onnx.load(model)
    mistake(changed)
    onnx.save(changed, tmp_path / "model.onnx")
    result = verify_file(tmp_path / "model.onnx", reference=reference)
    assert set(result.judgement.broken) >= clauses
    assert set(result.judgement.broken) <= TOUCHED
    with pytest.raises(ReleaseError, match=r"GAIN01|STEER01"):
        result.require()
