"""The contract: one source of names, and copies that stay equal to it."""

import doctest
import json
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import COMMANDS
from model_release.base.errors import ContractError, UsageError
from model_release.browser import report
from model_release.browser.pages import plot, sample
from model_release.cli.docs import documents
from model_release.contract import activations as contract_room
from model_release.contract.activations import CONTRACT_FOLDER, load_contract, parse_activations, parse_precisions
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.metadata import ModelMetadata, metadata_from_props
from model_release.contract.request import SelectionRequest
from model_release.contract.selection import Selection, parse_layers
from model_release.model.onnx_files import data_files

SIZES = {"layers": 12, "heads": 12, "hidden": 768, "intermediate": 3072, "vocab": 50257, "positions": 1024}
GPT2 = gpt2_blueprint(**SIZES, tied=True)


@pytest.mark.parametrize("room", [contract_room, data_files, report, plot, sample], ids=lambda room: room.__name__)
def test_examples_in_docstrings_are_true(room: object) -> None:
    assert doctest.testmod(room).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["activations", "families", "models"])
def test_a_file_of_the_contract_fits_its_schema(name: str) -> None:
    schema = json.loads((CONTRACT_FOLDER / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads((CONTRACT_FOLDER / f"{name}.json").read_text()), schema)


def test_documents_hold_what_their_sources_say() -> None:
    for path, text in documents(COMMANDS).items():
        assert path.read_text() == text, f"run python scripts/docs.py: {path.name} is not up to date"


@settings(derandomize=True)
@given(st.lists(st.integers(-12, 11), min_size=1, max_size=20))
def test_layers_come_out_ascending_whatever_their_order_and_repeats(layers: list[int]) -> None:
    assert parse_layers(",".join(map(str, layers)), 12) == tuple(sorted({layer % 12 for layer in layers}))


@settings(derandomize=True)
@given(st.text(max_size=12))
def test_any_text_gives_layers_in_range_or_one_clear_refusal(text: str) -> None:
    try:
        layers = parse_layers(text, 12)
    except UsageError as refusal:
        assert "Use e.g." in str(refusal)
    else:
        assert layers
        assert all(0 <= layer < 12 for layer in layers)


@pytest.mark.parametrize("text", ["", ",", "a", "12", "-13", "3-1", "1.5", "0,", "²", "1\n2", "0x1", "--1", "9" * 400])
def test_layers_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="layers"):
        parse_layers(text, 12)


@pytest.mark.parametrize("text", ["", "nonsense", "attn_probs,", "ATTN_PROBS", "layer_0_q"])
def test_unknown_activations_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match="attn_probs"):
        parse_activations(text)


@pytest.mark.parametrize("text", ["", "fp32", "int7", "fp16,"])
def test_unknown_precisions_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match="int8-dynamic"):
        parse_precisions(text)


def test_outputs_follow_the_contracts_order_layer_after_layer() -> None:
    outputs = load_contract().expected_outputs(GPT2, Selection(layers=(0, 11), activations=parse_activations("all")))
    assert [output.name for output in outputs][:4] == [
        "logits",
        "token_embedding",
        "position_embedding",
        "embedding_sum",
    ]
    assert outputs[-1].name == "final_ln"
    assert [output.layer for output in outputs if output.layer is not None] == [0] * 18 + [11] * 18


def test_keys_and_values_come_after_all_else_and_only_where_they_are_asked_for() -> None:
    contract = load_contract()
    plain = Selection(layers=(11,), activations=("attn_probs",))
    cached = replace(plain, cache=True)
    assert [value.name for value in contract.expected_inputs(GPT2, plain)] == ["input_ids"]
    inputs = contract.expected_inputs(GPT2, cached)
    assert [value.name for value in inputs[:3]] == ["input_ids", "past_key_values.0.key", "past_key_values.0.value"]
    assert (len(inputs), inputs[-1].dims) == (25, ("batch_size", 12, "past", 64))
    outputs = contract.expected_outputs(GPT2, cached)
    assert [(value.name, value.dims[-2:]) for value in outputs[:3]] == [
        ("logits", ("seq", 50257)),
        ("layer_11_attn_probs", ("seq", "total")),
        ("present.0.key", ("total", 64)),
    ]


