"""Where the files of a published release are read from: GitHub, a served folder, a folder of this machine."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from model_release.base.errors import HostError, UsageError
from model_release.base.files import open_file
from model_release.base.github_access import GitHubAccess
from model_release.base.github_limits import MAX_ASSET_BYTES
from model_release.base.http import (
    REDIRECTS,
    AddressError,
    HttpClient,
    Response,
    check_address,
    origin_of,
    resolve,
    without_secrets,
)
from model_release.base.retry import TRANSIENT_STATUS, TransientError, retry_after_s
from model_release.hosts.host import Opened

_MAX_REDIRECTS = 10
_MAX_LISTING_BYTES = 1 << 24
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class LocalFolder:
    """A release in a folder of this machine: `DIR/<tag>`."""

    folder: Path

    def describe(self) -> str:
        """See `Source`."""
        return str(self.folder)

    @contextmanager
    def open(self, name: str, *, start: int, etag: str, deadline: float) -> Iterator[Opened]:  # noqa: ARG002
        """See `Source`."""
        path = self.folder / name
        try:
            file = open_file(path, limit_bytes=MAX_ASSET_BYTES)
        except OSError as failure:
            raise HostError(
                f"{path} must be readable, got: {failure.strerror}. Correct --from or the tag."
            ) from failure
        with file:
            file.seek(start)
            size_bytes = os.fstat(file.fileno()).st_size
            yield Opened(start=start, size_bytes=size_bytes, etag="", pieces=iter(lambda: file.read(_PIECE_BYTES), b""))


class WebFolder:
    """A release's files side by side at an address: `URL/<name>`.

    Args:
        url: The folder.
        web: The network.
        advice: What to do when there is no such file.
    """

    def __init__(self, url: str, web: HttpClient, *, advice: str = "Correct the address or the tag.") -> None:
        try:
            check_address(url)
        except AddressError as failure:
            raise UsageError(f"a release's address {failure}, got {url[:80]!a}. Correct it.") from failure
        if "?" in url or "#" in url:
            raise UsageError(f"a release's address must have no query, got {url[:80]!a}. Remove it.")
        self._url = url.rstrip("/")
        self._web = web
        self._advice = advice

    def describe(self) -> str:
        """See `Source`."""
        return without_secrets(self._url)

    @contextmanager
    def open(self, name: str, *, start: int, etag: str, deadline: float) -> Iterator[Opened]:
        """See `Source`."""
        url = f"{self._url}/{quote(name, safe='')}"
        with _follow(self._web, url, _range(start, etag), deadline) as answer:
            yield _opened(answer, without_secrets(url), start, self._advice)


class GitHubRelease:
    """A release on GitHub: by its public download addresses, or through the API.

    The API is asked where the addresses answer 404 and there is a token, as in a private repository.

    Args:
        access: The repository, and where it is. The API is the only origin that ever sees the token.
        tag: An accepted tag.
        web: The network.
    """

    def __init__(self, access: GitHubAccess, tag: str, web: HttpClient) -> None:
        self._repository, self._tag, self._web, self._token = access.repository, tag, web, access.token
        self._folder = f"{access.server_url}/{access.repository}/releases/download/{quote(tag, safe='')}"
        self._api = f"{access.api_url}/repos/{access.repository}/releases"
        self._assets: dict[str, int] | None = None

    def describe(self) -> str:
        """See `Source`."""
        return f"{self._tag} of {self._repository}"

    @contextmanager
    def open(self, name: str, *, start: int, etag: str, deadline: float) -> Iterator[Opened]:
        """See `Source`."""
        url = f"{self._folder}/{quote(name, safe='')}"
        wanted = _range(start, etag)
        with ExitStack() as stack:
            answer = None
            if self._assets is None:
                answer = stack.enter_context(_follow(self._web, url, wanted, deadline))
            if answer is None or (answer.status == 404 and self._token):
                stack.close()
                if self._assets is None:
                    self._assets = self._listed(deadline)
                if name not in self._assets:
                    raise HostError(f"{self.describe()} must hold {name}, got no such file. Publish the release again.")
                url = f"{self._api}/assets/{self._assets[name]}"
                headers = {**wanted, "Accept": "application/octet-stream"}
                answer = stack.enter_context(self._as_ourselves(url, headers, deadline))
            yield _opened(answer, f"{name} of {self.describe()}", start, self._advice())

    def _listed(self, deadline: float) -> dict[str, int]:
        """Asset ids by name, from the API."""
        what = f"{self.describe()} in GitHub's API"
        url = f"{self._api}/tags/{quote(self._tag, safe='')}"
        with self._as_ourselves(url, {"Accept": "application/vnd.github+json"}, deadline) as answer:
            opened = _opened(answer, what, 0, self._advice())
            content = bytearray()
            for piece in opened.pieces:
                content += piece
                if len(content) > _MAX_LISTING_BYTES:
                    raise HostError(f"{what} must be a short list. Check GITHUB_API_URL.")
        try:
            assets = json.loads(bytes(content))["assets"]
            return {str(each["name"]): int(each["id"]) for each in assets if each["state"] == "uploaded"}
        except (ValueError, TypeError, LookupError, RecursionError) as failure:
            raise HostError(f"{what} must list its assets, got something else. Check GITHUB_API_URL.") from failure

    def _as_ourselves(self, url: str, headers: Mapping[str, str], deadline: float) -> AbstractContextManager[Response]:
        return _follow(self._web, url, headers, deadline, token=self._token)

    def _advice(self) -> str:
        if self._token:
            return "Check --repo and the tag, and that the release is public and GITHUB_TOKEN may read it."
        return "Check --repo and the tag, and that the release is public; a private one needs GITHUB_TOKEN."


def release_page(asset_url: str) -> str:
    """The page of the release that an asset is in; empty for an address that is none of GitHub's.

    >>> release_page("https://github.com/o/r/releases/download/model-v1.0.0/model.onnx")
    'https://github.com/o/r/releases/tag/model-v1.0.0'
    """
    match = re.fullmatch(r"(https?://.+/releases)/download/([^/]+)/[^/]+", asset_url)
    return f"{match[1]}/tag/{match[2]}" if match else ""


def github_repository(folder_url: str, server_url: str) -> str:
    """The repository whose release downloads a URL's folder is, or nothing.

    >>> github_repository("https://github.com/o/r/releases/download/model-v1.0.0", "https://github.com")
    'o/r'
    """
    prefix = urlsplit(server_url).path.rstrip("/")
    match = re.fullmatch(rf"{re.escape(prefix)}/([^/]+/[^/]+)/releases/download/[^/]+", urlsplit(folder_url).path)
    return match[1] if match and origin_of(folder_url) == origin_of(server_url) else ""


@contextmanager
def _follow(
    web: HttpClient, url: str, headers: Mapping[str, str], deadline: float, *, token: str = ""
) -> Iterator[Response]:
    """The answer at the end of all redirects; a token goes no further than the origin asked first.

    Raises:
        TransientError: It may go better later.
        HostError: A redirect leads where we do not go, or round in circles.
    """
    first = url
    with ExitStack() as stack:
        for _ in range(_MAX_REDIRECTS + 1):
            trusted = token and origin_of(url) == origin_of(first)
            login = {"Authorization": f"Bearer {token}"} if trusted else {}
            try:
                answer = stack.enter_context(web.get(url, {**headers, **login}, deadline))
                if answer.status not in REDIRECTS or not answer.headers.get("location"):
                    break
                url = resolve(url, answer.headers["location"])
            except AddressError as failure:
                raise HostError(
                    f"{without_secrets(first)} must lead to a file, but an address on its way {failure}. Do not use it."
                ) from failure
            stack.close()
        else:
            raise HostError(
                f"{without_secrets(first)} must lead to a file, got more than {_MAX_REDIRECTS} redirects. Correct it."
            )
        yield answer


def _range(start: int, etag: str) -> dict[str, str]:
    """Asks for the rest of a file, if it is still the same one (RFC 9110, 13.1.5 and 14.2)."""
    if start == 0:
        return {}
    return {"Range": f"bytes={start}-"} | ({"If-Range": etag} if etag else {})


def _opened(answer: Response, what: str, start: int, advice: str) -> Opened:
    """An answer's file.

    Raises:
        TransientError: The server is busy.
        HostError: The server has no such file for us.
    """
    status, headers = answer.status, answer.headers
    wait_s = retry_after_s(headers.get("retry-after", ""))
    # GitHub's secondary limits are a 403 with Retry-After, or a 429.
    if status in TRANSIENT_STATUS or (status == 403 and wait_s is not None):
        raise TransientError(f"status {status}", wait_s)
    if status == 416 and start:
        return Opened(start=None, size_bytes=None, etag="", pieces=iter(()))
    if status not in (200, 206):
        raise HostError(f"{what} must be open to us, got status {status}. {advice}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HostError(f"{what} must be sent as it is, got the encoding {headers['content-encoding'][:40]}. {advice}")
    etag = headers.get("etag", "")
    etag = etag if re.fullmatch(r'"[\x21\x23-\x7e]{0,200}"', etag) else ""
    if status == 200:
        length = headers.get("content-length", "")
        size = int(length) if re.fullmatch("[0-9]{1,15}", length) else None
        return Opened(start=0, size_bytes=size, etag=etag, pieces=answer.pieces)
    match = re.fullmatch(r"bytes ([0-9]{1,15})-[0-9]{1,15}/([0-9]{1,15}|\*)", headers.get("content-range", ""))
    return Opened(
        start=int(match[1]) if match else None,
        size_bytes=int(match[2]) if match and match[2] != "*" else None,
        etag=etag,
        pieces=answer.pieces,
    )
