"""Each hop judged as the Fetch standard says, on pages in memory."""

import doctest
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import pytest

from model_release.app import overrides
from model_release.base import http
from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.base.http import Response
from model_release.base.retry import TransientError
from model_release.contract import manifest
from model_release.hosts import cors_probe, cors_rules, mirror_s3, source
from model_release.hosts.cors_probe import Probe, probe
from model_release.hosts.cors_rules import MAX_REDIRECTS, sent_origin

APP = "https://app.example"
MODEL = b"weights"
SHA256 = hashlib.sha256(MODEL).hexdigest()
STAR = {"access-control-allow-origin": "*"}


class Pages:
    """The network's twin in memory: URL -> status, headers, body."""

    def __init__(self, pages: Mapping[str, tuple[int, Mapping[str, str], bytes]]) -> None:
        self.pages = pages
        self.asked: list[tuple[str, str | None]] = []

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], deadline: float) -> Iterator[Response]:
        """See `HttpClient`."""
        assert deadline > time.monotonic()
        assert set(headers) <= {"Origin"}
        self.asked.append((url, headers.get("Origin")))
        if url not in self.pages:
            raise TransientError("connection refused")
        status, answered, body = self.pages[url]
        yield Response(status=status, headers=answered, pieces=iter([body]))


def moved(to: str, allow: str | None = "*") -> tuple[int, dict[str, str], bytes]:
    return 302, {"location": to} | ({"access-control-allow-origin": allow} if allow else {}), b""


def ask(url: str, pages: Mapping[str, tuple[int, Mapping[str, str], bytes]], **options: str) -> tuple[Probe, Pages]:
    web = Pages(pages)
    return probe(url, web, origin=options.get("origin", APP), sha256=SHA256, size_bytes=len(MODEL)), web


@pytest.mark.parametrize(
    "room", [cors_rules, http, source, manifest, overrides, mirror_s3], ids=lambda room: room.__name__
)
def test_examples_in_docstrings_are_true(room: ModuleType) -> None:
    done = doctest.testmod(room)
    assert (done.failed, done.attempted > 0) == (0, True)


@pytest.mark.parametrize(
    ("urls", "origin"),
    [
        (["https://app.example/m"], None),
        (["https://app.example/m", "https://app.example/n"], None),
        (["https://APP.example:443/m"], None),
        (["https://app.example:8443/m"], APP),
        (["http://app.example/m"], APP),
        (["https://a.example/m"], APP),
        (["https://a.example/m", "https://a.example/n"], APP),
        (["https://app.example/m", "https://a.example/m"], APP),
        (["https://app.example/m", "https://a.example/m", "https://b.example/m"], "null"),
        (["https://a.example/m", "https://b.example/m"], "null"),
        (["https://a.example/m", "https://b.example/m", "https://a.example/m"], "null"),
        (["https://a.example/m", "https://app.example/m"], "null"),
        (["https://app.example/m", "https://a.example/m", "https://app.example/m"], "null"),
    ],
)
def test_the_origin_becomes_null_once_a_foreign_origin_redirects_elsewhere(urls: list[str], origin: str | None) -> None:
    assert sent_origin(urls, APP) == origin


def test_a_file_of_the_apps_own_origin_needs_no_permission() -> None:
    result, web = ask(f"{APP}/m", {f"{APP}/m": (200, {}, MODEL)})
    result.require()
    assert (result.sha256, result.size_bytes) == (SHA256, 7)
    assert web.asked == [(f"{APP}/m", None)]


@pytest.mark.parametrize("allow", ["*", APP])
def test_a_fitting_permission_passes(allow: str) -> None:
    result, web = ask(
        "https://a.example/m", {"https://a.example/m": (200, {"access-control-allow-origin": allow}, MODEL)}
    )
    result.require()
    assert web.asked == [("https://a.example/m", APP), ("https://a.example/m", None)]


@pytest.mark.parametrize(
    "allow", ["", "null", "https://other.example", f"{APP}/", f"{APP}, *", "*, *", "https://APP.example"]
)
def test_another_permission_fails_as_it_does_in_a_browser(allow: str) -> None:
    result, _ = ask(
        "https://a.example/m", {"https://a.example/m": (200, {"access-control-allow-origin": allow}, MODEL)}
    )
    with pytest.raises(HostError, match=r"hop 1, https://a\.example/m, must send Access-Control-Allow-Origin: \* or "):
        result.require()
    assert result.sha256 is None


