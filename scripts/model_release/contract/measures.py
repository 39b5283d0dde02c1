"""Arrays -> figures: how far outputs and next-token distributions are from PyTorch's."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_PART = 2**20  # Elements compared at a time.

TIE_SHARE = 0.9
"""TOP01: a choice with at least this share of the best probability is a tie, not a disagreement."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One output against PyTorch's, over one or several runs; comparisons of more runs add up.

    Attributes:
        max_abs: Largest absolute difference.
        error: Sum of the squares of the difference.
        got: Of the values.
        expected: Of PyTorch's.
        product: Sum of the products of values and PyTorch's.
    """

    max_abs: float
    error: float
    got: float
    expected: float
    product: float

    def __add__(self, other: "Comparison") -> "Comparison":
        return Comparison(
            max_abs=max(self.max_abs, other.max_abs),
            error=self.error + other.error,
            got=self.got + other.got,
            expected=self.expected + other.expected,
            product=self.product + other.product,
        )

    @property
    def relative(self) -> float:
        """Root mean square of the difference over that of PyTorch's values."""
        return math.sqrt(self.error / self.expected) if self.expected else 0.0

    @property
    def cosine(self) -> float:
        """Cosine of the two, all elements as one vector; 1 if both are zero, 0 if only one is."""
        norms = math.sqrt(self.got) * math.sqrt(self.expected)
        return self.product / norms if norms else float(self.got == self.expected)


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far the outputs of one kind are from PyTorch's: of each figure, the worst layer's; see `Comparison`."""

    kind: str
    max_abs: float
    relative: float
    cosine: float


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well next-token distributions agree with PyTorch's, over `positions` positions.

    Attributes:
        mean_kl: Mean Kullback–Leibler divergence D(PyTorch || model), in nats.
        top1: Share of positions with the same most likely token.
        top1_or_tie: The same, where a choice that PyTorch gives at least `TIE_SHARE` of its best
            probability counts too. An untrained model's distribution is nearly flat, and there the
            plain share says nothing about the arithmetic.
        added_loss: Mean loss of the tokens that follow, less PyTorch's, in nats.
    """

    positions: int
    mean_kl: float
    top1: float
    top1_or_tie: float
    added_loss: float

    @property
    def perplexity_ratio(self) -> float:
        """The model's perplexity over PyTorch's."""
        return math.exp(min(self.added_loss, 700.0))


def compare(got: Array, expected: Array) -> Comparison:
    """Measures one output of one run against PyTorch's, in float64, a part at a time: logits may be gigabytes."""
    one, other = got.ravel(), expected.ravel()
    measured = _compare_part(one[:_PART], other[:_PART])
    for start in range(_PART, len(one), _PART):
        part = slice(start, start + _PART)
        measured += _compare_part(one[part], other[part])
    return measured


def _compare_part(got: Array, expected: Array) -> Comparison:
    a, b = got.astype(np.float64), expected.astype(np.float64)
    difference = a - b
    return Comparison(
        max_abs=float(np.abs(difference).max(initial=0.0)),
        error=float(difference @ difference),
        got=float(a @ a),
        expected=float(b @ b),
        product=float(a @ b),
    )


def deviation(kind: str, layers: Iterable[Comparison]) -> Deviation:
    """Sums up the outputs of one kind, of which there is one a layer or only one."""
    comparisons = tuple(layers)
    return Deviation(
        kind=kind,
        max_abs=max(item.max_abs for item in comparisons),
        relative=max(item.relative for item in comparisons),
        cosine=min(item.cosine for item in comparisons),
    )


def agreement(got: Array, expected: Array, following: Array) -> Agreement:
    """Measures next-token distributions, some positions at a time: a vocabulary may have 262,144 tokens.

    Args:
        got: Logits of the model, [..., vocab].
        expected: PyTorch's.
        following: Ids of the tokens that follow in the text, [...].
    """
    vocab = got.shape[-1]
    rows, others, next_ids = got.reshape(-1, vocab), expected.reshape(-1, vocab), following.reshape(-1)
    step = max(1, _PART // vocab)
    return mean_agreement(
        _agreement_of_some(rows[start : start + step], others[start : start + step], next_ids[start : start + step])
        for start in range(0, len(rows), step)
    )


def _agreement_of_some(got: Array, expected: Array, following: Array) -> Agreement:
    log_p, log_q = log_softmax(expected), log_softmax(got)
    p = np.exp(log_p)
    kl = (p * (log_p - log_q)).sum(axis=-1)
    choice = log_q.argmax(axis=-1)
    chosen = np.take_along_axis(p, choice[:, None], axis=-1)[:, 0]
    losses = [-np.take_along_axis(log, following[:, None], axis=-1) for log in (log_q, log_p)]
    return Agreement(
        positions=len(p),
        mean_kl=max(0.0, float(kl.mean())) if np.isfinite(kl).all() else math.inf,
        top1=float((choice == p.argmax(axis=-1)).mean()),
        top1_or_tie=float((chosen >= TIE_SHARE * p.max(axis=-1)).mean()),
        added_loss=float((losses[0] - losses[1]).mean()) if np.isfinite(losses).all() else math.inf,
    )


def mean_agreement(parts: Iterable[Agreement]) -> Agreement:
    """The agreement over the positions of all parts."""
    known = tuple(parts)
    positions = sum(part.positions for part in known)

    def mean(figure: str) -> float:
        return sum(float(getattr(part, figure)) * part.positions for part in known) / positions

    return Agreement(
        positions=positions,
        mean_kl=mean("mean_kl"),
        top1=mean("top1"),
        top1_or_tie=mean("top1_or_tie"),
        added_loss=mean("added_loss"),
    )


def log_softmax(logits: Array) -> Array:
    """Logarithms of the softmax over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def softmax(scores: Array) -> Array:
    """Probabilities over the last axis, in float64."""
    probs: Array = np.exp(log_softmax(scores))
    return probs
