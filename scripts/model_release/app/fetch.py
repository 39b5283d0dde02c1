"""The web app's build step: the release's files into the app's static folder, and their URL into its env.

A browser cannot fetch a release asset from GitHub, so the app's build does, and serves the file from its
own origin. What is there already, with the right hashes, needs no network.
"""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

from model_release.app import envfile
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import (
    MODELS_FOLDER,
    AppFiles,
    Layout,
    app_files,
    check_query,
)
from model_release.app.overrides import find_shadows_beside
from model_release.base.errors import (
    EnvFileError,
    ExportError,
    ManifestError,
    ReleaseError,
    UsageError,
)
from model_release.base.files import (
    LFS_POINTER,
    check_replaceable,
    is_pointer,
    read_bytes,
    sha256_of_bytes,
    write_bytes,
)
from model_release.base.github_access import GitHubAccess
from model_release.base.http import Web
from model_release.base.progress import Progress
from model_release.base.retry import RetryPolicy
from model_release.contract import manifest
from model_release.contract.dist import check_manifest, parse_checksums
from model_release.contract.manifest import CHECKSUMS_NAME, MANIFEST_NAME
from model_release.contract.tag import ReleaseTag, parse_tag
from model_release.hosts.download import (
    Downloader,
    alone_in,
    is_there,
    place,
)
from model_release.hosts.host import Source
from model_release.hosts.source import (
    GitHubRelease,
    LocalFolder,
    WebFolder,
    github_repository,
)

_TREE = "Commit the release's files (all of them, in full), or give --from to fetch them."