@pytest.mark.parametrize(("allow", "good"), [("*", True), ("null", True), (APP, False), (None, False)])
def test_behind_two_foreign_origins_only_a_star_or_null_is_fitting(allow: str | None, good: bool) -> None:
    there = {"access-control-allow-origin": allow} if allow else {}
    pages = {"https://a.example/m": moved("https://b.example/m"), "https://b.example/m": (200, there, MODEL)}
    result, web = ask("https://a.example/m", pages)
    assert web.asked[1] == ("https://b.example/m", "null")
    assert [finding.hop for finding in result.findings] == ([] if good else [2])
    assert good or "browsers send Origin: null" in result.findings[0].message


def test_coming_home_from_a_foreign_origin_needs_permission_too() -> None:
    pages = {"https://a.example/m": moved(f"{APP}/m"), f"{APP}/m": (200, {}, MODEL)}
    result, _ = ask("https://a.example/m", pages)
    assert [finding.hop for finding in result.findings] == [2]


def test_a_redirect_from_home_needs_no_permission_itself() -> None:
    pages = {f"{APP}/m": moved("https://a.example/m", None), "https://a.example/m": (200, STAR, MODEL)}
    result, web = ask(f"{APP}/m", pages)
    result.require()
    assert web.asked == [(f"{APP}/m", None), ("https://a.example/m", APP), ("https://a.example/m", None)]


def test_a_redirect_without_permission_is_not_followed() -> None:
    pages = {"https://a.example/m": moved("https://b.example/m", None), "https://b.example/m": (200, STAR, MODEL)}
    result, web = ask("https://a.example/m", pages)
    assert len(web.asked) == 1
    assert [finding.hop for finding in result.findings] == [1]


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("file:///etc/passwd", "must start with http"),
        ("data:,x", "must start with http"),
        ("//me:secret@b.example/m", "must not hold a login"),
        ("http://b.example/m", "down to http"),
        ("https://[b.example/m", "is no address"),
        ("https:///b.example/m", "is no address of a host"),
        ("/\\b.example/m", "is no address of a host"),
        ("https://b.example:99999/m", "is no address"),
    ],
)
def test_a_redirect_to_no_place_for_a_browser_fails_at_its_hop(location: str, says: str) -> None:
    result, web = ask("https://a.example/m", {"https://a.example/m": moved(location)})
    assert len(web.asked) == 1
    assert [(finding.hop, finding.error) for finding in result.findings] == [(1, HostError)]
    assert says in result.findings[0].message
    assert "secret" not in result.findings[0].message


@pytest.mark.parametrize(("count", "good"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False)])
def test_browsers_follow_twenty_redirects(count: int, good: bool) -> None:
    pages = {f"https://a.example/{n}": moved(f"/{n + 1}") for n in range(count)}
    result, web = ask("https://a.example/0", {**pages, f"https://a.example/{count}": (200, STAR, MODEL)})
    assert bool(result.findings) != good
    assert len(result.hops) == MAX_REDIRECTS + 1
    assert len(web.asked) == (2 * (MAX_REDIRECTS + 1) if good else MAX_REDIRECTS + 1)


def test_a_redirect_loop_ends() -> None:
    result, web = ask("https://a.example/m", {"https://a.example/m": moved("/m")})
    assert len(web.asked) == MAX_REDIRECTS + 1
    with pytest.raises(HostError, match="browsers follow 20 redirects"):
        result.require()


@pytest.mark.parametrize("url", ["http://a.example/m", "http://127.0.0.1.example/m", "http://10.0.0.1/m"])
def test_mixed_content_is_not_even_asked_for(url: str) -> None:
    result, web = ask(url, {url: (200, STAR, MODEL)})
    assert web.asked == []
    with pytest.raises(HostError, match="mixed content"):
        result.require()


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/m", "http://localhost/m", "http://[::1]/m"])
def test_a_page_of_https_may_ask_its_own_machine(url: str) -> None:
    result, _ = ask(url, {url: (200, STAR, MODEL)})
    result.require()


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 500, 503])
def test_another_status_than_200_fails(status: int) -> None:
    result, _ = ask("https://a.example/m", {"https://a.example/m": (status, STAR, MODEL)})
    with pytest.raises(HostError, match=f"must answer with 200, got {status}"):
        result.require()


def test_a_redirect_to_nowhere_is_an_answer_like_any_other() -> None:
    result, _ = ask("https://a.example/m", {"https://a.example/m": (302, STAR, b"")})
    with pytest.raises(HostError, match="must answer with 200, got 302"):
        result.require()


def test_other_bytes_than_promised_fail_with_every_difference() -> None:
    result, _ = ask("https://a.example/m", {"https://a.example/m": (200, STAR, b"others!!")})
    with pytest.raises(ManifestError, match=r"must have 7 bytes, got 8\. .* must have the sha256"):
        result.require()


