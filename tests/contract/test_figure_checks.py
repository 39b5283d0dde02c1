"""Figures of how far a model is from PyTorch, and the limits that a precision sets them."""

import numpy as np
import pytest

from model_release.contract import figure_checks
from model_release.contract.activations import load_contract
from model_release.contract.measures import Agreement, agreement, compare, deviation

FP32 = load_contract().precision("fp32")
INT8 = load_contract().precision("int8-dynamic")
RANDOM = np.random.default_rng(0)


def test_equal_distributions_agree_wholly() -> None:
    logits = RANDOM.normal(size=(1, 20, 50)).astype(np.float32)
    measured = agreement(logits + 3, logits, np.zeros((1, 20), int))  # a constant shift changes no distribution
    assert measured.mean_kl == pytest.approx(0, abs=1e-9)
    assert measured.top1 == measured.top1_or_tie == 1
    assert figure_checks.check_agreement(measured, FP32, vocab=50, on_text=True).findings == ()


def test_kl_is_that_of_the_textbook() -> None:
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.5, 0.25])
    measured = agreement(np.log(q)[None], np.log(p)[None], np.array([1]))
    assert measured.mean_kl == pytest.approx(float((p * np.log(p / q)).sum()))
    assert measured.top1 == measured.top1_or_tie == 0


def test_a_choice_nearly_as_likely_counts_as_a_tie() -> None:
    expected = np.log(np.array([[0.50, 0.46, 0.04]]))
    measured = agreement(expected[:, [1, 0, 2]], expected, np.array([0]))
    assert (measured.top1, measured.top1_or_tie) == (0, 1)


@pytest.mark.parametrize(
    ("mean_kl", "top1", "added_loss", "broken"),
    [
        (0.001, 0.99, 0.01, set()),
        (0.001, 0.99, -0.5, set()),
        (0.5, 0.99, 0.0, {"KL01"}),
        (0.001, 0.5, 0.0, {"TOP01"}),
        (0.001, 0.99, 0.2, {"PPL01"}),
        (np.nan, 0.99, np.nan, {"KL01", "PPL01"}),
        (np.inf, 0.0, np.inf, {"KL01", "TOP01", "PPL01"}),
    ],
)
def test_limits_of_agreement_are_the_precisions(
    mean_kl: float, top1: float, added_loss: float, broken: set[str]
) -> None:
    measured = Agreement(positions=10, mean_kl=mean_kl, top1=top1, top1_or_tie=top1, added_loss=added_loss)
    judgement = figure_checks.check_agreement(measured, INT8, vocab=50, on_text=True)
    assert set(judgement.broken) == broken
    assert set(judgement.held) == {"KL01", "TOP01", "PPL01"} - broken


def test_nan_logits_agree_with_nothing() -> None:
    expected = RANDOM.normal(size=(1, 4, 9)).astype(np.float32)
    measured = agreement(np.full_like(expected, np.nan), expected, np.zeros((1, 4), int))
    assert "KL01" in figure_checks.check_agreement(measured, INT8, vocab=50, on_text=True).broken


def test_deviation_names_the_worst_and_the_whole() -> None:
    expected = np.array([3.0, 4.0], np.float32)
    measured = deviation("logits", [compare(np.array([3.0, 4.5], np.float32), expected)])
    assert measured.max_abs == pytest.approx(0.5)
    assert measured.relative == pytest.approx(0.1)
    assert 0.99 < measured.cosine < 1


def test_a_deviation_is_the_worst_layers_and_a_layers_runs_add_up() -> None:
    right, wrong = (compare(np.array([value], np.float32), np.ones(1, np.float32)) for value in (1.0, 2.0))
    assert (right + wrong).relative == pytest.approx(0.5**0.5)
    assert deviation("q", [right, wrong]).relative == 1
    assert figure_checks.check_deviation(deviation("q", [right, wrong]), INT8).broken == ("REL01",)
    assert figure_checks.check_deviation(deviation("q", [right]), INT8).held == ("REL01",)


def test_perplexity_is_judged_on_text_alone() -> None:
    measured = Agreement(positions=1, mean_kl=0, top1=1, top1_or_tie=1, added_loss=9)
    assert measured.perplexity_ratio == pytest.approx(np.exp(9))
    assert figure_checks.check_agreement(measured, FP32, vocab=50, on_text=False).held == ("KL01", "TOP01")


def test_the_only_token_of_a_vocabulary_is_certain_whatever_the_logits_are() -> None:
    measured = Agreement(positions=9, mean_kl=0, top1=1, top1_or_tie=1, added_loss=0)
    assert figure_checks.check_agreement(measured, FP32, vocab=1, on_text=True).judged == set()
