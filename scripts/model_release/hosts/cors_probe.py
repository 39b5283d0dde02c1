"""Would a browser get this file? Follows each redirect as a cross-origin `fetch` does, and judges every hop.

The rules are the Fetch standard's (https://fetch.spec.whatwg.org/):

- `#cors-check`: once a request has left the page's origin, every answer, redirects included, needs an
  `Access-Control-Allow-Origin` that is `*` or exactly the `Origin` that was sent; coming home does not help.
- `#serializing-a-request-origin` with `#concept-request-tainted-origin`: the `Origin` sent is the page's,
  until a foreign origin redirects to another one; from then on it is `null`.
- `#http-redirect-fetch`: to http(s) only, to no address with a login, at most 20 times.
- https://www.w3.org/TR/mixed-content/: a page of https loads nothing by http, but from its own machine.
- `#cors-protocol-and-http-caches`: browsers and CDNs keep answers, and give the page one that was made for a request
  with another `Origin`, or with none, unless `Vary: Origin` tells them not to. So every hop is asked without one, too.

`fetch(url)` is meant: a GET without credentials and further headers, so there is no preflight.
"""

import hashlib
import ipaddress
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from model_release.base.errors import (
    HostError,
    ManifestError,
    ReleaseError,
    UsageError,
)
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
from model_release.base.retry import TRANSIENT_STATUS, TransientError

DEFAULT_ORIGIN = "https://app.example"
MAX_REDIRECTS = 20

_MAX_BODY_BYTES = 2**32
_ADVICE = (
    "Let the app's build take the file with scripts/fetch.py and serve it from the app's own origin, "
    "or put it on a mirror that allows other origins."
)
_REPAIR = "Publish the release again, or correct the address."
_CACHE_ADVICE = (
    "Send Vary: Origin, or Access-Control-Allow-Origin: *, with every answer (where S3 does not, a CDN before it can), "
    "or forbid caches with Cache-Control: no-cache."
)
_KEPT_UNASKED = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""What caches keep where nothing is said about it: https://www.rfc-editor.org/rfc/rfc9110#section-15.1"""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One request as a browser would make it, and what came back.

    Attributes:
        sent_origin: The `Origin` header; None while the request has not left the page's origin.
        status: None where nothing was answered.
        allow_origin: `Access-Control-Allow-Origin` of the answer, or None.
        location: Where it redirects to, resolved; None if it does not, or if there is a `fault`.
        fault: Why the request could not be made or followed; empty if it could.
        vary: `Vary` of the answer, or None.
        is_kept: Whether a cache may keep the answer, and use it again without asking.
        bare: The same request without `Origin`, as another page or a person makes it; None if it was not made.
    """

    number: int
    url: str
    sent_origin: str | None
    status: int | None = None
    allow_origin: str | None = None
    location: str | None = None
    fault: str = ""
    vary: str | None = None
    is_kept: bool = False
    bare: "Hop | None" = None


@dataclass(frozen=True, kw_only=True)
class HopFault:
    """What is wrong.

    Attributes:
        hop: The number of the request it happens at.
        message: One sentence with what to do.
        error: The class of failure it is.
        passing: Whether asking again may help: no answer, a broken-off one, or one of a server in trouble.
        by_cache: Whether it happens only where a cache holds an answer that was made for somebody else.
    """

    hop: int
    message: str
    error: type[ReleaseError]
    passing: bool = False
    by_cache: bool = False


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a browser would see.

    Attributes:
        hops: The requests, in order; the last is the one that ended it, well or badly.
        size_bytes: Of the file; None where none arrived.
        sha256: Of the file; None where none arrived.
        findings: What is wrong; none if the app gets the file.
    """

    hops: tuple[Hop, ...]
    size_bytes: int | None
    sha256: str | None
    findings: tuple[HopFault, ...]

    @property
    def may_pass(self) -> bool:
        """Whether asking again may help."""
        return any(finding.passing for finding in self.findings)

    def require(self) -> None:
        """Raises the first finding's error with every finding in it.

        Raises:
            HostError: A browser would not get the file.
            ManifestError: It would get other bytes than promised.
        """
        if self.findings:
            raise self.findings[0].error(" ".join(finding.message for finding in self.findings))


