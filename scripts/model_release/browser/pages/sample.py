"""A released model's outputs on one prompt, packed for a page: what its views draw."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_release.contract.activations import Output, load_contract
from model_release.contract.blueprint import Blueprint
from model_release.contract.measures import Array, softmax
from model_release.contract.selection import Selection
from model_release.model.onnx_files.session import Session
from model_release.model.weights.tokenizer import Tokenizer

PROMPT = (
    "And the king said unto his servants, Bring me the book; and they brought the book unto the king, and he opened the"
)
"""Words that come again show heads that look back to the last time; it suits the embedded model and GPT-2."""

MAX_BYTES = 1_200_000
"""Of packed tensors, as base64: with it a page stays below 2 MB."""

MAX_TOKENS = 28
MIN_TOKENS = 12
"""A prompt is shortened to this before layers are left out."""

TOP = 10
"""How many of the most likely next tokens are shown."""

_BASE64_BYTES = 2 * 4 / 3  # of a float16


def take_sample(model: Path, blueprint: Blueprint, selection: Selection, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Runs a model on the prompt.

    Args:
        model: A released file.
        blueprint: What it is.
        selection: What it returns.
        tokenizer: The tokenizer released with it; without one that knows the prompt, a few ids take its place.

    Returns:
        Plain data: `tokens` (id and text), `tensors` (shape and float16 values in base64, for the
        default outputs of the contract), `next` (of each position the most likely tokens), and
        `left_out` (names of outputs there was no room for). Equal models give equal data.

    Raises:
        ReleaseError: onnxruntime cannot load or run the file.
    """
    ids = _prompt_ids(blueprint, tokenizer)
    default = {output.kind for output in load_contract().outputs if output.default and output.kind != "logits"}
    outputs = [output for output in load_contract().expected_outputs(blueprint, selection) if output.kind in default]
    ids = ids[: _fitting_tokens(outputs, len(ids))]
    shown = _fitting_outputs(outputs, len(ids))
    names = [output.name for output in shown]
    arrays = Session(model).run(np.array([ids], dtype=np.int64), ["logits", *names])
    logits = arrays["logits"][0]  # [seq or 1, vocab]
    first = len(ids) - len(logits)  # `--logits last` has the last position alone.
    return {
        "tokens": [_token(tokenizer, token) for token in ids],
        "tensors": {name: _pack(arrays[name][0]) for name in names},
        "next": [
            {"position": first + row, "top": _most_likely(scores, tokenizer)} for row, scores in enumerate(logits)
        ],
        "left_out": [output.name for output in outputs if output.name not in names],
    }


def _prompt_ids(blueprint: Blueprint, tokenizer: Tokenizer | None) -> list[int]:
    """The prompt in the model's tokens, or ids spread over a vocabulary without words."""
    longest = min(MAX_TOKENS, blueprint.context)
    reading = tokenizer.read(PROMPT) if tokenizer is not None else None
    if reading is None or not reading.knows:
        return spread_ids(blueprint.vocab, longest)
    return list(reading.ids[:longest])


def spread_ids(vocab: int, tokens: int) -> list[int]:
    """Ids in place of a prompt that there are no words for."""
    return [position * (vocab - 1) // tokens for position in range(tokens)]


def _fitting_tokens(outputs: Sequence[Output], tokens: int) -> int:
    """The most tokens with which every output fits, but no fewer than `MIN_TOKENS`.

    >>> attention = Output(name="", kind="", layer=0, dims=("batch", 10, "seq", "seq"))
    >>> _fitting_tokens([attention], 28), _fitting_tokens([attention] * 100, 28), _fitting_tokens([attention] * 999, 28)
    (28, 21, 12)
    """
    while tokens > MIN_TOKENS and _packed_bytes(outputs, tokens) > MAX_BYTES:
        tokens -= 1
    return tokens


def _fitting_outputs(outputs: Sequence[Output], tokens: int) -> list[Output]:
    """Every output, or those of layers spread evenly from the first to the last, as far as they fit."""
    layers = sorted({output.layer for output in outputs if output.layer is not None})
    for count in range(len(layers), 0, -1):
        kept = {None, *(layers[index * (len(layers) - 1) // max(1, count - 1)] for index in range(count))}
        shown = [output for output in outputs if output.layer in kept]
        if _packed_bytes(shown, tokens) <= MAX_BYTES:
            return shown
    return [output for output in outputs if output.layer is None and _packed_bytes([output], tokens) <= MAX_BYTES]


def _packed_bytes(outputs: Sequence[Output], tokens: int) -> float:
    """Bytes of outputs of one sequence, as base64 of float16."""
    sizes = {"batch": 1, "seq": tokens, "total": tokens}
    return sum(
        _BASE64_BYTES * float(np.prod([sizes[dim] if isinstance(dim, str) else dim for dim in output.dims]))
        for output in outputs
    )


def _pack(array: Array) -> dict[str, Any]:
    """An array as float16: three digits of every value, however small, and no noise of the last bits."""
    limit = float(np.finfo(np.float16).max)
    values = np.clip(array, -limit, limit).astype("<f2")
    return {"shape": list(array.shape), "float16": base64.b64encode(values.tobytes()).decode()}


def _most_likely(scores: Array, tokenizer: Tokenizer | None) -> list[dict[str, Any]]:
    """The most likely tokens of one position, from scores [vocab]; of equal ones the smaller id first."""
    probabilities = softmax(scores)
    best = np.argsort(-probabilities, kind="stable")[:TOP]
    return [_token(tokenizer, int(token)) | {"p": float(f"{probabilities[token]:.3g}")} for token in best]


def _token(tokenizer: Tokenizer | None, token: int) -> dict[str, Any]:
    """Id, text (a number sign and the id where there is none), and its piece where it is part of a character."""
    text = tokenizer.spell(token) if tokenizer is not None else ""
    piece = tokenizer.piece(token) if tokenizer is not None and "\ufffd" in text else ""
    return {"id": token, "text": text or f"#{token}"} | ({"piece": piece} if piece else {})
