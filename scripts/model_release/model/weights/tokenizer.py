"""Real text as token ids, through the tokenizer that is released with the model."""

from pathlib import Path

import tokenizers

from model_release.base.errors import WeightsError
from model_release.base.files import read_bytes
from model_release.model.weights.folder import Weights

_DEMO = Path(__file__).resolve().parents[3] / "demo_model"

VALIDATION_TEXT = _DEMO / "validation.txt"
"""English that the embedded model was not trained on."""

CALIBRATION_TEXT = _DEMO / "calibration.txt"
"""English to calibrate on; none of it is in the validation text."""

TOKENIZER = "tokenizer.json"

_MAX_TOKENIZER_BYTES = 1 << 28  # The largest in use have some 30 MB.
_MAX_TEXT_BYTES = 1 << 26


def load_tokenizer(weights: Weights) -> tokenizers.Tokenizer | None:
    """The tokenizer of a model; None for a model without `tokenizer.json`.

    Raises:
        WeightsError: See `read_tokenizer`.
    """
    if TOKENIZER not in weights.tokenizer_files:
        return None
    return read_tokenizer(weights.folder / TOKENIZER, weights.blueprint.vocab)


def read_tokenizer(path: Path, vocab: int) -> tokenizers.Tokenizer:
    """A tokenizer from its file.

    Args:
        path: `tokenizer.json`.
        vocab: How many tokens the model knows.

    Raises:
        WeightsError: The tokenizer is broken, or has tokens the model does not know: it would be
            released, and the web app would fail on it.
    """
    try:
        tokenizer = tokenizers.Tokenizer.from_str(read_bytes(path, limit_bytes=_MAX_TOKENIZER_BYTES).decode())
    except OSError as failure:
        raise WeightsError(f"{path} must be readable, got: {failure.strerror}. Replace it.") from failure
    except Exception as failure:
        raise WeightsError(
            f"{path} must be a tokenizer, got: {str(failure)[:200]}. Replace it, or remove the file."
        ) from failure
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab:
        raise WeightsError(
            f"{path} must be this model's tokenizer, it has token {largest} and the model knows {vocab}. Replace it."
        )
    return tokenizer


def encode_file(tokenizer: tokenizers.Tokenizer | None, path: Path) -> list[int]:
    """A text file as token ids; nothing without a tokenizer.

    Raises:
        WeightsError: It cannot be read as text.
    """
    if tokenizer is None:
        return []
    try:
        return encode(tokenizer, read_bytes(path, limit_bytes=_MAX_TEXT_BYTES).decode())
    except OSError as failure:
        raise WeightsError(f"{path} must be readable, got: {failure.strerror}. Restore the file.") from failure
    except UnicodeDecodeError as failure:
        raise WeightsError(f"{path} must be text in UTF-8, byte {failure.start} is none. Choose another.") from failure


def encode(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    """Text as token ids, without the special tokens that some tokenizers add."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def spell(tokenizer: tokenizers.Tokenizer, token: int) -> str:
    """A token as text. A part of a character is a replacement character; a row without a token is empty."""
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    return text