@pytest.mark.parametrize(
    ("url", "origin", "sha256"),
    [
        ("models/gpt2/model.onnx?v=1", APP, None),
        ("file:///etc/passwd", APP, None),
        ("https://me:secret@a.example/m", APP, None),
        ("https://a.example/\nx", APP, None),
        ("https://a.example/m", "app.example", None),
        ("https://a.example/m", f"{APP}/page", None),
        ("https://a.example/m", "null", None),
        ("https://a.example/m", APP, "abc"),
        ("https://a.example/m", APP, SHA256.upper()),
    ],
)
def test_what_cannot_be_asked_is_a_mistake_of_whoever_asks(url: str, origin: str, sha256: str | None) -> None:
    web = Pages({})
    with pytest.raises(UsageError) as caught:
        probe(url, web, origin=origin, sha256=sha256)
    assert web.asked == []
    assert "secret@" not in str(caught.value) or "login" in str(caught.value)


# Caches


FOREVER = "public, max-age=31536000, immutable"


class Origins(Pages):
    """A server that looks at `Origin`: headers where there is one, and where there is none."""

    def __init__(self, asked: Mapping[str, str], bare: Mapping[str, str]) -> None:
        super().__init__({})
        self.headers = {True: asked, False: bare}

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], deadline: float) -> Iterator[Response]:
        """See `HttpClient`."""
        assert deadline > time.monotonic()
        self.asked.append((url, headers.get("Origin")))
        yield Response(status=200, headers=self.headers["Origin" in headers], pieces=iter([MODEL]))


ECHO = {"access-control-allow-origin": APP}


@pytest.mark.parametrize(
    "bare",
    [
        {},
        {"cache-control": FOREVER},
        {"cache-control": "private, max-age=60"},
        {"cache-control": "max-age=0, s-maxage=60"},
        {"cache-control": "max-age=0, stale-while-revalidate=60"},
        {"cache-control": FOREVER, "vary": "Accept-Encoding"},
        {"expires": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"access-control-allow-origin": "https://other.example"},
        {"cache-control": 'no-cache="Set-Cookie"'},
    ],
    ids=str,
)
def test_an_answer_without_an_origin_that_a_cache_may_give_to_the_page_is_a_finding(bare: Mapping[str, str]) -> None:
    web = Origins({**STAR, "vary": "Origin", "cache-control": FOREVER}, bare)
    result = probe("https://a.example/m?sig=secret", web)
    (finding,) = result.findings
    assert (finding.hop, finding.by_cache, finding.passing, result.size_bytes) == (1, True, False, 7)
    with pytest.raises(HostError, match=r"hop 1, https://a\.example/m, must send Vary: Origin to a request without"):
        result.require()
    assert "a browser gets this file" not in cors_probe.render(result)
    assert "status 200, no Origin, Access-Control-Allow-Origin: " in cors_probe.render(result)


@pytest.mark.parametrize(
    "bare",
    [
        STAR,
        ECHO,
        {"vary": "Origin", "cache-control": FOREVER},
        {"vary": "Accept-Encoding, ORIGIN"},
        {"vary": "*"},
        {"cache-control": "no-store"},
        {"cache-control": "public, no-cache"},
        {"cache-control": "max-age=0, must-revalidate"},
        {"expires": "0"},
        {"expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"pragma": "no-cache"},
    ],
    ids=str,
)
def test_an_answer_without_an_origin_that_no_cache_gives_to_the_page_does_no_harm(bare: Mapping[str, str]) -> None:
    result = probe("https://a.example/m", Origins({**STAR, "cache-control": FOREVER}, bare))
    result.require()
    assert cors_probe.render(result).endswith("a browser gets this file")


@pytest.mark.parametrize(
    ("asked", "good"),
    [
        (ECHO, False),
        ({**ECHO, "cache-control": FOREVER}, False),
        ({**ECHO, "vary": "origin"}, True),
        ({**ECHO, "cache-control": "no-store"}, True),
        (STAR, True),
    ],
    ids=str,
)
def test_a_permission_for_one_page_must_not_be_kept_for_another(asked: Mapping[str, str], good: bool) -> None:
    result = probe("https://a.example/m", Origins(asked, {"vary": "Origin"}))
    assert bool(result.findings) != good
    assert good or "as it allows https://app.example only when asked by it" in result.findings[0].message


def test_every_hop_of_a_foreign_origin_is_asked_without_one_once_all_of_them_are_good() -> None:
    pages = {f"{APP}/m": moved("https://a.example/m", None), "https://a.example/m": moved("https://b.example/m")}
    _, web = ask(f"{APP}/m", {**pages, "https://b.example/m": (200, STAR, MODEL)})
    assert web.asked[3:] == [("https://a.example/m", None), ("https://b.example/m", None)]
    _, web = ask(f"{APP}/m", {**pages, "https://b.example/m": (200, {}, MODEL)})
    assert len(web.asked) == 3
