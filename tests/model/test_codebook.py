"""Rounding to codes: scales chosen by error, codebooks, and errors that are compensated."""

import doctest
from itertools import product

import numpy as np
import pytest

from lloyd import normal_points
from model_release.base.errors import QuantizeError
from model_release.contract import storage as storage_room
from model_release.contract.storage import Storage
from model_release.model.precision.blocks import Blocks
from model_release.model.precision.codebook import Codebook, codes_of
from model_release.model.precision.gptq import Compensation, RoundInputs, encode_columns, encode_rows

INT8 = Storage(bits=8, weights=1, block=256, scale_bits=16)
PAIRS = Storage(bits=8, weights=2, block=32, scale_bits=16)
TRIPLES = Storage(bits=8, weights=3, block=192, scale_bits=16)
FOURS = Storage(bits=8, weights=4, block=192, scale_bits=16)
NIBBLES = Storage(bits=4, weights=1, block=32, scale_bits=16)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def decoded(values: np.ndarray, storage: Storage) -> np.ndarray:
    blocks = Blocks(storage, values.shape, "w")
    return np.asarray(blocks.decode(*blocks.encode(values)))


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """Mean square of the difference in that of the values."""
    return float(np.square(got - expected).sum() / np.square(expected).sum())


def plainly_rounded(values: np.ndarray, levels: int, block: int) -> np.ndarray:
    """Round-to-nearest with a scale that follows the largest value."""
    blocks = values.reshape(len(values), -1, block)
    scale = np.abs(blocks).max(axis=-1, keepdims=True) / levels
    return np.asarray(np.rint(blocks / scale) * scale).reshape(values.shape)


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(storage_room).failed == 0


@pytest.mark.parametrize("columns", [1, 2, 5, 31, 96, 193, 768])
@pytest.mark.parametrize("storage", [INT8, PAIRS, TRIPLES, FOURS], ids=["int8", "pairs", "triples", "fours"])
def test_rows_of_any_width_are_cut_and_joined(columns: int, storage: Storage) -> None:
    values = normal(3, columns)
    blocks = Blocks(storage, values.shape, "w")
    codes, scales = blocks.encode(values)
    assert codes.shape == blocks.shape
    assert codes.nbytes + scales.nbytes == storage.size_bytes(3, columns, channels=0)
    assert error(blocks.decode(codes, scales), values) < 0.1


def test_pairs_lose_less_than_plain_rounding_to_four_bits() -> None:
    values = normal(64, 768)
    assert error(decoded(values, PAIRS), values) < 0.7 * error(plainly_rounded(values, 7, 32), values)


def test_triples_lose_less_than_plain_rounding_to_three_bits() -> None:
    """With a third of a bit less, and scales half as many."""
    values = normal(64, 768)
    assert error(decoded(values, TRIPLES), values) < 0.7 * error(plainly_rounded(values, 3, 96), values)


@pytest.mark.long_cases("triples", "fours")
@pytest.mark.slow
@pytest.mark.parametrize("storage", [PAIRS, TRIPLES, FOURS], ids=["pairs", "triples", "fours"])
def test_the_stored_points_are_those_of_lloyds_algorithm(storage: Storage) -> None:
    book = codes_of(storage)
    assert isinstance(book, Codebook)
    assert np.array_equal(book.points, normal_points(storage.weights))


@pytest.mark.parametrize("storage", [INT8, PAIRS, TRIPLES, FOURS], ids=["int8", "pairs", "triples", "fours"])
def test_a_row_gets_the_same_codes_alone_and_among_many(storage: Storage) -> None:
    """Candidates of few weights are compared in one step, of many one after the other."""
    values = normal(300, 768)
    blocks = Blocks(storage, values.shape, "w")
    codes, scales = blocks.encode(values)
    for row in (0, 170, 299):
        alone = blocks.encode(values[row : row + 1])
        assert np.array_equal(alone[0][0], codes[row])
        assert np.array_equal(alone[1][0], scales[row])


@pytest.mark.parametrize("storage", [PAIRS, TRIPLES, FOURS], ids=["pairs", "triples", "fours"])
def test_the_search_grid_finds_the_nearest_point_or_one_hardly_further(storage: Storage) -> None:
    book = codes_of(storage)
    assert isinstance(book, Codebook)
    values = normal(2000, storage.weights)
    best = np.square(values[:, None] - book.points).sum(axis=-1).min(axis=1)
    found = np.square(values - book.values(book.nearest(values))).sum(axis=-1)
    assert found.mean() < 1.03 * best.mean()


