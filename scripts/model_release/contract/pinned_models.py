"""contract/models.json: models by name, pinned by commit and sha256 or not yet; and what may name a model at all."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_release.base.errors import UsageError, WeightsError
from model_release.base.files import read_bytes
from model_release.contract.activations import CONTRACT_FOLDER

REGISTRY = CONTRACT_FOLDER / "models.json"
LIMIT_BYTES = 1 << 24
_KEYS = ("repository", "revision", "license", "gated", "layers", "parameters", "files")

_ID = re.compile(r"(?!.*(\.\.|--))(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[\w.-][\w./-]{0,199}", re.ASCII)


def load_registry(path: Path = REGISTRY) -> dict[str, Any]:
    """The models of the registry by name.

    Raises:
        WeightsError: The file is missing or broken.
    """
    try:
        return dict(json.loads(read_bytes(path, limit_bytes=LIMIT_BYTES).decode())["models"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as failure:
        raise WeightsError(f"{path} must list models by name, got {failure!r:.200}. Restore the file.") from failure


def locate(model: str, revision: str | None, pinned: Mapping[str, Any]) -> tuple[str, str]:
    """The repository of the Hub that a name means, and the revision there.

    Args:
        model: A key of the registry, or a Hub id (`org/name` or `name`).
        revision: A branch, tag or commit; if not given, the registry's commit or `main`.
        pinned: From `load_registry`.

    Raises:
        UsageError: `model` or `revision` is no id.
    """
    if not _ID.fullmatch(model):
        raise UsageError(
            f"The model must be a registry name or a hub id such as org/name, got {model[:80]}. Correct it."
        )
    if revision is not None and not _REVISION.fullmatch(revision):
        raise UsageError(f"The revision must be a branch, tag or commit, got {revision[:80]}. Correct it.")
    entry = pinned.get(model, {"repository": model})
    return entry["repository"], revision or entry.get("revision", "main")


def known_entry(repository: str, commit: str, pinned: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the registry knows of this commit, under whatever name it was asked for; empty if nothing.

    An entry that is not pinned speaks of every commit of its repository.
    """
    entries = (
        entry
        for entry in pinned.values()
        if entry["repository"] == repository and entry.get("revision", commit) == commit
    )
    return next(entries, {})


def is_pinned(entry: Mapping[str, Any]) -> bool:
    """Whether an entry says which commit is meant, and the sha256 of each of its files."""
    return "revision" in entry


def with_entries(text: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The registry's text with entries in the place of those of their names; equal entries give equal text."""
    document = json.loads(text)
    for name, entry in entries.items():
        document["models"][name] = {key: entry[key] for key in _KEYS if key in entry}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
