"""Real text as token ids, through the tokenizer that is released with the model."""

import json
import os
import subprocess
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_release.base.errors import UsageError, WeightsError
from model_release.base.files import read_bytes
from model_release.base.progress import Progress
from model_release.base.text import one_line
from model_release.model.weights.folder import Weights

_DEMO = Path(__file__).resolve().parents[3] / "demo_model"

VALIDATION_TEXT = _DEMO / "validation.txt"
"""English that the embedded model was not trained on."""

CALIBRATION_TEXT = _DEMO / "calibration.txt"
"""English to calibrate on; none of it is in the validation text."""

TOKENIZER = "tokenizer.json"

_CHILD = Path(__file__).with_name("tokenizer_child.py")
_MAX_TOKENIZER_BYTES = 1 << 27  # The largest in use have some 30 MB.
_MAX_TEXT_BYTES = 1 << 26
_MIN_KNOWN = 0.95  # English through a tokenizer of English letters alone: digits and signs are missing.
_MIN_DISTINCT = 16  # Fewer different tokens than letters say nothing of a text.


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A text through a tokenizer.

    Attributes:
        ids: Its tokens; none if the tokenizer cannot say that it does not know something.
        known: The share of the text's characters that known tokens stand for.
    """

    ids: tuple[int, ...]
    known: float

    @property
    def knows(self) -> bool:
        """Whether the tokens stand for the text: a tokenizer of chess squares does not know English."""
        return bool(self.ids) and self.known >= _MIN_KNOWN

    @property
    def speaks(self) -> bool:
        """Whether figures on a long English text mean something."""
        return self.knows and len(set(self.ids)) >= _MIN_DISTINCT

    def __str__(self) -> str:
        return f"{self.known:.0%} known, {len(self.ids)} tokens, {len(set(self.ids))} different ones"


class Tokenizer:
    """A tokenizer from its file, read in a process of its own, which ends with this object.

    What the file says of padding, truncation and templates is not obeyed: it is what its last user left there.

    Args:
        path: `tokenizer.json`.
        vocab: How many tokens the model knows.

    Raises:
        WeightsError: The tokenizer is broken, or has tokens the model does not know: it would be
            released, and the web app would fail on it.
    """

    def __init__(self, path: Path, vocab: int) -> None:
        self._path, self._vocab = path, vocab
        try:
            content = read_bytes(path, limit_bytes=_MAX_TOKENIZER_BYTES).decode("utf-8-sig")
        except OSError as failure:
            raise WeightsError(f"{path} must be readable, got: {failure.strerror}. Replace it.") from failure
        except UnicodeDecodeError as failure:
            raise self._broken(str(failure)) from failure
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Panics print there.
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        )
        weakref.finalize(self, _end, self._child)
        largest = self._ask(file=content)
        if largest >= vocab:
            raise WeightsError(
                f"{path} must be this model's tokenizer, it has token {largest} and the model knows {vocab}. "
                "Replace it."
            )

    def read(self, text: str) -> Reading:
        """Text as token ids, without the special tokens that some tokenizers add.

        Raises:
            WeightsError: The tokenizer fails on it, or gives tokens that the model does not know.
        """
        answer = self._ask(read=text)
        reading = Reading(ids=tuple(answer["ids"]), known=answer["known"])
        if reading.ids and max(reading.ids) >= self._vocab:
            raise self._broken(f"token {max(reading.ids)}, which the model does not know")
        return reading

    def spell(self, token: int) -> str:
        """A token as text. A part of a character is a replacement character; a row without a token is empty.

        Raises:
            WeightsError: The tokenizer fails on it.
        """
        text: str = self._ask(spell=token)
        return text

    def _ask(self, **question: object) -> Any:  # noqa: ANN401 - JSON
        pipe, answers = self._child.stdin, self._child.stdout
        if pipe is None or answers is None:
            raise ValueError("both are pipes")
        try:
            pipe.write(f"{json.dumps(question)}\n".encode())
            pipe.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._broken("a crash, or more memory or time than a tokenizer needs")
        reply = json.loads(line)
        if "error" in reply:
            raise self._broken(reply["error"])
        return reply["answer"]

    def _broken(self, reason: str) -> WeightsError:
        return WeightsError(
            f"{self._path} must be a tokenizer that reads text, got: {one_line(reason)[:200]}. "
            "Replace it, or remove the file."
        )


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.communicate()


def load_tokenizer(weights: Weights) -> Tokenizer | None:
    """The tokenizer of a model; None for a model without `tokenizer.json`.

    Raises:
        WeightsError: See `Tokenizer`.
    """
    if TOKENIZER not in weights.tokenizer_files:
        return None
    return Tokenizer(weights.folder / TOKENIZER, weights.blueprint.vocab)


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        WeightsError: It cannot be read as text.
    """
    try:
        return read_bytes(path, limit_bytes=_MAX_TEXT_BYTES).decode("utf-8-sig")
    except OSError as failure:
        raise WeightsError(f"{path} must be readable, got: {failure.strerror}. Restore the file.") from failure
    except UnicodeDecodeError as failure:
        raise WeightsError(f"{path} must be text in UTF-8, byte {failure.start} is none. Choose another.") from failure


@dataclass(frozen=True, kw_only=True)
class TextUse:
    """What a text is for.

    Attributes:
        option: What gives another text.
        ours: The one that is taken if none is given.
        tokens: The fewest that it takes.
    """

    option: str
    ours: Path
    tokens: int


def ids_of_text(tokenizer: Tokenizer | None, given: Path | None, use: TextUse, progress: Progress) -> list[int]:
    """A given text as token ids, or ours; no ids where random ones serve better than ours.

    Raises:
        UsageError: A text is given that the tokenizer does not know or that is too short, or there is no tokenizer.
        WeightsError: The text cannot be read, or the tokenizer fails.
    """
    text = read_text(given or use.ours)
    if tokenizer is None:
        if given is not None:
            raise UsageError(
                f"{use.option} needs a tokenizer, got none. Put {TOKENIZER} beside the weights, or leave it out."
            )
        return []
    reading = tokenizer.read(text)
    if given is None:
        if not reading.speaks:
            progress(
                f"tokenizer: {TOKENIZER} does not speak English ({reading}), "
                f"random ids take the place of {use.ours.name}. Give {use.option} a text that it knows."
            )
            return []
    elif not reading.knows or len(reading.ids) < use.tokens:
        raise UsageError(
            f"{use.option} must be a text of at least {use.tokens} tokens that {TOKENIZER} knows, got {reading}. "
            "Give a longer text of the kind that the model is made for."
        )
    return list(reading.ids)
