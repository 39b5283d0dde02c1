"""A model of the registry as the Hub has it -> its pinned entry: commit, and size and sha256 of every file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_release.base.errors import ReleaseError, UsageError, WeightsError
from model_release.base.files import read_bytes, sha256_of, write_bytes
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy
from model_release.contract.pinned_models import LIMIT_BYTES, REGISTRY, is_pinned, load_registry, with_entries
from model_release.model.weights.folder import load_folder
from model_release.model.weights.hub import fetch_model

UNPINNED = "unpinned"
"""Stands for every model that is not pinned yet."""


def pin_models(
    names: str,
    *,
    revision: str | None = None,
    progress: Progress = silent,
    retry_policy: RetryPolicy | None = None,
    registry: Path = REGISTRY,
) -> bool:
    """Fetches models, and writes what they are into the registry; what is pinned already stays where it is.

    Every file is fetched and hashed, and the weights are looked into, so that no entry is written for a model that
    cannot be released. One that fails does not keep the others from being pinned.

    Args:
        names: Keys of the registry or their repositories, separated by commas, or `unpinned`.
        revision: Of the only model: where its pin is to be; by default its present one, or `main`.
        progress: Told one sentence at a time.
        retry_policy: Bounds on waiting.
        registry: The file to change.

    Returns:
        Whether the file was changed.

    Raises:
        UsageError: A name is not in the registry, or a revision is for several.
        ReleaseError: Of the first model that failed; the sentence names all that did.
    """
    known = load_registry(registry)
    wanted = _resolve(names, known)
    if revision is not None and len(wanted) > 1:
        raise UsageError("--revision belongs to one model. Leave it out, or give --pin that model alone.")
    entries: dict[str, Mapping[str, Any]] = {}
    failures: dict[str, ReleaseError] = {}
    for name in wanted:
        try:
            entries[name] = known[name] | _read(name, revision, progress, retry_policy, registry)
        except ReleaseError as failure:
            failures[name] = failure
            progress(f"{name}: {failure}")
        else:
            progress(f"{name} is at {entries[name]['revision']}, {len(entries[name]['files'])} files")
    changed = _write(entries, registry)
    if failures:
        first = next(iter(failures.values()))
        raise first if len(wanted) == 1 else type(first)(f"not pinned: {', '.join(failures)}. The first says: {first}")
    return changed


def _resolve(names: str, known: Mapping[str, Any]) -> Sequence[str]:
    """The keys that are meant, each once; a repository's id means its key."""
    if names.strip() == UNPINNED:
        return [name for name, entry in known.items() if not is_pinned(entry)]
    keys = {entry["repository"]: name for name, entry in known.items()}
    wanted = list(dict.fromkeys(keys.get(name.strip(), name.strip()) for name in names.split(",")))
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"--pin must be names of contract/models.json or {UNPINNED}, got {name[:80]!a}. "
                'Add an entry with its "repository" first.'
            )
    return wanted


def _read(
    name: str, revision: str | None, progress: Progress, retry_policy: RetryPolicy | None, registry: Path
) -> dict[str, Any]:
    """What an entry says of a model once it is pinned."""
    fetched = fetch_model(name, revision=revision, progress=progress, retry_policy=retry_policy, registry=registry)
    weights = load_folder(fetched.folder, source=fetched.source, revision=fetched.revision, files=fetched.files)
    files = {
        file: {
            "sha256": sha256_of(fetched.folder / file, error=WeightsError),
            "size_bytes": (fetched.folder / file).stat().st_size,
        }
        for file in sorted(fetched.files)
    }
    blueprint = weights.blueprint
    return {
        "revision": fetched.revision,
        "layers": blueprint.layers,
        "parameters": blueprint.parameter_count,
        "files": files,
    }


def _write(entries: Mapping[str, Mapping[str, Any]], registry: Path) -> bool:
    """Puts entries into the file, whole or not at all; a file that says it all already is left alone."""
    text = read_bytes(registry, limit_bytes=LIMIT_BYTES).decode()
    after = with_entries(text, entries)
    if not entries or after == text:
        return False
    write_bytes(registry, after.encode(), error=WeightsError)
    return True
