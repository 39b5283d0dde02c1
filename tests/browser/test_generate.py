"""The pure part of generation in a page, under Node.js: choosing a token, and growing what the model returned."""

import json
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from model_release.browser.pages.render import ASSETS
from model_release.contract.measures import softmax

SCORES = np.random.default_rng(0).normal(size=50).astype(np.float32) * 3
SCRIPTS = ("fetching.js", "sampling.js", "generate.js")


def evaluated(expression: str, **given: Any) -> Any:
    """The value of an expression after the page's scripts; `given` are its variables."""
    node = shutil.which("node")
    assert node, "Node.js must be installed"
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    variables = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in given.items())
    code = f"{script}\n{variables}process.stdout.write(JSON.stringify({expression}));"
    done = subprocess.run([node, "-"], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def chosen(scores: np.ndarray, chances: np.ndarray, *, temperature: float, top_k: int) -> np.ndarray:
    """The token of each chance."""
    ids = evaluated(
        "chances.map((chance) => chooseNext(Float32Array.from(scores), settings, chance))",
        scores=scores.tolist(),
        chances=chances.tolist(),
        settings={"temperature": temperature, "topK": top_k},
    )
    return np.array(ids)


CHANCES = (np.arange(4000) + 0.5) / 4000


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_the_softmax_at_the_temperature_says(temperature: float) -> None:
    ids = chosen(SCORES, CHANCES, temperature=temperature, top_k=0)
    shares = np.bincount(ids, minlength=len(SCORES)) / len(ids)
    np.testing.assert_allclose(shares, softmax(SCORES.astype(np.float64) / temperature), atol=5e-4)


def test_top_k_leaves_the_k_most_likely_and_their_ratios() -> None:
    ids = chosen(SCORES, CHANCES, temperature=1.0, top_k=3)
    best = np.argsort(-SCORES)[:3]
    shares = np.bincount(ids, minlength=len(SCORES)) / len(ids)
    np.testing.assert_allclose(shares[best], softmax(SCORES[best].astype(np.float64)), atol=5e-4)
    assert shares.sum() == pytest.approx(shares[best].sum())


def test_of_equally_likely_tokens_top_k_keeps_the_smaller_ids() -> None:
    assert set(chosen(np.zeros(9, np.float32), CHANCES, temperature=1.0, top_k=4)) == {0, 1, 2, 3}


def test_a_temperature_of_0_takes_the_most_likely_token_whatever_the_chance() -> None:
    scores = SCORES.copy()
    scores[[7, 30]] = scores.max() + 1
    assert set(chosen(scores, CHANCES[::400], temperature=0.0, top_k=40)) == {7}
    assert set(chosen(scores, CHANCES[::400], temperature=0.0, top_k=0)) == {7}


@pytest.mark.parametrize("chance", [0.0, 1 - 2**-32])
def test_the_outermost_chances_choose_a_token_too(chance: float) -> None:
    for temperature in (1e-3, 1.0, 1e3):
        (token,) = chosen(SCORES, np.array([chance]), temperature=temperature, top_k=5)
        assert token in np.argsort(-SCORES)[:5]


def test_scores_that_are_no_numbers_are_refused_in_a_sentence() -> None:
    said = evaluated(
        "(() => { try { return chooseNext(new Float32Array(5).fill(NaN), { temperature: 1, topK: 2 }, 0.5); }"
        " catch (failure) { return [failure instanceof Explained, failure.message]; } })()"
    )
    assert said == [True, "The model's scores must be numbers, they are not. Choose another precision."]


def test_the_most_likely_tokens_are_given_with_their_share_of_all() -> None:
    likely = evaluated("mostLikely(Float32Array.from(scores), 10)", scores=SCORES.tolist())
    assert [row["id"] for row in likely] == np.argsort(-SCORES)[:10].tolist()
    np.testing.assert_allclose([row["p"] for row in likely], np.sort(softmax(SCORES))[::-1][:10], rtol=1e-5)
    assert len(evaluated("mostLikely(Float32Array.of(1, 2), 10)")) == 2, "a vocabulary may be small"


def test_chances_are_spread_evenly_over_seeds_and_positions_and_come_again() -> None:
    expression = "Array.from({ length: 200 }, (_, seed) => Array.from({ length: 200 }, (_, at) => chanceOf(seed, at)))"
    chances = np.array(evaluated(expression))
    assert ((chances >= 0) & (chances < 1)).all()
    counts = np.histogram(chances, bins=20, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 43.8, "chi-square with 19 degrees of freedom at 0.1 %"
    for neighbours in (chances[:-1] - chances[1:], chances[:, :-1] - chances[:, 1:]):
        # The difference of two independent chances has a variance of 1/6.
        assert neighbours.var() == pytest.approx(1 / 6, rel=0.03)
    assert np.array_equal(chances, evaluated(expression))
    assert evaluated("chanceOf(4294967295, 3)") != evaluated("chanceOf(4294967294, 3)")


@pytest.mark.parametrize("cuts", [[3, 1, 1, 1], [1, 2, 3], [6]])
def test_parts_of_a_grown_output_join_to_the_whole(cuts: list[int]) -> None:
    rng = np.random.default_rng(1)
    attention = np.tril(rng.random((2, 6, 6))).astype(np.float32)  # [heads, seq, past + seq]
    vectors = rng.random((6, 4)).astype(np.float32)
    ends = np.cumsum(cuts)
    pieces = [(end - cut, end) for cut, end in zip(cuts, ends, strict=True)]
    for whole, parts in (
        (attention, [attention[:, first:end, :end] for first, end in pieces]),
        (vectors, [vectors[first:end] for first, end in pieces]),
    ):
        joined = evaluated(
            "(({ shape, values }) => ({ shape, values: Array.from(values) }))"
            "(joinParts(parts.map(({ shape, values }) => ({ shape, values: Float32Array.from(values) }))))",
            parts=[{"shape": part.shape, "values": part.ravel().tolist()} for part in parts],
        )
        assert np.array_equal(np.array(joined["values"], np.float32).reshape(joined["shape"]), whole)