def probe(
    url: str,
    web: HttpClient,
    *,
    origin: str = DEFAULT_ORIGIN,
    sha256: str | None = None,
    size_bytes: int | None = None,
    total_timeout_s: float = 1800.0,
) -> Probe:
    """Fetches a URL as a browser would for a page of `origin`.

    Args:
        url: Where the app looks for its model.
        web: The network.
        origin: The page's origin; files of it need no permission.
        sha256: What the file must hash to; None does not look.
        size_bytes: What it must measure; None does not look.
        total_timeout_s: Bound on everything.

    Raises:
        UsageError: `url` or `origin` is none.
    """
    _check(url, origin, sha256)
    deadline = time.monotonic() + total_timeout_s
    hops: list[Hop] = []
    found: tuple[int, str] | None = None
    while True:
        hop, found = _ask(url, origin_of(origin), hops, web, deadline)
        hops.append(hop)
        if hop.location is None or judge_hop(hop, origin) is not None or len(hops) > MAX_REDIRECTS:
            break
        url = hop.location
    size, digest = found or (None, None)
    findings = judge(hops, origin, found=found, sha256=sha256, size_bytes=size_bytes)
    if not findings:
        hops = [_with_bare(hop, web, deadline) for hop in hops]
        findings = judge_caching(hops)
    return Probe(hops=tuple(hops), size_bytes=size, sha256=digest, findings=findings)


def render(result: Probe) -> str:
    """The hops, and what was found at the end of them, for a terminal."""
    lines = []
    for hop in result.hops:
        lines.append(f"hop {hop.number}: {without_secrets(hop.url)}")
        if hop.status is None:
            continue
        asked = f"Origin: {hop.sent_origin}" if hop.sent_origin is not None else "same origin"
        lines.append(f"       status {hop.status}, {asked}, {_permission(hop)}")
        if hop.bare is not None and hop.bare.status is not None:
            vary = _shown(hop.bare.vary)
            lines.append(f"       status {hop.bare.status}, no Origin, {_permission(hop.bare)}, Vary: {vary}")
    if result.size_bytes is not None:
        lines.append(f"file:  {result.size_bytes} bytes, sha256 {result.sha256}")
    if not result.findings:
        lines.append("a browser gets this file")
    return "\n".join(lines)


def sent_origin(urls: Sequence[str], origin: str) -> str | None:
    """The `Origin` header of the last of these requests, each but the first a redirect of the one before.

    >>> page = "https://app.example"
    >>> sent_origin(["https://app.example/m"], page)
    >>> sent_origin(["https://app.example/m", "https://a.example/m"], page)
    'https://app.example'
    >>> sent_origin(["https://a.example/m", "https://b.example/m"], page)
    'null'
    >>> sent_origin(["https://a.example/m", "https://app.example/m"], page)
    'null'
    """
    origins = [origin_of(url) for url in urls]
    if all(each == origin for each in origins):
        return None
    tainted = any(there != here and here != origin for here, there in pairwise(origins))
    return "null" if tainted else origin


def judge_hop(hop: Hop, origin: str) -> str | None:
    """What stops a browser at this request: a sentence, or None where it goes on."""
    where = f"hop {hop.number}, {without_secrets(hop.url)},"
    if _is_mixed_content(hop.url, origin):
        return f"{where} must be https for a page of {origin}: browsers block mixed content. Serve it by https."
    if hop.status is None:
        return f"{where} must answer, got {hop.fault}. Check the address and try again."
    if hop.sent_origin is not None and hop.allow_origin not in ("*", hop.sent_origin):
        sentence = (
            f"{where} must send Access-Control-Allow-Origin: * or {hop.sent_origin}, "
            f"got {_shown(hop.allow_origin)} (status {hop.status})"
        )
        if hop.sent_origin == "null":
            sentence += "; behind a redirect between two foreign origins, browsers send Origin: null"
        if "/releases/download/" in urlsplit(hop.url).path:
            sentence += "; GitHub sends none with release assets"
        return f"{sentence}. {_ADVICE}"
    if hop.fault:
        return f"{where} must redirect to where a browser may go, but its Location {hop.fault}. {_ADVICE}"
    if hop.location is not None:
        return None
    if hop.status != 200:
        return (
            f"{where} must answer with 200, got {hop.status}. Check that the release is public and the address right."
        )
    return None


