"""Servers that never stop sending: every wait ends at its deadline, and the connection with it."""

import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli
from commands import assert_refused, call
from model_release.base import github_client
from model_release.base.errors import HostError, WeightsError
from model_release.base.github_access import GitHubAccess
from model_release.base.github_client import Client, connect, download, with_retries
from model_release.base.http import Web
from model_release.base.retry import RetryPolicy, TransientError
from model_release.model.weights.hub import fetch_model
from point_hub import point_hub
from serving import Asked, Endless, Reply, Server

pytestmark = pytest.mark.network

DEADLINE_S = 0.4
SLACK_S = 2.0
LITTLE_BYTES = 32 << 20  # What sockets hold on the way. Reading on would be hundreds of MB a second.

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "a body": (CHUNKED, b"10000\r\n" + bytes(0x10000) + b"\r\n", 0.0),
    "a body, slowly": (HEAD + b"\r\n", b"x", 0.05),
    "chunk trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 1000, 0.0),
    "chunk trailers, slowly": (CHUNKED + b"0\r\nX: ", b"y", 0.05),
    "a chunk's extension": (CHUNKED + b"10; ", b"y", 0.05),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, 0.0),
    "interim answers, slowly": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "headers": (HEAD, b"X: " + b"y" * 60_000 + b"\r\n", 0.0),
    "headers, slowly": (HEAD + b"X: ", b"y", 0.05),
    "a status line": (b"HTTP/1.1 200 ", b"H", 0.05),
}


@pytest.fixture(params=list(ENDLESS))
def endless(request: pytest.FixtureRequest) -> Iterator[Endless]:
    beginning, again, pause_s = ENDLESS[request.param]
    with Endless(beginning, again, pause_s=pause_s) as server:
        yield server


