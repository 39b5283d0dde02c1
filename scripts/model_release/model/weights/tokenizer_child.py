"""A tokenizer in a process of its own: what makes the library panic, hang or fill memory ends this process alone.

Started by `tokenizer.py` as a program. A line of JSON comes in for each line that goes out.
"""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import tokenizers

MEMORY_BYTES = 2 << 30
PROCESSOR_S = 120
SAMPLE_CHARACTERS = 100_000
"""So much of a text shows whether a tokenizer knows it."""

_SAMPLE = "And the king said unto his servants, Bring me the book of 1611: it was in my house before he opened the door"

_UNKNOWN = ("unknown token but `unk_id` is missing", "Missing [UNK] token from the vocabulary")
"""What models say of a text that they have no tokens for: Unigram, WordLevel and WordPiece without an unknown token."""


class _Reader:
    """A tokenizer without its saved state: padding, truncation and templates are no part of reading a text."""

    def __init__(self, content: str) -> None:
        self._tokenizer: Any = tokenizers.Tokenizer.from_str(content)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.post_processor = None
        self._unknown = self._unknown_id(json.loads(content)["model"])

    def _unknown_id(self, model: dict[str, Any]) -> int | None:
        token = model.get("unk_token")
        unknown: int | None = self._tokenizer.token_to_id(token) if isinstance(token, str) else model.get("unk_id")
        return unknown

    def answer(self, asked: dict[str, Any]) -> object:
        if "spell" in asked:
            return self._tokenizer.decode([asked["spell"]], skip_special_tokens=False)
        if "piece" in asked:
            return self._tokenizer.id_to_token(asked["piece"]) or ""
        text = asked["read"]
        sample = text[:SAMPLE_CHARACTERS]
        try:
            seen = self._tokenizer.encode(sample, add_special_tokens=False)
            whole = seen if sample == text else self._tokenizer.encode(text, add_special_tokens=False)
        except Exception as failure:
            if any(words in str(failure) for words in _UNKNOWN):
                return {"ids": [], "known": 0.0}
            raise
        return {"ids": whole.ids, "known": _known(sample, seen.ids, seen.offsets, self._unknown)}

    def largest(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=0)


def _known(text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]], unknown: int | None) -> float:
    """The share of a text's characters, blanks aside, that known tokens stand for."""
    covered = bytearray(len(text))
    for token, (start, end) in zip(ids, offsets, strict=True):
        if token != unknown:
            covered[start:end] = b"\1" * (end - start)
    meant = [place for place, character in enumerate(text) if not character.isspace()]
    return sum(covered[place] for place in meant) / len(meant) if meant else 1.0


def _make(folder: str) -> str:
    """tokenizer.json, from the files of an older kind; transformers builds it, and runs no code of theirs."""
    cast("Any", sys.modules)["torch"] = None  # Tokenizers need no PyTorch, which takes most of the time to load.
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    backend = made.backend_tokenizer
    if not backend.get_vocab_size(with_added_tokens=False):
        raise ValueError("no file that its class reads; tokenizer_config.json must name the tokenizer_class")
    for path in Path(folder).glob("*.model"):
        _require_same_pieces(path, backend)
    content: str = backend.to_str()
    return content


def _require_same_pieces(path: Path, made: Any) -> None:  # noqa: ANN401 - of the library
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(path))
    text = " ".join(word for word in _SAMPLE.split() if pieces.unk_id() not in pieces.encode(word))
    if made.encode(text, add_special_tokens=False).ids != pieces.encode(text):
        raise ValueError(f"other tokens than {path.name} says; another tokenizer_class belongs to it")


def main() -> None:
    """Answers until nobody asks any more."""
    _limit()
    reader: _Reader | None = None
    for line in sys.stdin.buffer:
        try:
            asked = json.loads(line)
            reply: dict[str, object]
            if "make" in asked:
                reply = {"answer": _make(asked["make"])}
            elif reader is None:
                reader = _Reader(asked["file"])
                reply = {"answer": reader.largest()}
            else:
                reply = {"answer": reader.answer(asked)}
        except BaseException as failure:  # noqa: BLE001 - a panic of the library is no Exception
            reply = {"error": str(failure)[:300] or type(failure).__name__}
        sys.stdout.write(f"{json.dumps(reply)}\n")
        sys.stdout.flush()


def _limit() -> None:
    """Bounds memory and time, where the system can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        for kind, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, PROCESSOR_S)):
            soft, hard = resource.getrlimit(kind)
            given = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
            resource.setrlimit(kind, (min([most, *given]), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    main()
