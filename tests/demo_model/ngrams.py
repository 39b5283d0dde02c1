"""Two counting models over token ids: what a network must beat to have learned anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

NextTokenProbability = Callable[[int, int], float]
"""(previous token, token) -> probability of the token."""


def unigram(tokens: Sequence[int], *, vocab_size: int) -> NextTokenProbability:
    """Fit token frequencies, with one added to every count.

    >>> p = unigram([0, 0, 1], vocab_size=2)
    >>> p(0, 0), p(0, 1)
    (0.6, 0.4)
    """
    counts = Counter(tokens)
    total = len(tokens) + vocab_size
    return lambda _, token: (counts[token] + 1) / total


def bigram(tokens: Sequence[int], *, vocab_size: int) -> NextTokenProbability:
    """Fit a bigram model with interpolated Kneser-Ney smoothing.

    Every seen pair gives up a discount `n1 / (n1 + 2 n2)` of its count; that mass goes to tokens in
    proportion to how many different tokens they follow, with one added to each. Source: Chen and
    Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 2.7.

    >>> p = bigram([0, 1, 0, 1, 0, 2], vocab_size=4)
    >>> round(sum(p(0, token) for token in range(4)), 12), p(0, 1) > p(0, 2) > p(0, 3) > 0
    (1.0, True)
    """
    pairs = Counter(pairwise(tokens))
    counts_of_counts = Counter(pairs.values())
    discount = counts_of_counts[1] / (counts_of_counts[1] + 2 * counts_of_counts[2])
    context_counts = Counter(tokens[:-1])
    followers = Counter(previous for previous, _ in pairs)
    preceders = Counter(token for _, token in pairs)

    def probability(previous: int, token: int) -> float:
        fallback = (preceders[token] + 1) / (len(pairs) + vocab_size)
        context_count = context_counts[previous]
        if context_count == 0:
            return fallback
        seen = max(pairs[previous, token] - discount, 0.0) / context_count
        return seen + discount * followers[previous] / context_count * fallback

    return probability


def total_nats(probability: NextTokenProbability, tokens: Sequence[int]) -> float:
    """Cost of every token but the first, in nats."""
    return -sum(math.log(probability(previous, token)) for previous, token in pairwise(tokens))
