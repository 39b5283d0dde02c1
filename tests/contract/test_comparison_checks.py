"""Comparisons on plain arrays: how far outputs may be from PyTorch's, and from those of another run."""

import tracemalloc

import numpy as np
import pytest

from model_release.contract import comparison_checks
from model_release.contract.activations import Output, load_contract
from model_release.contract.measures import compare
from model_release.contract.output_checks import Run
from model_release.contract.precision import Precision

FP32 = load_contract().precision("fp32")
INT8 = load_contract().precision("int8-dynamic")
RANDOM = np.random.default_rng(0)
EMBEDDING = (Output(name="embedding_sum", kind="embedding_sum", layer=None, dims=("batch", "seq", 4)),)


def a_run(ids: list[list[int]], **outputs: np.ndarray) -> Run:
    return Run(ids=np.array(ids), outputs={name: array.astype(np.float32) for name, array in outputs.items()})


def test_the_tolerance_is_relative_to_the_row_and_not_to_the_element() -> None:
    output = (Output(name="embedding_sum", kind="embedding_sum", layer=None, dims=("batch", "seq", 4)),)
    expected = np.array([[[1000.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]], np.float32)
    near = expected.copy()
    near[0, 0, 2] = 0.005  # within 1e-5 of a row that reaches 1000
    judgement = comparison_checks.check_reference({"embedding_sum": near}, {"embedding_sum": expected}, output, FP32)
    assert judgement.held == ("NUM01",)
    near[0, 1, 2] = 0.005  # but not of a row that reaches 1
    judgement = comparison_checks.check_reference({"embedding_sum": near}, {"embedding_sum": expected}, output, FP32)
    (finding,) = judgement.findings
    assert finding.clause == "NUM01"
    assert "(0, 1, 2)" in finding.message


def test_a_few_elements_of_integer_products_may_be_further_off_and_nothing_else_may() -> None:
    output = (Output(name="embedding_sum", kind="embedding_sum", layer=None, dims=("batch", "seq", 10)),)
    expected = np.ones((1, 10, 10), np.float32)

    def holds(far: int, value: float, precision: Precision) -> bool:
        got = expected.copy()
        got.reshape(-1)[:far] = value
        judgement = comparison_checks.check_reference(
            {"embedding_sum": got}, {"embedding_sum": expected}, output, precision
        )
        return judgement.held == ("NUM01",)

    assert INT8.max_far_share == 0.05
    assert holds(5, 9, INT8)
    assert not holds(6, 9, INT8)
    assert not holds(1, np.nan, INT8)
    assert not holds(1, np.inf, INT8)
    assert not holds(1, 9, FP32)


def test_large_outputs_are_compared_part_by_part_and_the_worst_of_all_is_named() -> None:
    """Logits of a long context and a large vocabulary are gigabytes; nothing is made that is as large."""
    output = (Output(name="logits", kind="logits", layer=None, dims=("batch", "seq", 2**17)),)
    expected = np.ones((1, 96, 2**17), np.float32)
    got = expected.copy()
    got[0, 30, 2], got[0, 70, 5], got[0, 95, 7] = 2, 4, 3
    tracemalloc.start()
    measured = compare(got, expected)
    (finding,) = comparison_checks.check_reference({"logits": got}, {"logits": expected}, output, FP32).findings
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < expected.nbytes
    assert (measured.max_abs, measured.error) == (3, 1 + 9 + 4)
    assert "got 4 for 1 at (0, 70, 5); largest difference 3" in finding.message


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ([[1, 2, 3]], [[1, 2, 4]], {"CAUS01"}),
        ([[1, 2, 3]], [[1, 2, 3]], set()),
        ([[1, 2, 3]], [[2, 2, 4]], set()),
        ([[1]], [[1]], set()),
    ],
    ids=["a later token differs", "none differs", "the first differs", "one token"],
)
def test_causality_is_judged_where_later_tokens_differ(
    before: list[list[int]], after: list[list[int]], wanted: set[str]
) -> None:
    values = RANDOM.normal(size=(1, len(before[0]), 4))
    first, second = (a_run(ids, embedding_sum=values) for ids in (before, after))
    assert comparison_checks.check_causality(first, second, EMBEDDING, FP32).judged == wanted


def test_causality_and_batches_need_outputs_with_these_axes() -> None:
    values = RANDOM.normal(size=(1, 1, 4))
    first, second = (a_run([[1, token]], logits=values, position_embedding=values) for token in (2, 3))
    last = Output(name="logits", kind="logits", layer=None, dims=("batch", 1, 4))
    assert comparison_checks.check_causality(first, second, (last,), FP32).judged == set()
    positions = Output(name="position_embedding", kind="position_embedding", layer=None, dims=(1, "seq", 4))
    assert comparison_checks.check_batch_rows(first, first, 0, (positions,), FP32).judged == set()
    assert comparison_checks.check_batch_rows(first, first, 0, (positions, last), FP32).held == ("BATCH01",)


def test_outputs_without_a_reference_are_not_compared() -> None:
    got = {"embedding_sum": np.zeros((1, 2, 4), np.float32)}
    assert comparison_checks.check_reference(got, {}, EMBEDDING, FP32).judged == set()
