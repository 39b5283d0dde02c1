"""Would a browser get the file: each hop judged as the Fetch standard says."""

import doctest
import hashlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import pytest

import cli
from commands import assert_refused, call
from model_release.app import overrides
from model_release.base import http
from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.base.http import Response, Web
from model_release.base.retry import TransientError
from model_release.contract import manifest
from model_release.hosts import cors_probe, mirror_s3, source
from model_release.hosts.cors_probe import (
    MAX_REDIRECTS,
    Probe,
    probe,
    sent_origin,
)
from serving import Asked, Reply, Server
from standins.github import StandInGitHub

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


# -- the rules


@pytest.mark.parametrize(
    "room", [cors_probe, http, source, manifest, overrides, mirror_s3], ids=lambda room: room.__name__
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


# -- caches


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


@pytest.mark.network
def test_a_store_that_allows_pages_only_when_asked_by_them_ends_with_code_8() -> None:
    def s3(asked: Asked) -> Reply:
        there = {**STAR, "Vary": "Origin"} if "Origin" in asked.headers else {}
        return Reply(200, MODEL, {"Cache-Control": FOREVER, **there})

    with Server(s3) as server:
        outcome = call(cli.probe, f"{server.url}/m", "--sha256", SHA256)
    assert_refused(outcome, 8, ["hop 1", "must send Vary: Origin to a request without Origin"], silent=False)
    assert f"file:  7 bytes, sha256 {SHA256}" in outcome.out


@pytest.mark.network
def test_a_server_that_breaks_off_without_an_origin_may_be_asked_again() -> None:
    with Server(lambda asked: Reply(200, MODEL, STAR, pause_s=0 if "Origin" in asked.headers else 20)) as server:
        result = probe(f"{server.url}/m", Web(timeout_s=0.3))
    assert result.may_pass
    assert "must answer without an Origin, too, got no answer in time" in result.findings[0].message


# -- over the network


@pytest.mark.network
def test_a_release_asset_fails_at_the_first_hop_with_the_way_out() -> None:
    with StandInGitHub() as site:
        site.add_repository("someone/app").add_release("model-v1.0.0", {"model.onnx": MODEL})
        url = f"{site.url}/someone/app/releases/download/model-v1.0.0/model.onnx?v=1.0.0-0a1b2c3d"
        outcome = call(cli.probe, url, "--origin", APP, "--sha256", SHA256, "--size", 7)
        code, error = outcome.code, outcome.error
        assert (code, outcome.out.splitlines()[1]) == (
            8, f"       status 302, Origin: {APP}, Access-Control-Allow-Origin: none"
        )  # fmt: skip
        for text in (
            "hop 1",
            "got none (status 302)",
            "GitHub sends none with release assets",
            "scripts/fetch.py",
            "mirror",
        ):
            assert text in error
        assert [request.origin for request in site.requests] == ["web"]


@pytest.mark.network
def test_a_file_that_allows_every_origin_passes() -> None:
    with StandInGitHub() as site:
        site.add_repository("someone/app", {"models/model.onnx": MODEL})
        url = f"{site.assets_url}/raw/someone/app/main/models/model.onnx"
        outcome = call(cli.probe, url, "--sha256", SHA256, "--size", 7)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(f"file:  7 bytes, sha256 {SHA256}\na browser gets this file\n")


@pytest.mark.network
def test_the_pages_own_server_needs_no_permission() -> None:
    with Server(lambda _: Reply(200, MODEL)) as server:
        assert call(cli.probe, f"{server.url}/m", "--origin", f"{server.url}/").code == 0
        assert "Origin" not in server.asked[0].headers
        assert call(cli.probe, f"{server.url}/m").code == 8
        assert server.asked[1].headers["Origin"] == APP


@pytest.mark.network
def test_a_permission_sent_twice_is_none() -> None:
    twice = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Origin", "*"))
    with Server(lambda _: Reply(200, MODEL, several=twice)) as server:
        outcome = call(cli.probe, f"{server.url}/m")
    assert_refused(outcome, 8, ["got '*, *'"], silent=False)


@pytest.mark.network
def test_other_bytes_end_with_the_code_for_hashes() -> None:
    with Server(lambda _: Reply(200, b"other", {"Access-Control-Allow-Origin": "*"})) as server:
        outcome = call(cli.probe, f"{server.url}/m", "--sha256", SHA256)
    assert_refused(outcome, 7, ["must have the sha256"], silent=False)


@pytest.mark.network
@pytest.mark.parametrize("reply", [Reply(200, MODEL, STAR, cut=3), Reply(200, MODEL, STAR, drip=1, pause_s=0.2)])
def test_a_file_that_does_not_end_is_none(reply: Reply) -> None:
    with Server(lambda _: reply) as server:
        began = time.monotonic()
        result = probe(f"{server.url}/m", Web(timeout_s=1), total_timeout_s=0.5)
        assert time.monotonic() - began < 2
    with pytest.raises(HostError, match="must end in time and whole"):
        result.require()


@pytest.mark.network
def test_silence_is_bounded() -> None:
    with Server(lambda _: Reply(200, MODEL, STAR, pause_s=20)) as server:
        began = time.monotonic()
        result = probe(f"{server.url}/m", Web(timeout_s=0.3))
        assert time.monotonic() - began < 2
    with pytest.raises(HostError, match=r"hop 1, .* must answer, got no answer in time"):
        result.require()


@pytest.mark.network
def test_headers_byte_by_byte_are_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not done.wait(0.05):
                    connection.sendall(b"x")

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        result = probe(f"http://127.0.0.1:{server.getsockname()[1]}/m", Web(timeout_s=0.3))
        assert time.monotonic() - began < 2
        done.set()
    with pytest.raises(HostError, match=r"must answer, got no answer in time"):
        result.require()


@pytest.mark.network
def test_a_closed_port_is_named_with_its_hop() -> None:
    with Server(lambda _: Reply()) as closed:
        pass
    there = Reply(302, b"", {"Location": f"{closed.url}/m?sig=secret", "Access-Control-Allow-Origin": "*"})
    with Server(lambda _: there) as server:
        outcome = call(cli.probe, f"{server.url}/m")
    assert_refused(outcome, 8, ["hop 2", "connection refused"], silent=False)
    assert "secret" not in outcome.out + outcome.err


@pytest.mark.network
def test_no_login_of_this_machine_is_sent(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("default login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    cookie = {"Access-Control-Allow-Origin": "*", "Set-Cookie": "a=b"}
    with Server(
        lambda asked: Reply(302, b"", {**cookie, "Location": "/n"}) if asked.path == "/m" else Reply(200, MODEL, STAR)
    ) as server:
        assert call(cli.probe, f"{server.url}/m").code == 0
        assert [set(asked.headers) & {"Authorization", "Cookie"} for asked in server.asked] == [set()] * 4
