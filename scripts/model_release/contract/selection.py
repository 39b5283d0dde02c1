"""What of a model is exported: layers and kinds of activations. It reads text and knows no contract."""

import re
from dataclasses import dataclass
from typing import Literal

from model_release.base.errors import UsageError

Logits = Literal["all", "last"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a model is exported.

    Attributes:
        layers: Layer numbers, ascending, without repeats.
        activations: Kinds besides `logits`, in the contract's order.
        logits: `"all"` positions, or the `"last"` one only.
        cache: Whether a file takes keys and values of the tokens before, and returns them with those of its own.
        interventions: Whether a file takes gains of heads and vectors to steer with.
    """

    layers: tuple[int, ...]
    activations: tuple[str, ...]
    logits: Logits = "all"
    cache: bool = False
    interventions: bool = False


def parse_layers(text: str, layer_count: int) -> tuple[int, ...]:
    """Reads `--layers`: numbers, negatives from the end, and ranges.

    Order does not matter and repeats collapse.

    >>> parse_layers("11,0,5,-1", 12), parse_layers("0-3", 12), parse_layers("-2--1", 12)
    ((0, 5, 11), (0, 1, 2, 3), (10, 11))

    Raises:
        UsageError: A part is no layer, is out of range, or a range runs backwards.
    """
    layers: set[int] = set()
    for ends in parse_ranges(text):
        written = "-".join(map(str, dict.fromkeys(ends)))
        if not all(-layer_count <= end < layer_count for end in ends):
            raise UsageError(
                f"layers must be from 0 to {layer_count - 1} (or -{layer_count} to -1), got {written}. "
                f"{_LAYERS_EXAMPLE}"
            )
        first, last = (end % layer_count for end in ends)
        if first > last:
            raise UsageError(f"a range of layers must run upwards, got {written}. {_LAYERS_EXAMPLE}")
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


_LAYERS_EXAMPLE = "Use e.g. 0,5,11 or 0-3 or -1."


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Reads the syntax of `--layers`, before a model says how many layers there are.

    >>> parse_ranges("5,-3--1")
    ((5, 5), (-3, -1))

    Raises:
        UsageError: A part is neither a number nor a range.
    """
    ranges = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?[0-9]{1,6})(?:-(-?[0-9]{1,6}))?\s*", part, re.ASCII)
        if not match:
            raise UsageError(
                f"layers must be numbers and ranges separated by commas, got {text[:60]!r}. {_LAYERS_EXAMPLE}"
            )
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return tuple(ranges)
