"""A model's name -> files on this machine that are what the registry or the Hub says they are.

Downloads and their cache are huggingface_hub's. Trust is ours: every file is hashed after a download and
after a cache hit, because a cache can be restored from anywhere.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, model_info

from model_release.base.errors import ManifestError, WeightsError
from model_release.base.files import git_blob_id, sha256_of
from model_release.base.hub_client import HubCalls, bounded
from model_release.base.retry import RetryPolicy
from model_release.contract.pinned_models import REGISTRY, is_pinned, known_entry, load_registry, locate
from model_release.model.weights.file_names import (
    ADAPTER,
    CONFIG,
    MERGE_FIRST,
    PICKLE,
    PICKLE_INDEX,
    READABLE,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    shard_names,
    tokenizer_names,
)

_ADVICE = ", or use --model-path with a folder"
_CLOSED = "Check the name and the revision, or set HF_TOKEN to a token that may read it."


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a file must be, as far as somebody says so.

    Attributes:
        sha256: From the registry, or the Hub's own for a file in large-file storage.
        git_sha1: The Hub's id of any other file: sha1 over `blob <size>`, a zero byte and the content.
        size_bytes: Its size.
    """

    sha256: str | None = None
    git_sha1: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class FetchedModel:
    """Verified files of one commit.

    Attributes:
        folder: Where they are: a folder of the download cache, which may hold unverified files too.
        source: The repository's id.
        revision: The commit.
        files: The names of the verified files; `load_folder` takes them, and then looks at no other.
    """

    folder: Path
    source: str
    revision: str
    files: frozenset[str]


def fetch_model(
    model: str,
    *,
    revision: str | None = None,
    progress: Callable[[str], None] | None = None,
    retry_policy: RetryPolicy | None = None,
    registry: Path = REGISTRY,
) -> FetchedModel:
    """Fetches a model's config, weights and tokenizer, and verifies every file.

    A registry entry at its pinned commit needs no network once it is cached. A file with other bytes
    than promised is fetched afresh once, so that a poisoned cache heals where a plain failure would
    repeat itself at every run; bytes that are wrong again end the fetch and leave the cache.

    Args:
        model: A key of the registry, or a hub id (`org/name` or `name`).
        revision: A branch, tag or commit; if not given, the registry's commit or `main`.
        progress: Told one sentence at a time.
        retry_policy: Bounds on waiting.
        registry: The file of pinned models.

    Raises:
        UsageError: `model` or `revision` is no id.
        WeightsError: The hub is unreachable, refuses, or has no such model.
        ManifestError: A file is not what was promised.
    """
    pinned = load_registry(registry)
    repository, commit = locate(model, revision, pinned)
    progress, retry_policy = progress or (lambda _: None), retry_policy or RetryPolicy()
    with bounded(retry_policy) as deadline:
        calls = HubCalls(
            error=WeightsError,
            advice=_ADVICE,
            closed=_CLOSED,
            progress=progress,
            retry_policy=retry_policy,
            deadline=deadline,
        )
        hub = _Hub(repository, calls)
        promises = _pins(pinned, repository, commit)
        if promises is None:
            if known_entry(repository, commit, pinned):
                progress(f"warning: {repository} is not pinned in {registry.name}; its files are what the Hub has now")
            commit, stated = hub.describe(commit)
            promises = _pins(pinned, repository, commit) or stated
        paths = {name: hub.fetch(commit, name, promises[name]) for name in _wanted(repository, promises)}
        index = next((paths[name] for name in (SAFETENSORS_INDEX, PICKLE_INDEX) if name in paths), None)
        for name in shard_names(index) if index is not None else []:
            if name not in promises:
                raise WeightsError(
                    f"{repository} must have each shard of its index, got no {name}. Choose another model."
                )
            paths[name] = hub.fetch(commit, name, promises[name])
    return FetchedModel(folder=paths[CONFIG].parent, source=repository, revision=commit, files=frozenset(paths))


def _pins(pinned: Mapping[str, Any], repository: str, commit: str) -> dict[str, Promise] | None:
    """The registry's promises for this very commit, under whatever name it was asked for."""
    entry = known_entry(repository, commit, pinned)
    return {name: Promise(**file) for name, file in entry["files"].items()} if is_pinned(entry) else None


def _wanted(repository: str, available: Mapping[str, Promise]) -> list[str]:
    """The files to fetch first; shards follow from their index."""
    chosen = next((name for name in READABLE if name in available), None)
    if chosen is None and ADAPTER in available:
        raise WeightsError(f"{repository} must have a whole model, got the adapters of PEFT alone. {MERGE_FIRST}")
    if CONFIG not in available or chosen is None:
        raise WeightsError(
            f"{repository} must have {CONFIG} and {SAFETENSORS} or {PICKLE}, "
            f"got {len(available)} files without them. Choose a model in transformers' layout."
        )
    return [CONFIG, *tokenizer_names(available.__contains__), chosen]


@dataclass(frozen=True)
class _Hub:
    """The hub, asked about one repository."""

    repository: str
    calls: HubCalls

    def describe(self, revision: str) -> tuple[str, dict[str, Promise]]:
        """The commit behind a revision, and what the Hub states of each file."""

        def ask() -> tuple[str, dict[str, Promise]]:
            info = model_info(self.repository, revision=revision, files_metadata=True)
            if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
                raise ValueError("an answer without a commit")
            stated = {
                file.rfilename: Promise(sha256=file.lfs.sha256, size_bytes=file.size)
                if file.lfs
                else Promise(git_sha1=file.blob_id, size_bytes=file.size)
                for file in info.siblings or []
            }
            return str(info.sha), stated

        return self.calls.with_retries(f"{self.repository} at {revision}", ask)

    def fetch(self, commit: str, name: str, promise: Promise) -> Path:
        """A file from the cache or the network, verified."""
        what = f"{name} of {self.repository}"
        self.calls.progress(f"Fetching {what}")
        path = self.calls.with_retries(what, lambda: Path(hf_hub_download(self.repository, name, revision=commit)))
        if not (difference := _difference(path, promise)):
            return path

        if constants.HF_HUB_OFFLINE:
            raise ManifestError(
                f"{what} at {commit} must have {difference}, in the cache. Remove it; the next run fetches anew."
            )

        def afresh() -> Path:
            path.unlink(missing_ok=True)  # The snapshot's link: a wrong one survives a forced download.
            return Path(hf_hub_download(self.repository, name, revision=commit, force_download=True))

        self.calls.progress(f"{what} must have {difference}; fetching it afresh")
        path = self.calls.with_retries(what, afresh)
        if difference := _difference(path, promise):
            path.unlink()
            raise ManifestError(f"{what} at {commit} must have {difference}. Do not use it; the cache has dropped it.")
        return path


def _difference(path: Path, promise: Promise) -> str | None:
    """What is promised and what the file is instead, or None for a file that keeps every promise."""
    try:
        size_bytes = path.stat().st_size
    except OSError as failure:
        raise WeightsError(
            f"{path} must be readable, got: {failure.strerror}. Check the cache in HF_HOME."
        ) from failure
    if promise.size_bytes not in (None, size_bytes):
        return f"{promise.size_bytes} bytes, got {size_bytes}"
    for label, promised, digest in (("sha256", promise.sha256, sha256_of), ("git id", promise.git_sha1, git_blob_id)):
        if promised is not None and (found := digest(path, error=WeightsError)) != promised:
            return f"the {label} {promised}, got {found}"
    return None