def test_gains_and_vectors_are_the_last_inputs_with_a_row_a_layer() -> None:
    touched = Selection(layers=(11,), activations=(), cache=True, interventions=True)
    inputs = load_contract().expected_inputs(GPT2, touched)
    assert inputs[0].name == "input_ids"
    assert [(value.name, value.dims) for value in inputs[-2:]] == [("head_gain", (12, 12)), ("steering", (12, 768))]
    plain = replace(touched, interventions=False)
    assert load_contract().expected_inputs(GPT2, plain) == inputs[:-2]
    assert load_contract().expected_outputs(GPT2, plain) == load_contract().expected_outputs(GPT2, touched)


@pytest.mark.parametrize("asked", [False, True])
def test_metadata_reads_back_as_it_was_written(asked: bool) -> None:
    metadata = ModelMetadata(
        contract_version="1.0.0",
        source="openai-community/gpt2",
        revision="0" * 40,
        weights_sha256="f" * 64,
        blueprint=GPT2,
        selection=Selection(layers=(0, 5), activations=(), logits="last", cache=asked, interventions=asked),
        precision="fp16",
    )
    assert metadata_from_props(metadata.to_props()) == metadata
    assert {key in metadata.to_props() for key in ("model_release.cache", "model_release.interventions")} == {asked}


def test_a_file_of_an_older_contract_holds_a_gpt2s_sizes_for_a_blueprint() -> None:
    metadata = ModelMetadata(
        contract_version="1.1.0",
        source="local",
        revision="",
        weights_sha256="f" * 64,
        blueprint=GPT2,
        selection=Selection(layers=(0,), activations=()),
        precision="fp32",
    )
    props = metadata.to_props()
    del props["model_release.blueprint"]
    assert metadata_from_props(props | {"model_release.shape": json.dumps({**SIZES, "tied": True})}) == metadata
    for sizes in ({**SIZES, "tied": True, "layers": 2**31}, {**SIZES, "tied": 1}, {**SIZES}, [1]):
        with pytest.raises(ContractError, match="META01"):
            metadata_from_props(props | {"model_release.shape": json.dumps(sizes)})


def test_a_kind_that_a_model_has_not_is_refused_where_it_is_named_and_left_out_of_all() -> None:
    assert "mlp_up" not in SelectionRequest(activations="all").resolve(GPT2).activations
    with pytest.raises(UsageError, match="have no mlp_up: there is one where the MLP has a gate"):
        SelectionRequest(activations="all,mlp_up").resolve(GPT2)


def test_large_kinds_are_exported_where_they_are_named_alone() -> None:
    assert {"head_output", "logit_lens"}.isdisjoint(parse_activations("all"))
    assert parse_activations("logit_lens") == ("logit_lens",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("contract_version", "one"),
        ("source", "x\n::error::"),
        ("revision", "main"),
        ("weights_sha256", "0"),
        ("blueprint", "[1, 2"),
        ("blueprint", '{"pattern": "A"}'),
        ("blueprint", GPT2.to_json().replace('"hidden":768', '"hidden":-1')),
        ("blueprint", GPT2.to_json().replace('"tied":true', '"tied":"yes"')),
        ("blueprint", GPT2.to_json().replace('"pattern":"AAAA', '"pattern":"ABAA')),
        ("blueprint", GPT2.to_json().replace('"kv_heads":12', '"kv_heads":5')),
        ("blueprint", GPT2.to_json().replace('"rows","tokens"', '"columns","matrix"')),
        ("layers", "99"),
        ("activations", "everything"),
        ("cache", "maybe"),
        ("precision", "int1"),
    ],
)
def test_metadata_that_we_would_not_write_is_refused(key: str, value: str) -> None:
    good = ModelMetadata(
        contract_version="1.0.0",
        source="local",
        revision="",
        weights_sha256="f" * 64,
        blueprint=GPT2,
        selection=Selection(layers=(0,), activations=()),
        precision="fp32",
    )
    with pytest.raises(ContractError, match="META01"):
        metadata_from_props(good.to_props() | {f"model_release.{key}": value})
