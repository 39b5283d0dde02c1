"""Widths for a budget: the file fits and loses least, and one sentence says so where nothing fits."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from builders import gpt2_folder
from model_release.base.errors import ContractError, QuantizeError
from model_release.contract.activations import load_contract
from model_release.contract.blueprint import gpt2_blueprint
from model_release.contract.file_checks import check_structure, stored_bytes
from model_release.contract.metadata import metadata_from_props
from model_release.contract.request import Budget
from model_release.model.onnx_files.data_files import model_bytes
from model_release.model.onnx_files.facts import read_facts
from model_release.model.precision.budget import LOSSES, expected_loss, fit_widths, least_bytes
from model_release.model.precision.quantize import quantize_file
from model_release.model.verify.verification import verify_file

SMALL = load_contract().precision("small")
MODEL = gpt2_blueprint(layers=1, heads=4, hidden=192, vocab=2000, positions=32, intermediate=768, tied=True)
NAMES = [name for name, parameter in MODEL.parameters.items() if not parameter.is_vector]
LEAST = least_bytes(MODEL, SMALL)
LOSS = dict(zip(NAMES, (0.02, 0.0001, 0.03, 0.001, 0.004, 0.09), strict=True))


def size(widths: dict[str, int]) -> int:
    return stored_bytes(MODEL, SMALL.fitted(widths))


@pytest.mark.parametrize("more_bytes", [0, 1, 10_000, 100_000, 10**9])
def test_what_is_chosen_fits(more_bytes: int) -> None:
    widths = fit_widths(MODEL, SMALL, LOSS, LEAST + more_bytes)
    assert list(widths) == NAMES
    assert size(widths) <= LEAST + more_bytes


def test_the_least_is_what_the_coarsest_codes_take_and_all_the_room_makes_all_codes_fine() -> None:
    assert set(fit_widths(MODEL, SMALL, LOSS, LEAST).values()) == {4}
    assert set(fit_widths(MODEL, SMALL, LOSS, 10**9).values()) == {1}


def test_no_other_choice_of_the_same_size_is_expected_to_lose_much_less() -> None:
    """Marginal gains leave at most what one more step would save; every choice there is, compared."""
    budget = LEAST + 60_000
    found = expected_loss(MODEL, SMALL, LOSS, fit_widths(MODEL, SMALL, LOSS, budget))
    choices = (dict(zip(NAMES, each, strict=True)) for each in product(LOSSES, repeat=len(NAMES)))
    best = min(expected_loss(MODEL, SMALL, LOSS, each) for each in choices if size(each) <= budget)
    assert best <= found <= 1.15 * best


def test_what_matters_more_is_stored_finer() -> None:
    names = ("transformer.h.0.attn.c_proj.weight", "transformer.h.0.attn.c_attn.weight")
    for more, less in (names, names[::-1]):
        widths = fit_widths(MODEL, SMALL, {**dict.fromkeys(NAMES, 1e-4), more: 1.0, less: 1e-9}, LEAST + 40_000)
        assert widths[more] < widths[less]


def test_equal_losses_are_told_apart_by_name_and_none_at_all_does_no_harm() -> None:
    widths = fit_widths(MODEL, SMALL, dict.fromkeys(NAMES, 0.0), LEAST + 50_000)
    assert widths == fit_widths(MODEL, SMALL, dict.fromkeys(reversed(NAMES), 0.0), LEAST + 50_000)


@pytest.fixture(scope="module")
def model(export: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that codebooks do not decide."""
    folder = tmp_path_factory.mktemp("budget") / "model"
    gpt2_folder(folder, hidden=96, heads=4, vocab=700)
    return export(folder)


@pytest.fixture(scope="module")
def plain_bytes(model: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    path = tmp_path_factory.mktemp("plain") / "q.onnx"
    quantize_file(model, path, "small")
    return model_bytes(path)


@pytest.mark.long_cases("0.99")
@pytest.mark.slow
@pytest.mark.parametrize("share", [0.99, 1.05])
def test_a_file_that_is_asked_for_fits_keeps_the_contract_and_says_its_widths(
    share: float, plain_bytes: int, model: Path, tmp_path: Path
) -> None:
    budget = round(plain_bytes * share)
    made = quantize_file(model, tmp_path / "q.onnx", "small", budget=Budget(size_bytes=budget, is_asked=True))
    assert 0.9 * budget < model_bytes(tmp_path / "q.onnx") <= budget
    assert len(set(made.widths.values())) > 1
    assert metadata_from_props(read_facts(tmp_path / "q.onnx").props) == made
    assert list(map(str, verify_file(tmp_path / "q.onnx").findings)) == []


@pytest.mark.slow
def test_what_nobody_asked_for_is_fitted_where_little_is_lost(plain_bytes: int, model: Path, tmp_path: Path) -> None:
    target, budget = tmp_path / "q.onnx", Budget(size_bytes=plain_bytes - 1, is_asked=False)
    said: list[str] = []
    assert quantize_file(model, target, "small", budget=budget, note=said.append).widths
    assert model_bytes(target) <= budget.size_bytes
    assert said[0].startswith("note: small is fitted to ")


@pytest.mark.slow
def test_widths_that_are_not_the_files_are_noticed(plain_bytes: int, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.onnx"
    made = quantize_file(model, target, "small", budget=Budget(size_bytes=plain_bytes, is_asked=True))
    digits = made.to_props()["model_release.widths"]
    facts = read_facts(target)
    finer = metadata_from_props({**facts.props, "model_release.widths": "1" * len(digits)})
    assert any("SIZE01" in str(finding) for finding in check_structure(facts, finer).findings)
    for wrong in (digits[1:], f"5{digits[1:]}", ""):
        with pytest.raises(ContractError, match="metadata widths must match"):
            metadata_from_props({**facts.props, "model_release.widths": wrong})


@pytest.mark.slow
def test_a_file_that_fits_anyway_stays_as_it_is(plain_bytes: int, model: Path, tmp_path: Path) -> None:
    for name, budget in (("a", None), ("b", Budget(size_bytes=plain_bytes, is_asked=False))):
        assert not quantize_file(model, tmp_path / name, "small", budget=budget).widths
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.slow
def test_where_nothing_fits_one_sentence_says_the_smallest_size(plain_bytes: int, model: Path, tmp_path: Path) -> None:
    target = tmp_path / "q.onnx"
    with pytest.raises(QuantizeError, match=r"small must fit 0\.01 MB, the smallest that this model gets is 0\.\d MB"):
        quantize_file(model, target, "small", budget=Budget(size_bytes=10_000, is_asked=True))
    assert not target.exists()
    said: list[str] = []
    budget = Budget(size_bytes=10_000, is_asked=False)
    assert not quantize_file(model, target, "small", budget=budget, note=said.append).widths
    assert model_bytes(target) == plain_bytes
    assert "the smallest that this model gets is" in said[0]
