"""One GET at a time, as plain facts: no redirect is followed, no login is added, and every wait ends.

Whoever asks decides what a redirect may do: a browser's rules are in `hosts.cors_probe`, a download's in
`hosts.source`.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from model_release.base.retry import TransientError
from model_release.base.text import quoted
from model_release.base.timed_session import TimedSession

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""https://fetch.spec.whatwg.org/#redirect-status"""

MAX_URL_CHARS = 8192

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
"""What a file is served as, by its suffix; anything else is application/octet-stream."""

_PIECE_BYTES = 1 << 18
_DEFAULT_PORTS = {"http": 80, "https": 443}


class AddressError(Exception):
    """An address that nobody should go to; the text says what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """What a server says.

    Attributes:
        headers: By name in lower case; one that was sent more than once is joined by ", ", as browsers do.
        pieces: The body, decoded from its transfer and content encoding, as it arrives. Reading it raises
            `TransientError` where the connection breaks off, or the time is over.
    """

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


class HttpClient(Protocol):
    """What `Web` does over the network, and its twin in the tests in memory."""

    def get(self, url: str, headers: Mapping[str, str], deadline: float) -> AbstractContextManager[Response]:
        """Asks for a URL; see `Web.get`."""


class Web:
    """The network.

    Args:
        timeout_s: Longest silence of a server.
    """

    def __init__(self, *, timeout_s: float = 20.0) -> None:
        self._timeout_s = timeout_s
        self._session = TimedSession()
        self._session.headers.clear()
        self._session.headers.update({"User-Agent": "model-release", "Accept": "*/*", "Accept-Encoding": "identity"})

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], deadline: float) -> Iterator[Response]:
        """Asks for a URL.

        Args:
            url: An absolute http(s) URL.
            headers: Further headers.
            deadline: Of `time.monotonic`; no byte is read after it.

        Yields:
            The answer; the connection is closed with the block.

        Raises:
            TransientError: There is no answer, or not in time.
            AddressError: The URL cannot be asked.
        """
        if deadline <= time.monotonic():
            raise TransientError("no answer in time")
        self._session.cookies.clear()
        self._session.deadline = min(deadline, time.monotonic() + 3 * self._timeout_s)  # For the head of the answer.
        try:
            response = self._session.get(
                url, headers=dict(headers), stream=True, allow_redirects=False, timeout=self._timeout_s
            )
        except requests.exceptions.SSLError as failure:
            raise AddressError("has no certificate this machine trusts") from failure
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError) as failure:
            raise AddressError("is no address that can be asked") from failure
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as failure:
            raise TransientError(_reason(failure)) from failure
        self._session.deadline = deadline
        with response:
            yield Response(
                status=response.status_code,
                headers={name.lower(): text for name, text in response.headers.items()},
                pieces=_pieces(response.raw, deadline),
            )


def resolve(url: str, location: str) -> str:
    """Where a redirect leads.

    >>> resolve("https://a.example/x/y", "../z")
    'https://a.example/z'

    Raises:
        AddressError: Not to another http(s) address, or from https down to http.
    """
    location = location.strip()
    if re.match(r"(?i)https?:///|.*\\", location):  # Browsers find other hosts in these than Python does.
        raise AddressError("is no address of a host")
    try:
        target = urljoin(url, location)
    except ValueError as failure:
        raise AddressError("is no address") from failure
    check_address(target)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise AddressError("leads from https down to http")
    return target


def check_address(url: str) -> None:
    """Refuses what is no absolute http(s) URL of a host, or holds a login.

    Raises:
        AddressError: The URL is refused.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as failure:
        raise AddressError("is no address") from failure
    if parts.scheme not in _DEFAULT_PORTS:
        got = f", not with {parts.scheme[:20]}:" if parts.scheme else ""
        raise AddressError(f"must start with http:// or https://{got}")
    if not parts.hostname or port == 0 or len(url) > MAX_URL_CHARS or not url.isprintable():
        raise AddressError("is no address of a host")
    if parts.username is not None or parts.password is not None:
        raise AddressError("must not hold a login")


def origin_of(url: str) -> str:
    """The origin of an http(s) URL, as browsers write it.

    >>> origin_of("HTTPS://App.example:443/x?y"), origin_of("http://[::1]:8080/")
    ('https://app.example', 'http://[::1]:8080')
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def without_secrets(url: str) -> str:
    """A URL for a message: without its query, which may hold a signature, and without a login.

    >>> without_secrets("https://me:secret@a.example/x?sig=secret#y")
    'https://a.example/x'
    """
    try:
        return (origin_of(url) + urlsplit(url).path)[:200]
    except ValueError:
        return quoted(url)


def _pieces(raw: urllib3.response.BaseHTTPResponse, deadline: float) -> Iterator[bytes]:
    """The body as it arrives: whatever is there, so that a slow server cannot outlast the deadline."""
    while True:
        if time.monotonic() > deadline:
            raise TransientError("an answer that did not end in time")
        try:
            piece = raw.read1(_PIECE_BYTES, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as failure:
            raise TransientError(_reason(failure)) from failure
        if not piece:
            return
        yield piece


def _reason(failure: BaseException) -> str:
    """Why there is no answer, in a few words: the libraries' own sentences hold whole URLs."""
    chain = [failure]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    for seen in chain:  # First of all: to urllib3, a refused connection is one that takes too long.
        if isinstance(seen, OSError) and seen.errno is not None and seen.strerror:
            return seen.strerror.lower()
    if any(isinstance(seen, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)) for seen in chain):
        return "no answer in time"
    return "a connection that broke off"
