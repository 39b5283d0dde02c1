"""A model's name -> files on this machine that are what the registry or the Hub says they are.

Downloads and their cache are huggingface_hub's, and so are HF_ENDPOINT, HF_HOME and HF_TOKEN. Trust
and patience are ours: every file is hashed after a download and after a cache hit, because a cache
can be restored from anywhere; and every request goes through `_OneTry`, because the client's own
retries sleep for as long as a server asks.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, hf_hub_download, model_info, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils._http import default_client_factory, hf_request_event_hook

from model_release import weights
from model_release.contract import CONTRACT_FOLDER
from model_release.errors import ManifestError, UsageError, WeightsError
from model_release.patience import GaveUpError, PassingError, Patience, persist

REGISTRY = CONTRACT_FOLDER / "models.json"

_T = TypeVar("_T")
_ID = re.compile(r"(?!.*(\.\.|--))(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[\w.-][\w./-]{0,199}", re.ASCII)
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_BROKEN_OFF = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.ProxyError)


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
    patience: Patience | None = None,
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
        patience: Bounds on waiting.
        registry: The file of pinned models.

    Raises:
        UsageError: `model` or `revision` is no id.
        WeightsError: The hub is unreachable, refuses, or has no such model.
        ManifestError: A file is not what was promised.
    """
    if not _ID.fullmatch(model):
        raise UsageError(
            f"The model must be a registry name or a hub id such as org/name, got {model[:80]}. Correct it."
        )
    if revision is not None and not _REVISION.fullmatch(revision):
        raise UsageError(f"The revision must be a branch, tag or commit, got {revision[:80]}. Correct it.")
    pinned = weights.read_json(registry, 1 << 20)["models"]
    entry = pinned.get(model, {"repository": model, "revision": "main"})
    repository, commit = entry["repository"], revision or entry["revision"]
    with _hub(repository, progress or (lambda _: None), patience or Patience()) as hub:
        promises = _pins(pinned, repository, commit)
        if promises is None:
            commit, stated = hub.describe(commit)
            promises = _pins(pinned, repository, commit) or stated
        paths = {name: hub.fetch(commit, name, promises[name]) for name in _wanted(repository, promises)}
        for name in weights.shard_names(paths[weights.SAFETENSORS_INDEX]) if weights.SAFETENSORS_INDEX in paths else []:
            if name not in promises:
                raise WeightsError(
                    f"{repository} must have each shard of its index, got no {name}. Choose another model."
                )
            paths[name] = hub.fetch(commit, name, promises[name])
    return FetchedModel(folder=paths[weights.CONFIG].parent, source=repository, revision=commit, files=frozenset(paths))


def _pins(pinned: Mapping[str, Any], repository: str, commit: str) -> dict[str, Promise] | None:
    """The registry's promises for this very commit, under whatever name it was asked for."""
    for entry in pinned.values():
        if (entry["repository"], entry["revision"]) == (repository, commit):
            return {name: Promise(**file) for name, file in entry["files"].items()}
    return None


def _wanted(repository: str, available: Mapping[str, Promise]) -> list[str]:
    """The files to fetch first; shards follow from their index."""
    readable = (weights.SAFETENSORS, weights.SAFETENSORS_INDEX, weights.PICKLE)
    chosen = next((name for name in readable if name in available), None)
    if weights.CONFIG not in available or chosen is None:
        raise WeightsError(
            f"{repository} must have {weights.CONFIG} and {weights.SAFETENSORS} or {weights.PICKLE}, "
            f"got {len(available)} files without them. Choose a model in transformers' layout."
        )
    return [weights.CONFIG, *(name for name in weights.TOKENIZER_FILES if name in available), chosen]


@dataclass(frozen=True)
class _Hub:
    """The hub, asked about one repository."""

    repository: str
    progress: Callable[[str], None]
    patience: Patience
    deadline: float

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

        return self._patiently(f"{self.repository} at {revision}", ask)

    def fetch(self, commit: str, name: str, promise: Promise) -> Path:
        """A file from the cache or the network, verified."""
        what = f"{name} of {self.repository}"
        self.progress(f"Fetching {what}")
        path = self._patiently(what, lambda: Path(hf_hub_download(self.repository, name, revision=commit)))
        if not (difference := _difference(path, promise)):
            return path

        def afresh() -> Path:
            path.unlink(missing_ok=True)  # The snapshot's link: a wrong one survives a forced download.
            return Path(hf_hub_download(self.repository, name, revision=commit, force_download=True))

        self.progress(f"{what} must have {difference}; fetching it afresh")
        path = self._patiently(what, afresh)
        if difference := _difference(path, promise):
            path.unlink()
            raise ManifestError(f"{what} at {commit} must have {difference}. Do not use it; the cache has dropped it.")
        return path

    def _patiently(self, what: str, request: Callable[[], _T]) -> _T:
        """Tries a request until it works, fails for good, or has had its attempts."""

        def one_try() -> _T:
            try:
                return request()
            except PassingError:
                raise
            except _BROKEN_OFF as failure:  # Within a body; huggingface_hub has tried to resume it.
                raise PassingError(str(failure) or type(failure).__name__) from failure
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, TypeError, LookupError) as failure:
                raise _refusal(what, failure) from failure

        def notice(text: str) -> None:
            self.progress(f"{_endpoint()}: {text}")

        try:
            return persist(one_try, self.patience, notice, deadline=self.deadline)
        except GaveUpError as failure:
            raise WeightsError(
                f"{_endpoint()} must answer for {what}, got: {failure.reason[:200]} (attempts: {failure.attempts}). "
                "Check the network and HF_ENDPOINT, try later, or use --model-path with a folder."
            ) from failure


