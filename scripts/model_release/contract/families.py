"""contract/families.json: which models are supported, and whether a config.json may be believed.

A config.json is text from strangers that decides what transformers builds and runs. It is judged here, as raw
JSON, before anything else sees it.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from model_release.base.errors import ContractError, WeightsError

FAMILIES = Path(__file__).resolve().parents[3] / "contract" / "families.json"

_DEEPEST = 6
_MOST_VALUES = 20_000
_LARGEST_NUMBER = 1e18
_LARGEST_LISTED = 4_194_304  # As a token's id: what stands in lists may also be a count, and is then made so often.


@cache
def load_families() -> Mapping[str, Any]:
    """The file's content; see `contract/families.schema.json`.

    Raises:
        ContractError: It is missing or broken.
    """
    try:
        document: dict[str, Any] = json.loads(FAMILIES.read_text(encoding="utf-8"))
        document["families"], document["sizes"]
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise ContractError(f"contract/families.json must be readable, got {failure!r}. Restore the file.") from failure
    return document


def family_of(model_type: str) -> Mapping[str, Any]:
    """What the mechanism must be told of a supported family."""
    family: Mapping[str, Any] = load_families()["families"][model_type]
    return family


def require_supported(config: Mapping[str, Any]) -> None:
    """Judges a config.json.

    Args:
        config: The parsed file.

    Raises:
        WeightsError: The family is not supported, or a value is absurd or would choose code that runs.
    """
    document = load_families()
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in document["refused"]:
        raise WeightsError(
            f"config.json's model_type must be supported, {model_type} is not. {document['refused'][model_type]}"
        )
    if not isinstance(model_type, str) or model_type not in document["families"]:
        raise WeightsError(
            f"config.json's model_type must be one of: {', '.join(document['families'])}; got {_short(model_type)}. "
            "Choose a model of a supported architecture."
        )
    family = document["families"][model_type]
    _check_architectures(config.get("architectures"), family["architectures"])
    for key, because in document["refused_keys"].items():
        if config.get(key):
            raise WeightsError(f"config.json must have no {key}, got {_short(config[key])}. {because}")
    for row in family.get("refused_if", ()):
        value = config.get(row["key"])
        if "is_not" in row:
            wanted = config.get(row["is_not"])
            is_refused = None not in (value, wanted) and value != wanted
        else:
            is_refused = value == row["is"] or (row["is"] is True and value)
        if is_refused:
            raise WeightsError(f"config.json's {row['key']} must not be {_short(value)}. {row['because']}")
    tied = config.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise WeightsError(
            f"config.json's tie_word_embeddings must be true or false, got {_short(tied)}. Correct the config."
        )
    sizes = {name: _size(config, **row) for name, row in document["sizes"].items()}
    heads = sizes["heads"]
    for whole, part in ((None if sizes["head_dim"] else sizes["hidden"], heads), (heads, sizes["kv_heads"])):
        if whole and part and whole[1] % part[1]:
            raise WeightsError(
                f"config.json's {whole[0]} must be a multiple of {part[0]}, got {whole[1]} and {part[1]}. "
                "Correct the config."
            )
    _check_values(config)


def numeric_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a judged config.json that play a part in the numbers."""
    ignored = {
        *load_families()["ignored_keys"],
        *load_families()["refused_keys"],
        *family_of(config["model_type"]).get("ignored", ()),
    }
    return {key: value for key, value in config.items() if key not in ignored and not key.startswith("_")}


def _check_architectures(got: object, known: list[str]) -> None:
    if got is not None and (not isinstance(got, list) or not all(name in known for name in got)):
        raise WeightsError(
            f"config.json's architectures must be {known[0]}, got {_short(got)}. "
            "Choose a language model; other heads have no logits to release."
        )


def _size(config: Mapping[str, Any], *, keys: list[str], most: int) -> tuple[str, int] | None:
    """A size by its name in this config; None if the family's default counts."""
    given = {key: config[key] for key in keys if config.get(key) is not None}
    if len({repr(value) for value in given.values()}) > 1:
        raise WeightsError(f"config.json's {' and '.join(given)} must be equal, got {_short(given)}. Keep one of them.")
    for key, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise WeightsError(
                f"config.json's {key} must be a whole number from 1 to {most}, got {_short(value)}. Correct the config."
            )
        return key, value
    return None


def _check_values(config: Mapping[str, Any]) -> None:
    """Bounds what is left: how deep, how much, how large."""
    for count, (depth, value) in enumerate(_walk(config, 0)):
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise WeightsError(
                f"config.json must hold at most {_MOST_VALUES} values in {_DEEPEST} levels, got more. "
                "Use the model's own file."
            )
        if isinstance(value, int | float) and not abs(value) <= _LARGEST_NUMBER:
            raise WeightsError(f"config.json's numbers must be at most 1e18, got {_short(value)}. Correct the config.")
        if depth > 1 and isinstance(value, int) and abs(value) > _LARGEST_LISTED:
            raise WeightsError(
                f"config.json's whole numbers in lists must be at most {_LARGEST_LISTED}, got {_short(value)}. "
                "Correct the config."
            )


def _walk(value: object, depth: int) -> Iterator[tuple[int, object]]:
    yield depth, value
    if depth <= _DEEPEST and isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _walk(item, depth + 1)


def _short(value: object) -> str:
    """A value as text for a message, however long or odd it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
