"""contract/models.json: the models that are pinned by commit and sha256; and what may name a model at all."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_release.base.errors import UsageError, WeightsError
from model_release.base.files import read_bytes
from model_release.contract.activations import CONTRACT_FOLDER

REGISTRY = CONTRACT_FOLDER / "models.json"
_LIMIT_BYTES = 1 << 24

_ID = re.compile(r"(?!.*(\.\.|--))(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[\w.-][\w./-]{0,199}", re.ASCII)


def load_registry(path: Path = REGISTRY) -> dict[str, Any]:
    """The pinned models by name.

    Raises:
        WeightsError: The file is missing or broken.
    """
    try:
        return dict(json.loads(read_bytes(path, limit_bytes=_LIMIT_BYTES).decode())["models"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as failure:
        raise WeightsError(f"{path} must list the pinned models, got {failure!r:.200}. Restore the file.") from failure


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
    entry = pinned.get(model, {"repository": model, "revision": "main"})
    return entry["repository"], revision or entry["revision"]


def pinned_entry(repository: str, commit: str, pinned: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the registry knows of this commit, under whatever name it was asked for; empty if nothing."""
    entries = (entry for entry in pinned.values() if (entry["repository"], entry["revision"]) == (repository, commit))
    return next(entries, {})