class _OneTry(httpx2.Client):
    """A client that reports every passing fault at once, and stops reading at the deadline."""

    request_timeout_s: float
    deadline: float

    def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:  # noqa: ANN401
        if time.monotonic() > self.deadline:
            raise PassingError("no answer in time")
        request.extensions["timeout"] = httpx2.Timeout(self.request_timeout_s).as_dict()
        try:
            response = super().send(request, stream=True, **options)
        except _BROKEN_OFF as failure:
            raise PassingError(str(failure) or type(failure).__name__) from failure
        if response.status_code in _PASSING_STATUS:
            response.close()
            after = response.headers.get("Retry-After", "")
            raise PassingError(f"status {response.status_code}", float(after) if after.isdecimal() else None)
        response.stream = _UntilDeadline(cast(httpx2.SyncByteStream, response.stream), self.deadline)
        if not stream:
            response.read()
        return response


class _UntilDeadline(httpx2.SyncByteStream):
    """A body that ends in an error at the deadline, however slowly it drips."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            if time.monotonic() > self._deadline:
                raise PassingError("an answer that did not end in time")
            yield piece

    def close(self) -> None:
        self._stream.close()


@contextmanager
def _hub(repository: str, progress: Callable[[str], None], patience: Patience) -> Iterator[_Hub]:
    """One fetch: our client inside huggingface_hub, and its own one put back afterwards."""
    deadline = patience.deadline()

    def client() -> httpx2.Client:
        one_try = _OneTry(event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True)
        one_try.request_timeout_s, one_try.deadline = patience.request_timeout_s, deadline
        return one_try

    # Xet has a client and retries of its own; telemetry asks the hub for more than files, even on a cache hit.
    before = constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_XET = constants.HF_HUB_DISABLE_TELEMETRY = True
    set_client_factory(client)
    try:
        yield _Hub(repository, progress, patience, deadline)
    finally:
        set_client_factory(default_client_factory)
        constants.HF_HUB_DISABLE_XET, constants.HF_HUB_DISABLE_TELEMETRY = before


def _refusal(what: str, failure: Exception) -> WeightsError:
    """The one sentence for an answer that no retry changes."""
    origin = failure if failure.__cause__ is None or isinstance(failure, HfHubHTTPError) else failure.__cause__
    status = origin.response.status_code if isinstance(origin, HfHubHTTPError) else None
    if isinstance(origin, OfflineModeIsEnabled):
        return WeightsError(f"{what} must be cached while HF_HUB_OFFLINE is set. Unset it, or use --model-path.")
    if status in (401, 403, 404):
        return WeightsError(
            f"{what} must be open to us on {_endpoint()}, got {status}: not found, private or gated. "
            "Check the name and the revision, or set HF_TOKEN to a token that may read it."
        )
    if isinstance(failure, OSError) and failure.errno is not None:
        return WeightsError(f"The cache in HF_HOME must be writable, got: {failure.strerror}. Free what it needs.")
    got = f"status {status}" if status else f"{type(failure).__name__}: {failure}"[:200]
    return WeightsError(f"{_endpoint()} must answer for {what} as a hub does, got {got}. Check HF_ENDPOINT.")


def _endpoint() -> str:
    """The hub's address for a message, without a login that HF_ENDPOINT may carry."""
    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _difference(path: Path, promise: Promise) -> str | None:
    """What is promised and what the file is instead, or None for a file that keeps every promise."""
    try:
        size_bytes = path.stat().st_size
        if promise.size_bytes not in (None, size_bytes):
            return f"{promise.size_bytes} bytes, got {size_bytes}"
        git_blob = hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
        for label, promised, digest in (
            ("sha256", promise.sha256, hashlib.sha256()),
            ("git id", promise.git_sha1, git_blob),
        ):
            if promised is not None:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, lambda: digest).hexdigest()  # noqa: B023 - called here
                if found != promised:
                    return f"the {label} {promised}, got {found}"
    except OSError as failure:
        raise WeightsError(
            f"{path} must be readable, got: {failure.strerror}. Check the cache in HF_HOME."
        ) from failure
    return None
