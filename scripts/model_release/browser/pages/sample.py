"""A released model's outputs on one prompt, packed for a page: what its views draw."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_release.browser.pages import telling, writes
from model_release.browser.pages.fitting import MAX_BYTES, fitting_outputs, fitting_tokens, pack
from model_release.contract.activations import load_contract
from model_release.contract.measures import Array, softmax
from model_release.contract.selection import Selection
from model_release.contract.tensor_names import tensor_name
from model_release.model.onnx_files.session import Session
from model_release.model.weights.folder import Weights
from model_release.model.weights.tokenizer import Tokenizer

PROMPT = (
    "And the king said unto his servants, Bring me the book; and they brought the book unto the king, and he opened the"
)
"""Words that come again show heads that look back to the last time; it suits the embedded model and GPT-2."""

TRIES = (
    PROMPT,
    "The red house, the old tree, the small river; the red house, the old tree, the small river",
    "one two three four five one two three four five one two three",
    "In the beginning was the word, and the word was with the man",
    "She sells sea shells by the sea shore, and he sells old books by the door",
)
"""Prompts to find telling heads with: what comes again, and what does not."""

MAX_TOKENS = 28
TRY_TOKENS = 20

TOP = 10
"""How many of the most likely next tokens are shown."""

EXPLAINED = 3
"""For how many of them the heads' parts are given."""


