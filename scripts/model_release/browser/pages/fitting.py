"""What of a model's outputs fits into a page, and how it is packed."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from model_release.contract.activations import Output
from model_release.contract.measures import Array

MAX_BYTES = 1_200_000
"""Of packed values, as base64: with it a page stays below 2 MB."""

MIN_TOKENS = 12
"""A prompt is shortened to this before layers are left out."""

_BASE64_BYTES = 2 * 4 / 3  # of a float16


def fitting_tokens(outputs: Sequence[Output], tokens: int) -> int:
    """The most tokens with which every output fits, but no fewer than `MIN_TOKENS`.

    >>> attention = Output(name="", kind="", layer=0, dims=("batch", 10, "seq", "seq"))
    >>> fitting_tokens([attention], 28), fitting_tokens([attention] * 100, 28), fitting_tokens([attention] * 999, 28)
    (28, 21, 12)
    """
    while tokens > MIN_TOKENS and packed_bytes(outputs, tokens) > MAX_BYTES:
        tokens -= 1
    return tokens


def fitting_outputs(
    outputs: Sequence[Output], tokens: int, *, default: Iterable[str], layer: int | None, room_bytes: float
) -> list[Output]:
    """The outputs that a page has room for: of each group in turn all, or layers spread from the first to the last.

    First comes attention, then what the first picture needs (`layer` and what no layer has, the small ones first),
    then the default kinds, then the others.

    Args:
        outputs: Of a file.
        tokens: Of the prompt.
        default: Kinds, the most wanted first.
        layer: That is shown first.
        room_bytes: What there is.
    """
    by_kind = {kind: [output for output in outputs if output.kind == kind] for kind in (*default, *_kinds(outputs))}
    near = [output for output in outputs if output.layer in (layer, None)]
    near.sort(key=lambda output: packed_bytes([output], tokens))
    attention = by_kind.pop("attn_probs", [])
    shown: set[str] = set()
    for group in (attention, *([output] for output in near), *by_kind.values()):
        part = [output for output in group if output.name not in shown]
        kept = _spread(part, tokens, room_bytes)
        room_bytes -= packed_bytes(kept, tokens)
        shown |= {output.name for output in kept}
    return [output for output in outputs if output.name in shown]


def _kinds(outputs: Sequence[Output]) -> list[str]:
    return list(dict.fromkeys(output.kind for output in outputs))


def _spread(outputs: Sequence[Output], tokens: int, room_bytes: float) -> list[Output]:
    """As many as fit, spread evenly from the first to the last."""
    for count in range(len(outputs), 0, -1):
        kept = [outputs[index * (len(outputs) - 1) // max(1, count - 1)] for index in range(count)]
        if packed_bytes(kept, tokens) <= room_bytes:
            return kept
    return []


def packed_bytes(outputs: Sequence[Output], tokens: int) -> float:
    """Bytes of outputs of one sequence, as base64 of float16."""
    sizes = {"batch": 1, "seq": tokens, "total": tokens}
    return sum(
        _BASE64_BYTES * float(np.prod([sizes[dim] if isinstance(dim, str) else dim for dim in output.dims]))
        for output in outputs
    )


def pack(array: Array) -> dict[str, Any]:
    """An array as float16: three digits of every value, however small, and no noise of the last bits."""
    limit = float(np.finfo(np.float16).max)
    values = np.clip(array, -limit, limit).astype("<f2")
    return {"shape": list(array.shape), "float16": base64.b64encode(values.tobytes()).decode()}