@pytest.fixture
def in_time() -> Iterator[None]:
    """The test takes little longer than the deadline, and no thread of ours goes on."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    assert [thread for thread in threading.enumerate() if thread.name.endswith("(run)")] == []


def read_all(url: str, web: Web | None = None) -> bytes:
    with (web or Web(timeout_s=10)).get(url, {}, time.monotonic() + DEADLINE_S) as answer:
        return b"".join(answer.pieces)


@pytest.mark.usefixtures("in_time")
def test_an_answer_without_end_ends_at_the_deadline_and_with_it_the_connection(endless: Endless) -> None:
    with pytest.raises(TransientError):
        read_all(endless.url)
    assert endless.hung_up.wait(SLACK_S)


@pytest.mark.usefixtures("in_time")
def test_a_connection_that_is_used_again_has_the_deadline_of_its_request() -> None:
    def reply(asked: Asked) -> Reply:
        return Reply(200, b"x" * 1000, drip=1, pause_s=0.05) if asked.path == "/slow" else Reply(200, b"whole")

    with Server(reply) as server:
        web = Web(timeout_s=10)
        assert [read_all(f"{server.url}/{number}", web) for number in range(3)] == [b"whole"] * 3
        with pytest.raises(TransientError):
            read_all(f"{server.url}/slow", web)


def test_a_name_server_that_is_silent_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    began = time.monotonic()
    with pytest.raises(TransientError, match="no answer in time"):
        read_all("http://models.example/m")
    assert time.monotonic() - began < DEADLINE_S + SLACK_S
    answered.set()


MOVED = CHUNKED.replace(b"200 OK", b"302 Found\r\nLocation: /elsewhere\r\nAccess-Control-Allow-Origin: *")


@pytest.fixture
def moved() -> Iterator[Endless]:
    """A redirect with a body that never ends."""
    with Endless(MOVED, b"10000\r\n" + bytes(0x10000) + b"\r\n") as server:
        yield server


@pytest.mark.usefixtures("in_time")
def test_the_body_of_a_redirect_is_not_read(moved: Endless) -> None:
    with Web(timeout_s=10).get(moved.url, {}, time.monotonic() + 60) as answer:
        assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
    assert moved.hung_up.wait(SLACK_S)
    assert moved.sent_bytes < LITTLE_BYTES


@pytest.mark.usefixtures("in_time")
def test_commands_follow_such_redirects_to_their_end(moved: Endless, tmp_path: Path) -> None:
    assert_refused(call(cli.probe, f"{moved.url}/m"), 8, ["redirect"], silent=False)
    options = ("--tag", "model-v1.0.0", "--base-url", moved.url, "--env-file", tmp_path / "env")
    outcome = call(cli.fetch, *options)
    assert outcome.code == 8, outcome.err
    assert "more than 10 redirects" in outcome.error
    assert moved.sent_bytes < 40 * LITTLE_BYTES


NOWHERE = ["http://[::1", "http://[", "//[/x", "https://\x7f/", "http://a:b/", "http://a:99999/", "http:// /", "\\\\x"]


@pytest.mark.parametrize("location", NOWHERE, ids=ascii)
def test_a_redirect_to_no_address_is_refused_in_a_sentence(location: str, tmp_path: Path) -> None:
    with Server(lambda _: Reply(302, b"", {"Location": location, "Access-Control-Allow-Origin": "*"})) as server:
        assert_refused(call(cli.probe, f"{server.url}/m"), 8, [], silent=False)
        options = ("--tag", "model-v1.0.0", "--base-url", server.url, "--env-file", tmp_path / "env")
        outcome = call(cli.fetch, *options)
    assert (outcome.code, "Traceback" in outcome.err) == (8, False), outcome.err
    assert "must lead to a file" in outcome.error


# -- GitHub's API


def reach(url: str) -> Client:
    return connect(GitHubAccess(token="token", api_url=url))  # noqa: S106 - no secret


QUICK = RetryPolicy(attempts=2, request_timeout_s=10, total_timeout_s=DEADLINE_S, sleep=lambda _: None)


@pytest.mark.usefixtures("in_time")
def test_an_answer_of_github_without_end_ends_at_the_deadline(
    endless: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github_client, "_ANSWER_S", DEADLINE_S)
    client = reach(endless.url)
    with pytest.raises(HostError, match=r"must (answer|be below)"):
        with_retries(lambda: client.get_repo("a/b"), QUICK)
    assert endless.hung_up.wait(SLACK_S)


def test_an_answer_of_github_is_of_a_sane_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_client, "_MAX_ANSWER_BYTES", 1 << 20)
    with Server(lambda _: Reply(200, b" " * (2 << 20), {"Content-Type": "application/json"})) as server:
        client = reach(server.url)
        with pytest.raises(HostError, match="below 1 MiB"):
            with_retries(lambda: client.get_repo("a/b"), QUICK)


@pytest.mark.usefixtures("in_time")
def test_the_body_of_a_redirect_of_github_is_not_read(moved: Endless) -> None:
    client = reach(moved.url)
    with pytest.raises(HostError, match="got a redirect"):
        with_retries(lambda: client.get_repo("a/b"), QUICK)
    with pytest.raises(HostError, match="302"):
        with_retries(lambda: list(download(client, f"{moved.url}/asset")), QUICK)
    assert moved.sent_bytes < 10 * LITTLE_BYTES


@pytest.mark.parametrize("location", ["http://[::1", "", "file:///etc/passwd", "http://a:b/"])
def test_an_asset_that_leads_to_no_address_is_refused(location: str) -> None:
    with Server(lambda _: Reply(302, b"", {"Location": location})) as server:
        client = reach(server.url)
        with pytest.raises(HostError):
            with_retries(lambda: list(download(client, f"{server.url}/asset")), QUICK)


# -- the hub


@pytest.mark.usefixtures("in_time")
def test_an_answer_of_the_hub_without_end_ends_at_the_deadline(
    endless: Endless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_hub(endless.url, tmp_path / "cache", monkeypatch)
    with pytest.raises(WeightsError, match="must answer for"):
        fetch_model("someone/something", retry_policy=QUICK)
    assert endless.hung_up.wait(SLACK_S)


@pytest.mark.usefixtures("in_time")
def test_the_body_of_a_redirect_of_the_hub_is_not_read(
    moved: Endless, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_hub(moved.url, tmp_path / "cache", monkeypatch)
    with pytest.raises(WeightsError, match="must answer for"):
        fetch_model("someone/something", retry_policy=QUICK)  # Imports are no part of the measurement.
    tracemalloc.start()
    with pytest.raises(WeightsError, match="must answer for"):
        fetch_model("someone/something", retry_policy=QUICK)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < LITTLE_BYTES