def take_sample(model: Path, weights: Weights, selection: Selection, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Runs a model on the prompt, and on others to find heads that are worth a look.

    Args:
        model: A released file.
        weights: What it was made of.
        selection: What it returns.
        tokenizer: The tokenizer released with it; without one that knows the prompt, a few ids take its place.

    Returns:
        Plain data: `tokens` (id and text), `tensors` (shape and float16 values in base64, as many outputs as
        fit), `next` (of each position the most likely tokens), `lens` (the same of each layer, the likeliest
        alone), `writes` (what heads write, if it is an output), `left_out` (names of outputs there was no room for),
        `telling` (the head to show first) and `tries` (other prompts, with the heads they were chosen for).
        Equal models give equal data.

    Raises:
        ReleaseError: onnxruntime cannot load or run the file.
    """
    return _Sampler(model, weights, selection, tokenizer).take()


class _Sampler:
    """One model, loaded."""

    def __init__(self, model: Path, weights: Weights, selection: Selection, tokenizer: Tokenizer | None) -> None:
        self._session = Session(model)
        self._weights, self._blueprint, self._tokenizer = weights, weights.blueprint, tokenizer
        contract = load_contract()
        self._outputs = [
            output
            for output in contract.expected_outputs(self._blueprint, selection)
            if output.kind in selection.activations
        ]
        self._default = [output.kind for output in contract.outputs if output.default and output.kind != "logits"]

    def take(self) -> dict[str, Any]:
        ids = prompt_ids(PROMPT, self._blueprint.vocab, min(MAX_TOKENS, self._blueprint.context), self._tokenizer)
        # One output of each layer is packed otherwise: a vocabulary a token is far too much.
        outputs = [output for output in self._outputs if output.kind != "logit_lens"]
        usual = [output for output in outputs if output.kind in self._default]
        ids = ids[: fitting_tokens(usual, len(ids))]
        arrays = self._run(ids, [output.name for output in self._outputs])
        first = telling.most_telling(ids, self._attention(arrays))
        extras = {
            "lens": self._lens(arrays, len(ids)),
            "writes": self._writes(arrays),
            "telling": {"layer": first.layer, "head": first.head} if first else {},
            "tries": self._tries(),
        }
        shown = fitting_outputs(
            outputs,
            len(ids),
            default=self._default,
            layer=first.layer if first else None,
            room_bytes=MAX_BYTES - len(json.dumps(extras)),
        )
        names = [output.name for output in shown]
        return {
            **self._facts(ids, arrays, names),
            **extras,
            "left_out": [output.name for output in outputs if output.name not in names],
        }

    def _run(self, ids: Sequence[int], names: Sequence[str]) -> dict[str, Array]:
        arrays = self._session.run(np.array([ids], dtype=np.int64), ["logits", *names])
        return {name: array[0] for name, array in arrays.items()}

    def _facts(self, ids: Sequence[int], arrays: Mapping[str, Array], names: Sequence[str]) -> dict[str, Any]:
        """What every sample has."""
        return {
            "tokens": [self._token(token) for token in ids],
            "tensors": {name: pack(arrays[name]) for name in names},
            "next": [
                {"position": position, "top": self._most_likely(scores)}
                for position, scores in _by_position(arrays["logits"], len(ids))
            ],
        }

    def _named(self, kind: str) -> dict[int, str]:
        """Layer -> name, of outputs of a kind."""
        return {
            output.layer: output.name for output in self._outputs if output.kind == kind and output.layer is not None
        }

    def _attention(self, arrays: Mapping[str, Array]) -> dict[int, Array]:
        return {layer: arrays[name] for layer, name in self._named("attn_probs").items()}

    def _lens(self, arrays: Mapping[str, Array], tokens: int) -> dict[str, Any]:
        """Layer -> of each position the likeliest next token, as far as the layer knows."""
        return {
            str(layer): [
                {"position": position, "top": self._most_likely(scores, count=1)}
                for position, scores in _by_position(arrays[name], tokens)
            ]
            for layer, name in self._named("logit_lens").items()
        }

    def _writes(self, arrays: Mapping[str, Array]) -> dict[str, Any] | None:
        """Of each head how much it writes, and what that adds to the likeliest tokens where it can be told."""
        layers = list(self._named("head_output"))
        if not layers:
            return None
        facts = {"layers": layers, "norms": pack(writes.head_norms(arrays, layers))}
        if not set(writes.needed(self._blueprint)) <= arrays.keys():
            return facts | {"why": f"needs {', '.join(writes.needed(self._blueprint))} of the file, too"}
        top = np.argsort(-arrays["logits"], axis=-1, kind="stable")[:, :EXPLAINED]
        parts = writes.contributions(arrays, layers, self._weights, top)
        if parts is None:
            return facts | {"why": "is no sum here: this model norms or caps more than its last norm does"}
        return facts | {"parts": pack(parts)}

    def _tries(self) -> list[dict[str, Any]]:
        """For each pattern the prompt and the head that show it best; the score alone if no head follows it."""
        runs = []
        names = [output.name for output in self._outputs if output.kind == "attn_probs"]
        for ids in self._try_ids() if names else ():
            runs.append((ids, self._run(ids, names)))
        tries = []
        for pattern in telling.PATTERNS:
            found = [
                (head, ids, arrays)
                for ids, arrays in runs
                if (head := telling.best_head(pattern, ids, self._attention(arrays)))
            ]
            if not found:
                continue
            head, ids, arrays = max(found, key=lambda one: one[0].score)
            entry: dict[str, Any] = {
                "name": pattern.name,
                "says": pattern.says,
                "score": head.score,
                "chance": head.chance,
            }
            tries.append(entry)
            if not head.clear:
                continue
            facts = self._facts(ids, arrays, [tensor_name("attn_probs", head.layer)])
            entry["text"] = "".join(token["text"] for token in facts["tokens"])
            where = {"layer": head.layer, "head": head.head, "position": head.position}
            entry["sample"] = facts | {"telling": where, "left_out": []}
        return tries

    def _try_ids(self) -> list[list[int]]:
        """The prompts to find heads with; where there are no words, ids that differ and ids that come again."""
        longest = min(TRY_TOKENS, self._blueprint.context)
        half = spread_ids(self._blueprint.vocab, longest // 2)
        found = [prompt_ids(text, self._blueprint.vocab, longest, self._tokenizer) for text in TRIES]
        return found if found[0] != found[1] else [found[0], half + half]

    def _most_likely(self, scores: Array, count: int = TOP) -> list[dict[str, Any]]:
        """The most likely tokens of one position, from scores [vocab]; of equal ones the smaller id first."""
        probabilities = softmax(scores)
        best = np.argsort(-probabilities, kind="stable")[:count]
        return [self._token(int(token)) | {"p": float(f"{probabilities[token]:.3g}")} for token in best]

    def _token(self, token: int) -> dict[str, Any]:
        """Id, text (a number sign and the id where there is none), and its piece where it is part of a character."""
        text = self._tokenizer.spell(token) if self._tokenizer is not None else ""
        piece = self._tokenizer.piece(token) if self._tokenizer is not None and "\ufffd" in text else ""
        return {"id": token, "text": text or f"#{token}"} | ({"piece": piece} if piece else {})


def _by_position(scores: Array, tokens: int) -> list[tuple[int, Array]]:
    """Positions and their scores; `--logits last` has the last position alone."""
    return list(enumerate(scores, start=tokens - len(scores)))


def prompt_ids(prompt: str, vocab: int, longest: int, tokenizer: Tokenizer | None) -> list[int]:
    """A prompt in the model's tokens, or ids spread over a vocabulary without words."""
    reading = tokenizer.read(prompt) if tokenizer is not None else None
    if reading is None or not reading.knows:
        return spread_ids(vocab, longest)
    return list(reading.ids[:longest])


def spread_ids(vocab: int, tokens: int) -> list[int]:
    """Ids in place of a prompt that there are no words for."""
    return [position * (vocab - 1) // tokens for position in range(tokens)]