@pytest.mark.parametrize(
    ("storage", "factor"),
    # In 2 bits, missing an outlier of 30 costs less than the scale that meets it.
    [*product([PAIRS, TRIPLES], [30, 1000, -30_000]), *product([FOURS], [1000, -30_000])],
)
def test_an_outlier_is_met_exactly_whatever_stands_beside_it(storage: Storage, factor: float) -> None:
    """As GPT-2's position embeddings have them: a few channels far larger than the rest."""
    values = normal(4, 768)
    values[:, 138] = factor
    got = decoded(values, storage)
    assert np.allclose(got[:, 138], factor, rtol=1e-3)
    rest = np.delete(np.arange(768), np.arange(138 // storage.block * storage.block, 768)[: storage.block])
    assert error(got[:, rest], values[:, rest]) < (0.12 if storage == FOURS else 0.06)


def test_zeros_stay_zeros_beside_anything() -> None:
    values = normal(2, 64)
    values[0] = 0
    for storage in (INT8, PAIRS, TRIPLES):
        assert not decoded(values, storage)[0].any()


@pytest.mark.parametrize(
    ("value", "says"),
    [(np.nan, "must be finite"), (np.inf, "must be finite"), (1e9, "too large"), (3e38, "too large")],
)
@pytest.mark.parametrize("storage", [INT8, NIBBLES, PAIRS, TRIPLES, FOURS])
def test_what_no_scale_can_hold_is_refused_by_its_name(storage: Storage, value: float, says: str) -> None:
    values = normal(2, 64)
    values[1, 5] = value
    with pytest.raises(QuantizeError, match=f"^w .*{says}"):
        decoded(values, storage)


def correlated_inputs(size: int) -> np.ndarray:
    """Inputs of which a few directions say most, as a layer's are."""
    weakening = np.diag(np.geomspace(3, 0.1, size))
    return np.asarray(normal(4 * size, size, seed=1) @ normal(size, size, seed=2) @ weakening)


def test_made_up_errors_of_a_matrix_leave_products_closer() -> None:
    values, x = normal(48, 96), correlated_inputs(48).astype(np.float32)
    blocks = Blocks(TRIPLES, values.shape, "w")
    plain, made_up = (
        blocks.decode(*encoded) for encoded in (blocks.encode(values), encode_columns(values, blocks, x.T @ x / len(x)))
    )
    assert error(x @ made_up, x @ values) < 0.6 * error(x @ plain, x @ values)


def test_made_up_errors_of_a_head_leave_logits_closer_and_lookups_nearly_as_close() -> None:
    table, x = normal(200, 48), correlated_inputs(48).astype(np.float32)
    blocks = Blocks(PAIRS, table.shape, "w")
    gram = x.T @ x / len(x)
    plain, head, tied = (
        blocks.decode(*encoded)
        for encoded in (
            blocks.encode(table),
            encode_rows(table, blocks, gram, looked_up=False),
            encode_rows(table, blocks, gram, looked_up=True),
        )
    )
    logits = [error(x @ each.T, x @ table.T) for each in (head, tied, plain)]
    assert logits == sorted(logits)
    assert logits[0] < 0.7 * logits[2]
    assert error(tied, table) < 1.6 * error(plain, table)


@pytest.mark.parametrize("together", [1, 2, 3, 4])
def test_errors_are_made_up_as_the_inverse_gram_of_what_is_left_says(together: int) -> None:
    """By the definition, with more inputs than a part of the factor has rows."""
    size = 300
    x, weights = correlated_inputs(size), normal(size, 5)
    gram = (x.T @ x / len(x)).astype(np.float32)
    seen: dict[int, np.ndarray] = {}

    def begin_panel(inputs: np.ndarray, _: np.ndarray) -> RoundInputs:
        def round_inputs(places: slice, rows: np.ndarray) -> np.ndarray:
            seen.update(zip(inputs[places].tolist(), rows.copy(), strict=True))
            return np.asarray(rows - 1)

        return round_inputs

    Compensation(gram, together).round(weights, begin_panel)
    damped = gram.astype(np.float64) + 0.01 * np.trace(gram) / size * np.eye(size)
    order, expected = list(seen), weights.astype(np.float64)
    for start in range(0, size, together):
        step, rest = order[start : start + together], order[start + together :]
        inverse = np.linalg.inv(damped[np.ix_(step + rest, step + rest)])
        own, others = inverse[: len(step), : len(step)], inverse[len(step) :, : len(step)]
        expected[rest] -= others @ np.linalg.inv(own) @ np.ones((len(step), 5))
    np.testing.assert_allclose([seen[number] for number in range(size)], expected, atol=2e-2, rtol=0)


def test_inputs_that_never_occur_are_rounded_like_any_other() -> None:
    values = normal(12, 24)
    blocks = Blocks(TRIPLES, values.shape, "w")
    codes, scales = encode_columns(values, blocks, np.zeros((12, 12), np.float32))
    assert error(blocks.decode(codes, scales), values) < 0.1