def judge(
    hops: Sequence[Hop],
    origin: str,
    *,
    found: tuple[int, str] | None,
    sha256: str | None,
    size_bytes: int | None,
) -> tuple[HopFault, ...]:
    """Every finding: the hop that stops a browser, else what is wrong with the bytes."""
    last = hops[-1]

    def finding(message: str, error: type[ReleaseError]) -> HopFault:
        return HopFault(hop=last.number, message=message, error=error)

    for hop in hops:
        if (message := judge_hop(hop, origin)) is not None:
            passing = (hop.status is None and hop.fault != "") or hop.status in TRANSIENT_STATUS
            return (HopFault(hop=hop.number, message=message, error=HostError, passing=passing),)
    if last.location is not None:
        return (
            finding(
                f"hop {last.number} must be the last, but browsers follow {MAX_REDIRECTS} redirects and this is "
                f"one more, to {without_secrets(last.location)}. Correct the address.",
                HostError,
            ),
        )
    if found is None:
        message = f"{without_secrets(last.url)} must end in time and whole, but broke off. Try again."
        return (HopFault(hop=last.number, message=message, error=HostError, passing=True),)
    findings = []
    size, digest = found
    if size_bytes is not None and size != size_bytes:
        findings.append(
            finding(f"{without_secrets(last.url)} must have {size_bytes} bytes, got {size}. {_REPAIR}", ManifestError)
        )
    if sha256 is not None and digest != sha256:
        findings.append(
            finding(
                f"{without_secrets(last.url)} must have the sha256 {sha256}, got {digest}. {_REPAIR}", ManifestError
            )
        )
    return tuple(findings)


def judge_caching(hops: Sequence[Hop]) -> tuple[HopFault, ...]:
    """What a cache may do to the page at hops that are good by themselves, each asked without `Origin`, too."""
    findings = []
    for hop in hops:
        bare = hop.bare
        if bare is None or bare.allow_origin in ("*", hop.sent_origin):
            continue
        where = f"hop {hop.number}, {without_secrets(hop.url)},"
        if bare.status is None:
            message = f"{where} must answer without an Origin, too, got {bare.fault}. Try again."
            findings.append(HopFault(hop=hop.number, message=message, error=HostError, passing=True))
        elif bare.is_kept and not _varies(bare):
            message = (
                f"{where} must send Vary: Origin to a request without Origin, too, got {_shown(bare.vary)} and "
                f"{_permission(bare)}: a browser or CDN that keeps this answer gives it to the page, which may not "
                f"read it. {_CACHE_ADVICE}"
            )
            findings.append(HopFault(hop=hop.number, message=message, error=HostError, by_cache=True))
        elif hop.allow_origin != "*" and hop.is_kept and not _varies(hop):
            message = (
                f"{where} must send Vary: Origin, as it allows {hop.sent_origin} only when asked by it, got "
                f"{_shown(hop.vary)}: a CDN that keeps the answer to another page gives it to this one, which may not "
                f"read it. {_CACHE_ADVICE}"
            )
            findings.append(HopFault(hop=hop.number, message=message, error=HostError, by_cache=True))
    return tuple(findings)


def _permission(hop: Hop) -> str:
    return f"Access-Control-Allow-Origin: {_shown(hop.allow_origin)}"


def _shown(header: str | None) -> str:
    """A header's value for a message."""
    return ascii(header[:80]) if header is not None else "none"


def _varies(hop: Hop) -> bool:
    """Whether caches look at `Origin` before they use an answer again."""
    return bool({"*", "origin"} & {name.strip().lower() for name in (hop.vary or "").split(",")})


