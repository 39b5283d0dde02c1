"""Would a browser get this file? Asks as a cross-origin `fetch` does, hop after hop; `cors_rules` judges."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from model_release.base.errors import UsageError
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
from model_release.base.retry import TransientError
from model_release.hosts.cors_rules import (
    MAX_REDIRECTS,
    Hop,
    HopFault,
    is_kept,
    is_mixed_content,
    judge,
    judge_caching,
    judge_hop,
    sent_origin,
)

DEFAULT_ORIGIN = "https://app.example"

_MAX_BODY_BYTES = 2**32


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
        lines.append(f"       status {hop.status}, {asked}, {hop.permission}")
        if hop.bare is not None and hop.bare.status is not None:
            lines.append(
                f"       status {hop.bare.status}, no Origin, {hop.bare.permission}, Vary: {hop.bare.vary_text}"
            )
    if result.size_bytes is not None:
        lines.append(f"file:  {result.size_bytes} bytes, sha256 {result.sha256}")
    if not result.findings:
        lines.append("a browser gets this file")
    return "\n".join(lines)


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
    if is_mixed_content(url, origin):
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
