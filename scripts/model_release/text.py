"""Real text as token ids, through the tokenizer that is released with the model."""

from pathlib import Path

import tokenizers

from model_release.errors import WeightsError
from model_release.weights import Weights

VALIDATION_TEXT = Path(__file__).resolve().parents[1] / "demo_model" / "validation.txt"
"""English that the embedded model was not trained on."""

_TOKENIZER = "tokenizer.json"


def load_tokenizer(weights: Weights) -> tokenizers.Tokenizer | None:
    """The tokenizer of a model; None for a model without `tokenizer.json`.

    Raises:
        WeightsError: The tokenizer is broken, or has tokens the model does not know: it would be
            released, and the web app would fail on it.
    """
    if _TOKENIZER not in weights.tokenizer_files:
        return None
    path = weights.folder / _TOKENIZER
    try:
        tokenizer = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise WeightsError(f"{path} must be readable, got: {failure.strerror}.") from failure
    except Exception as failure:
        raise WeightsError(
            f"{path} must be a tokenizer, got: {str(failure)[:200]}. Replace it, or remove the file."
        ) from failure
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= weights.shape.vocab:
        raise WeightsError(
            f"{path} must be this model's tokenizer, "
            f"it has token {largest} and the model knows {weights.shape.vocab}. Replace it."
        )
    return tokenizer


def encode_validation_text(weights: Weights) -> list[int]:
    """The validation text in the model's tokens; nothing for a model without `tokenizer.json`.

    Raises:
        WeightsError: See `load_tokenizer`.
    """
    tokenizer = load_tokenizer(weights)
    return encode(tokenizer, _validation_text()) if tokenizer is not None else []


def encode(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    """Text as token ids, without the special tokens that some tokenizers add."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def spell(tokenizer: tokenizers.Tokenizer, token: int) -> str:
    """A token as text. A part of a character is a replacement character; a row without a token is empty."""
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    return text


def _validation_text() -> str:
    try:
        return VALIDATION_TEXT.read_text(encoding="utf-8")
    except OSError as failure:
        raise WeightsError(
            f"{VALIDATION_TEXT} must be readable, got: {failure.strerror}. Restore the file."
        ) from failure
