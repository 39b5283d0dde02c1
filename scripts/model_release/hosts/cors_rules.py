"""What browsers and caches let a page read: requests with their answers in, faults out. Pure.

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

import ipaddress
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import pairwise
from urllib.parse import urlsplit

from model_release.base.errors import HostError, ManifestError, ReleaseError
from model_release.base.http import origin_of, without_secrets
from model_release.base.retry import TRANSIENT_STATUS

MAX_REDIRECTS = 20

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

    @property
    def permission(self) -> str:
        """Whose pages may read the answer, for a message."""
        return f"Access-Control-Allow-Origin: {_shown(self.allow_origin)}"

    @property
    def vary_text(self) -> str:
        """`Vary` for a message."""
        return _shown(self.vary)


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


def is_mixed_content(url: str, origin: str) -> bool:
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


def judge_hop(hop: Hop, origin: str) -> str | None:
    """What stops a browser at this request: a sentence, or None where it goes on."""
    where = f"hop {hop.number}, {without_secrets(hop.url)},"
    if is_mixed_content(hop.url, origin):
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
                f"{where} must send Vary: Origin to a request without Origin, too, got {bare.vary_text} and "
                f"{bare.permission}: a browser or CDN that keeps this answer gives it to the page, which may not "
                f"read it. {_CACHE_ADVICE}"
            )
            findings.append(HopFault(hop=hop.number, message=message, error=HostError, by_cache=True))
        elif hop.allow_origin != "*" and hop.is_kept and not _varies(hop):
            message = (
                f"{where} must send Vary: Origin, as it allows {hop.sent_origin} only when asked by it, got "
                f"{hop.vary_text}: a CDN that keeps the answer to another page gives it to this one, which may not "
                f"read it. {_CACHE_ADVICE}"
            )
            findings.append(HopFault(hop=hop.number, message=message, error=HostError, by_cache=True))
    return tuple(findings)


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


def _varies(hop: Hop) -> bool:
    """Whether caches look at `Origin` before they use an answer again."""
    return bool({"*", "origin"} & {name.strip().lower() for name in (hop.vary or "").split(",")})


def _shown(header: str | None) -> str:
    """A header's value for a message."""
    return ascii(header[:80]) if header is not None else "none"
