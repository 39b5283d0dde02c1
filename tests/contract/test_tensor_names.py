"""Names of tensors: one function makes them, another reads them back."""

import doctest
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from model_release.contract import tensor_names
from model_release.contract.activations import CONTRACT_FOLDER, load_contract
from model_release.contract.tensor_names import parse_tensor_name, tensor_name

KINDS = [output.kind for output in load_contract().outputs if output.layered]


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(tensor_names).failed == 0


@settings(derandomize=True)
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_a_tensor_name_gives_back_its_kind_and_layer(kind: str, layer: int) -> None:
    assert parse_tensor_name(tensor_name(kind, layer)) == (kind, layer)


def test_a_name_in_the_contract_is_the_one_the_function_makes() -> None:
    rows = json.loads((CONTRACT_FOLDER / "activations.json").read_text())["outputs"]
    for row in rows:
        layered = "{L}" in row["name"]
        made = tensor_name(row["kind"], 7 if layered else None)
        assert row["name"].replace("{L}", "7") == made
