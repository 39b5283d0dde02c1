"""Real text as token ids, through the tokenizer that is released with the model."""

import json
import os
import subprocess
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_release.base.errors import UsageError, WeightsError
from model_release.base.files import copy_file, read_bytes
from model_release.base.progress import Progress, silent
from model_release.base.text import one_line
from model_release.model.weights.file_names import CONFIG, TOKENIZER, TOKENIZER_CONFIG, read_json
from model_release.model.weights.folder import Weights

_DEMO = Path(__file__).resolve().parents[3] / "demo_model"

VALIDATION_TEXT = _DEMO / "validation.txt"
"""English that the embedded model was not trained on."""

CALIBRATION_TEXT = _DEMO / "calibration.txt"
"""English to calibrate on; none of it is in the validation text."""

_CHILD = Path(__file__).with_name("tokenizer_child.py")
_MAX_TOKENIZER_BYTES = 1 << 27  # The largest in use have some 30 MB.
_MAX_TEXT_BYTES = 1 << 26
_MAX_SETTINGS_BYTES = 1 << 24
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


class _ChildError(Exception):
    """What went wrong in the process of a tokenizer."""


class _Child:
    """The process of a tokenizer; it ends with this object."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Panics print there.
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
        )
        weakref.finalize(self, _end, self._process)

    def ask(self, **question: object) -> Any:  # noqa: ANN401 - JSON
        """The answer to a question of `tokenizer_child`.

        Raises:
            _ChildError: There is none.
        """
        pipe, answers = self._process.stdin, self._process.stdout
        if pipe is None or answers is None:
            raise ValueError("both are pipes")
        try:
            pipe.write(f"{json.dumps(question)}\n".encode())
            pipe.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise _ChildError("a crash, or more memory or time than a tokenizer needs")
        reply = json.loads(line)
        if "error" in reply:
            raise _ChildError(one_line(reply["error"])[:200])
        return reply["answer"]


class Tokenizer:
    """A tokenizer from its file, read in a process of its own, which ends with this object.

    What the file says of padding, truncation and templates is not obeyed: it is what its last user left there.

    Args:
        path: `tokenizer.json`.
        vocab: How many tokens the model knows.
        content: What it would hold, if it is made of other files and not there.

    Attributes:
        content: What it holds.

    Raises:
        WeightsError: The tokenizer is broken, or has tokens the model does not know: it would be
            released, and the web app would fail on it.
    """

    def __init__(self, path: Path, vocab: int, content: str | None = None) -> None:
        self._path, self._vocab = path, vocab
        try:
            if content is None:
                content = read_bytes(path, limit_bytes=_MAX_TOKENIZER_BYTES).decode("utf-8-sig")
        except OSError as failure:
            raise WeightsError(f"{path} must be readable, got: {failure.strerror}. Replace it.") from failure
        except UnicodeDecodeError as failure:
            raise self._broken(str(failure)) from failure
        self.content = content
        self._child = _Child()
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

    def piece(self, token: int) -> str:
        """A token as the vocabulary writes it: a byte as a letter or as `<0xE4>`; a row without a token is empty.

        Raises:
            WeightsError: The tokenizer fails on it.
        """
        text: str = self._ask(piece=token)
        return text

    def _ask(self, **question: object) -> Any:  # noqa: ANN401 - JSON
        try:
            return self._child.ask(**question)
        except _ChildError as failure:
            raise self._broken(str(failure)) from failure

    def _broken(self, reason: str) -> WeightsError:
        return WeightsError(
            f"{self._path} must be a tokenizer that reads text, got: {reason}. Replace it, or remove the file."
        )


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.communicate()


def load_tokenizer(weights: Weights, progress: Progress = silent) -> Tokenizer | None:
    """The tokenizer of a model, made of files of an older kind if need be; None if there is none.

    Args:
        weights: The model.
        progress: Told why there is none.

    Raises:
        WeightsError: See `Tokenizer`.
    """
    path, content = weights.folder / TOKENIZER, None
    if TOKENIZER not in weights.tokenizer_files:
        try:
            content = _make(weights)
        except _ChildError as failure:
            progress(
                f"tokenizer: there is no {TOKENIZER}, {failure}. Figures are measured on random ids, pages show ids "
                'in place of words. Make it: python -c "from transformers import AutoTokenizer as A; '
                f"A.from_pretrained('MODEL').save_pretrained('{weights.folder}')\""
            )
            return None
    return Tokenizer(path, weights.blueprint.vocab, content)


def _make(weights: Weights) -> str:
    """tokenizer.json, from the other files of a tokenizer.

    Raises:
        _ChildError: They are missing, or no tokenizer can be built of them without running code.
    """
    names = [name for name in weights.tokenizer_files if name != TOKENIZER_CONFIG]
    if not names:
        raise _ChildError("and nothing to make it of")
    config = {"model_type": weights.blueprint.family, "tokenizer_class": weights.config.get("tokenizer_class")}
    settings: dict[str, Any] = {}
    if TOKENIZER_CONFIG in weights.tokenizer_files:
        settings = read_json(weights.folder / TOKENIZER_CONFIG, _MAX_SETTINGS_BYTES)
    if settings.get("auto_map"):
        raise _ChildError(f"and {TOKENIZER_CONFIG} names code to run (auto_map), which this project never does")
    # What names a file would read one of this machine into a public release.
    settings = {key: value for key, value in settings.items() if not key.endswith(("_file", "_path"))}
    with tempfile.TemporaryDirectory(prefix="model-release-") as folder:
        for name in names:
            copy_file(weights.folder / name, Path(folder) / name, error=WeightsError)
        (Path(folder) / TOKENIZER_CONFIG).write_text(json.dumps(settings), encoding="utf-8")
        (Path(folder) / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        try:
            content: str = _Child().ask(make=folder)
        except _ChildError as failure:
            raise _ChildError(f"and {', '.join(names)} cannot become it: {failure}") from failure
    return content


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