Outcome = Literal["fetched", "present", "git"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the release is read from.

    Attributes:
        kind: `env` is the folder that `VITE_MODEL_URL` points into.
        folder: Of `local`: the folder that holds a folder a tag.
        base_url: Of `url`: where such a folder is served.
        github: Where GitHub is, and a token if there is one; of `github` the repository too.
    """

    kind: Literal["env", "github", "local", "url"] = "env"
    folder: Path = Path()
    base_url: str = ""
    github: GitHubAccess = field(default_factory=GitHubAccess)


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """What the app's build wants.

    Attributes:
        env_file: Where a release has committed version and URL; must exist unless `tag` is given.
        static_dir: The folder the app serves at its base.
        tag: Another release than the committed one.
        precision: Another variant than the release's own choice.
        layout: Where the app looks for the files.
        environment: Of the build, looked at for values that would override ours.
    """

    env_file: Path
    static_dir: Path
    place: Place = field(default_factory=Place)
    tag: ReleaseTag | None = None
    precision: str | None = None
    layout: Layout = "flat"
    environment: Mapping[str, str] = field(default_factory=dict)
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, kw_only=True)
class FetchResult:
    """What was done.

    Attributes:
        outcome: `git` where the model is part of the app's tree.
        folder: Where the files are.
        url: What the app will read.
        downloaded: Names of the files that were.
        env_file: The file that holds `url`.
        env_changed: Whether it was written.
        warnings: What would override the URL.
    """

    outcome: Outcome
    folder: Path
    url: str
    downloaded: tuple[str, ...]
    env_file: Path
    env_changed: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Committed:
    """What the env file says. `url` is without its query; all are empty where it says nothing."""

    version: str = ""
    url: str = ""
    file: str = ""
    query: str = ""


def fetch_model(request: FetchRequest, progress: Progress, *, web: Web | None = None) -> FetchResult:
    """Brings the app its model.

    Raises:
        UsageError: Tag, repository or address are none.
        EnvFileError: The env file is missing, or says nothing that can be fetched.
        ManifestError: The release is not what its own hashes, or the env file, say.
        HostError: The release cannot be read.
        ExportError: The static folder cannot be written.
    """
    committed = _read_committed(request)
    tag = request.tag or parse_tag(f"model-v{committed.version}")
    if not _is_absolute(committed.url) and request.place.kind == "env" and request.tag is None:
        return _verify_tree(request, committed, tag)
    local = request.env_file.with_name(f"{request.env_file.name}.local")
    _check_local(local)
    # The `?v=` of the env file is about the release it names; --tag may ask for another one.
    agreed = committed if committed.version == tag.version and committed.file else None
    found = _present(request, tag, agreed)
    outcome: Outcome = "present"
    downloaded: tuple[str, ...] = ()
    if found is None:
        source = _source(request, committed, tag, web or Web(timeout_s=request.retry_policy.request_timeout_s))
        progress(f"release: {source.describe()}")
        outcome = "fetched"
        found, downloaded = _download(request, source, tag, agreed, progress)
    values = {URL_KEY: found.url, VERSION_KEY: found.version}
    changed = _write_local(local, values)
    return FetchResult(
        outcome=outcome,
        folder=_folder(request, found),
        url=found.url,
        downloaded=downloaded,
        env_file=local,
        env_changed=changed,
        warnings=find_shadows_beside(local, values, request.environment),
    )


def _read_committed(request: FetchRequest) -> _Committed:
    """The env file's version and URL.

    Raises:
        EnvFileError: It cannot be read, or a value is missing that nothing else tells.
    """
    text = _read(request.env_file)
    if text is None and request.tag is None:
        raise EnvFileError(f"{request.env_file} must exist. Make a release first, or give --tag and where it is.")
    version, url = (envfile.get_value(text or "", key) or "" for key in (VERSION_KEY, URL_KEY))
    if request.tag is None and not version:
        raise EnvFileError(
            f"{request.env_file} must set {VERSION_KEY}, got nothing. Make a release first, or give --tag."
        )
    if not url:
        if request.tag is None and request.place.kind == "env":
            raise EnvFileError(
                f"{request.env_file} must set {URL_KEY}, got nothing. Make a release first, or give --from."
            )
        return _Committed(version=version)
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query).get("v", [""])[-1]
    except ValueError as failure:
        raise _no_url(request, url) from failure
    file = unquote(parts.path).rpartition("/")[2]
    if parts.scheme not in ("", "http", "https") or (parts.netloc and not parts.scheme) or not file:
        raise _no_url(request, url)
    return _Committed(version=version, url=url.partition("?")[0].partition("#")[0], file=file, query=query)


def _no_url(request: FetchRequest, url: str) -> EnvFileError:
    return EnvFileError(
        f"{request.env_file} must set {URL_KEY} to an http(s) URL or a path in the app, got {url[:80]!a}. Correct it."
    )


def _is_absolute(url: str) -> bool:
    return "://" in url


def _verify_tree(request: FetchRequest, committed: _Committed, tag: ReleaseTag) -> FetchResult:
    """Delivery by git: everything is in the tree already; looks whether it is what the release says.

    Raises:
        ManifestError: It is not.
    """
    for option, is_given in (("--precision", request.precision is not None), ("--layout", request.layout != "flat")):
        if is_given:
            raise UsageError(f"{option} needs a release to fetch from. Give --from too.")
    path = unquote(committed.url).lstrip("/")
    match = re.fullmatch(rf"{MODELS_FOLDER}/([A-Za-z0-9][A-Za-z0-9._-]*)/([A-Za-z0-9][A-Za-z0-9._-]*)", path)
    if not match:
        raise _no_url(request, committed.url)
    folder = request.static_dir / MODELS_FOLDER / match[1]
    try:
        document = manifest.parse(read_bytes(folder / MANIFEST_NAME, limit_bytes=manifest.MAX_MANIFEST_BYTES))
    except OSError as failure:
        raise ManifestError(
            f"{folder / MANIFEST_NAME} must be in the app's tree, got: {failure.strerror}. {_TREE}"
        ) from failure
    wanted = app_files(document, tag)
    check_query(document, tag, committed.file, committed.query)
    if (wanted.folder, wanted.model.name) != match.groups():
        raise ManifestError(f"{path} must be the model of {folder / MANIFEST_NAME}, got {wanted.model.name}. {_TREE}")
    for entry in wanted.entries:
        if is_pointer(folder / entry.name):
            raise ManifestError(f"{folder / entry.name} must be the release's file, got {LFS_POINTER}.")
        if not is_there(folder / entry.name, entry):
            raise ManifestError(f"{folder / entry.name} must have the sha256 {entry.sha256}. {_TREE}")
    values = {URL_KEY: f"{committed.url}?v={committed.query}", VERSION_KEY: committed.version}
    return FetchResult(
        outcome="git",
        folder=folder,
        url=values[URL_KEY],
        downloaded=(),
        env_file=request.env_file,
        env_changed=False,
        warnings=find_shadows_beside(request.env_file, values, request.environment),
    )


def _present(request: FetchRequest, tag: ReleaseTag, agreed: _Committed | None) -> AppFiles | None:
    """The release, if an earlier run has brought it whole; what is broken counts as not there."""
    for path in sorted((request.static_dir / MODELS_FOLDER).glob(f"*/{MANIFEST_NAME}")):
        try:
            document = manifest.parse(read_bytes(path, limit_bytes=manifest.MAX_MANIFEST_BYTES))
            found = app_files(document, tag, precision=request.precision, layout=request.layout)
            if agreed:
                check_query(document, tag, agreed.file, agreed.query)
        except (ManifestError, OSError):
            continue
        folder = path.parent
        is_whole = all(is_there(folder / found.path(each.name), each) for each in found.entries)
        if found.folder == folder.name and is_whole and all((folder / name).is_file() for name in found.filled):
            return found
    return None


def _source(request: FetchRequest, committed: _Committed, tag: ReleaseTag, web: Web) -> Source:
    """Where to read the release.

    Raises:
        UsageError: What was given names no place.
    """
    place = request.place
    if place.kind == "local":
        return LocalFolder(folder=place.folder / tag.text)
    if place.kind == "url":
        return WebFolder(f"{place.base_url.rstrip('/')}/{tag.text}", web)
    access = place.github
    if place.kind == "env":
        if not _is_absolute(committed.url):
            raise UsageError("--tag needs to know where its release is. Give --from or --base-url.")
        folder = committed.url.rpartition("/")[0]
        parent, _, last = folder.rpartition("/")
        if last == f"model-v{committed.version}":
            folder = f"{parent}/{tag.text}"
        elif request.tag is not None and committed.version != tag.version:
            raise UsageError(f"--tag needs to know where its release is; {URL_KEY} does not tell. Give --from.")
        repository = github_repository(folder, access.server_url)
        if not repository:
            return WebFolder(folder, web)
        access = replace(access, repository=repository)
    if not access.repository:
        raise UsageError("--from github needs --repo OWNER/NAME, or GITHUB_REPOSITORY. Give one.")
    return GitHubRelease(access, tag.text, web)


def _download(
    request: FetchRequest, source: Source, tag: ReleaseTag, agreed: _Committed | None, progress: Progress
) -> tuple[AppFiles, tuple[str, ...]]:
    """Downloads what is missing, verifies all of it, and only then gives each file its name; the manifest last."""
    downloader = Downloader(source, request.retry_policy, progress)
    checksums = parse_checksums(downloader.small(CHECKSUMS_NAME, manifest.MAX_CHECKSUMS_BYTES))
    content = downloader.small(MANIFEST_NAME, manifest.MAX_MANIFEST_BYTES)
    document = check_manifest(content, checksums, sha256_of_bytes(content))
    wanted = app_files(document, tag, precision=request.precision, layout=request.layout)
    if agreed:
        check_query(document, tag, agreed.file, agreed.query)
    folder = _folder(request, wanted)
    places = {entry: folder / wanted.path(entry.name) for entry in wanted.entries}
    with ExitStack() as held:
        for each in sorted({folder, *(path.parent for path in places.values())}):
            held.enter_context(alone_in(each, progress))
        missing = {entry: path for entry, path in places.items() if not is_there(path, entry)}
        partials = downloader.files(missing)
        for entry, partial in partials.items():
            place(partial, places[entry])
        for path in (folder / name for name in wanted.filled):
            if not path.is_file():
                write_bytes(path, b"{}\n", error=ExportError)
        if _bytes(folder / MANIFEST_NAME, manifest.MAX_MANIFEST_BYTES, ManifestError) != content:
            write_bytes(folder / MANIFEST_NAME, content, error=ExportError)
    return wanted, tuple(entry.name for entry in partials)


def _folder(request: FetchRequest, files: AppFiles) -> Path:
    return request.static_dir / MODELS_FOLDER / files.folder


def _check_local(path: Path) -> None:
    """Everything about the env file to write that can be known before there is a model.

    Raises:
        EnvFileError: It cannot be read, edited safely, or written.
    """
    check_replaceable(path, error=EnvFileError)
    envfile.set_values(_read(path) or "", {URL_KEY: "x", VERSION_KEY: "x"})


def _write_local(path: Path, values: Mapping[str, str]) -> bool:
    """Sets our keys in the file that Vite reads before the committed one; other lines stay."""
    before = _read(path)
    after = envfile.set_values(before or "", values)
    if before == after:
        return False
    write_bytes(path, envfile.encode(after), error=EnvFileError)
    return True


def _read(path: Path) -> str | None:
    """An env file's text; None where there is none.

    Raises:
        EnvFileError: It cannot be read, or is no UTF-8.
    """
    content = _bytes(path, envfile.MAX_BYTES, EnvFileError)
    return None if content is None else envfile.decode(content, str(path))


def _bytes(path: Path, limit_bytes: int, error: type[ReleaseError]) -> bytes | None:
    try:
        return read_bytes(path, limit_bytes=limit_bytes)
    except FileNotFoundError:
        return None
    except OSError as failure:
        raise error(f"{path} must be a readable file, got: {failure.strerror}. Correct the path.") from failure
