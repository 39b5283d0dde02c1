"""Which heads of a model are worth looking at, and the prompt that shows each best: scores of attention."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_release.contract.measures import Array

CLEARLY = 2
"""How many times as much as a head that looks everywhere alike, one of a kind looks where its kind looks."""

_FIRST_QUERY = 2  # To the token at 1, the one before and the first are the same.
_FEWEST_QUERIES = 6


def _previous(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of a query and the token before it."""
    return [(query, query - 1) for query in range(_FIRST_QUERY, len(ids))]


def _first(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of a query and the first token."""
    return [(query, 0) for query in range(_FIRST_QUERY, len(ids))]


def _after_last_time(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of a query and what came after an earlier token that was the same; not the token before the query.

    >>> _after_last_time([7, 8, 9, 7, 8])
    [(3, 1), (4, 2)]
    """
    return [
        (query, earlier + 1) for query in range(len(ids)) for earlier in range(query - 2) if ids[earlier] == ids[query]
    ]


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """A kind of heads.

    Attributes:
        name: What readers see.
        says: What such a head looks at.
        pairs: Token ids -> the queries and keys where it looks.
    """

    name: str
    says: str
    pairs: Callable[[Sequence[int]], list[tuple[int, int]]]


PATTERNS = (
    Pattern(
        name="induction",
        says="what came after the same token last time",
        pairs=_after_last_time,
    ),
    Pattern(name="previous token", says="the token just before", pairs=_previous),
    Pattern(name="first token", says="the first token, where heads rest,", pairs=_first),
)
"""The most telling first."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A head that looks where a pattern says.

    Attributes:
        pattern: What it does.
        layer: Its layer.
        head: Its number.
        position: A query that shows it.
        score: The attention at the pattern's keys, a mean over all its queries.
        chance: The same of a head that looks at all tokens that it can see alike.
    """

    pattern: Pattern
    layer: int
    head: int
    position: int
    score: float
    chance: float

    @property
    def clear(self) -> bool:
        """Whether it is a head of this kind."""
        return self.score >= CLEARLY * self.chance


def best_head(pattern: Pattern, ids: Sequence[int], attention: Mapping[int, Array]) -> Found | None:
    """The head that follows a pattern most, of equal ones the first; None if the prompt cannot show it.

    Args:
        pattern: What is looked for.
        ids: Of the prompt.
        attention: Layer -> probabilities [heads, query, key].
    """
    pairs = pattern.pairs(ids)
    queries = sorted({query for query, _ in pairs})
    if len(queries) < _FEWEST_QUERIES or not attention:
        return None
    keys = np.zeros((len(ids), len(ids)))
    for query, key in pairs:
        keys[query, key] = 1
    found = []
    for layer, probabilities in attention.items():
        by_query = (probabilities * keys).sum(axis=-1)[:, queries]  # [heads, queries]
        scores = by_query.mean(axis=-1).round(3)
        head = int(scores.argmax())
        position = queries[int(by_query[head].round(3).argmax())]
        seen = probabilities.max(axis=0) > 0  # A window hides what is further away.
        evenly = seen / seen.sum(axis=-1, keepdims=True).clip(1)
        chance = float((evenly * keys).sum(axis=-1)[queries].mean().round(3))
        score = float(scores[head])
        found.append(Found(pattern=pattern, layer=layer, head=head, position=position, score=score, chance=chance))
    return max(found, key=lambda one: one.score)


def most_telling(ids: Sequence[int], attention: Mapping[int, Array]) -> Found | None:
    """The head to show first: of the first pattern that a head follows, or else of the one that is followed most."""
    found = [one for pattern in PATTERNS if (one := best_head(pattern, ids, attention))]
    clear = [one for one in found if one.clear]
    return next(iter(clear), max(found, key=lambda one: one.score, default=None))