def is_kept(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a cache, a browser's or a CDN's, may keep an answer and use it again without asking.

    https://www.rfc-editor.org/rfc/rfc9111#section-4.2; nothing said counts as permission, as CDNs take it.

    >>> is_kept(200, {}), is_kept(302, {}), is_kept(302, {"cache-control": "public, max-age=60"})
    (True, False, True)
    >>> [is_kept(200, {"cache-control": text}) for text in ("no-store", "max-age=0", "max-age=0, s-maxage=9")]
    [False, False, True]
    """
    said = (part.partition("=") for part in headers.get("cache-control", headers.get("pragma", "")).lower().split(","))
    directives = {name.strip(): value.strip(' "') for name, _, value in said}
    if "no-store" in directives or directives.get("no-cache") == "":
        return False
    lives = [directives.get(name) for name in ("max-age", "s-maxage", "stale-while-revalidate")]
    if any(life is not None for life in lives):
        return any((life or "").isdigit() and int(life or "") > 0 for life in lives)
    if "expires" in headers:
        try:
            return parsedate_to_datetime(headers["expires"]).timestamp() > time.time()
        except ValueError:
            return False  # "0" and the like: it is over.
    return status in _KEPT_UNASKED


def _with_bare(hop: Hop, web: HttpClient, deadline: float) -> Hop:
    """A hop with what the same address answers to a request without `Origin`, where the page's request has one."""
    if hop.sent_origin is None:
        return hop
    bare = Hop(number=hop.number, url=hop.url, sent_origin=None)
    try:
        with web.get(hop.url, {}, deadline) as answer:
            return replace(hop, bare=replace(bare, status=answer.status, **_headers(answer)))
    except (TransientError, AddressError) as failure:
        return replace(hop, bare=replace(bare, fault=str(failure)))


def _headers(answer: Response) -> dict[str, Any]:
    """What an answer says of who may read it, and of caches."""
    return {
        "allow_origin": answer.headers.get("access-control-allow-origin"),
        "vary": answer.headers.get("vary"),
        "is_kept": is_kept(answer.status, answer.headers),
    }


def _ask(
    url: str, origin: str, before: Sequence[Hop], web: HttpClient, deadline: float
) -> tuple[Hop, tuple[int, str] | None]:
    """One request: its facts, and size and sha256 of the file if this was the last one and good."""
    number = len(before) + 1
    sends = sent_origin([*(hop.url for hop in before), url], origin)
    bare = Hop(number=number, url=url, sent_origin=sends)
    if _is_mixed_content(url, origin):
        return bare, None
    try:
        with web.get(url, {"Origin": sends} if sends is not None else {}, deadline) as answer:
            location, fault = None, ""
            if answer.status in REDIRECTS and answer.headers.get("location"):
                try:
                    location = resolve(url, answer.headers["location"])
                except AddressError as failure:
                    fault = str(failure)
            hop = Hop(
                number=number,
                url=url,
                sent_origin=sends,
                status=answer.status,
                location=location,
                fault=fault,
                **_headers(answer),
            )
            if location is not None or judge_hop(hop, origin) is not None:
                return hop, None
            size, digest = 0, hashlib.sha256()
            try:
                for piece in answer.pieces:
                    size += len(piece)
                    digest.update(piece)
                    if size > _MAX_BODY_BYTES:
                        return hop, None
            except TransientError:
                return hop, None
            return hop, (size, digest.hexdigest())
    except (TransientError, AddressError) as failure:
        return Hop(number=number, url=url, sent_origin=sends, fault=str(failure)), None


def _is_mixed_content(url: str, origin: str) -> bool:
    """Whether a browser blocks an http URL on an https page; it trusts its own machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or not origin.startswith("https:"):
        return False
    host = parts.hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _check_address(name: str, text: str) -> None:
    try:
        check_address(text)
    except AddressError as failure:
        raise UsageError(f"{name} {failure}, got {text[:80]!a}. Use e.g. https://app.example/...") from failure


def check_origin(origin: str) -> None:
    """Refuses what is no origin of a page.

    Raises:
        UsageError: With what to write.
    """
    _check_address("--origin", origin)
    if origin.rstrip("/") != origin_of(origin):
        raise UsageError(f"--origin must be scheme, host and port alone, got {origin[:80]!a}. Remove the rest.")


def _check(url: str, origin: str, sha256: str | None) -> None:
    """Refuses what cannot be asked."""
    _check_address("URL", url)
    check_origin(origin)
    if sha256 is not None and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise UsageError(f"--sha256 must be 64 lower-case hex digits, got {sha256[:80]!a}. Copy it again.")
