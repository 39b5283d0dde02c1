"""Would a browser get the file: asked over the network, with whatever servers do on the way."""

import hashlib
import socket
import threading
import time

import pytest

import cli
from commands import assert_refused, call
from model_release.base.errors import HostError
from model_release.base.http import Web
from model_release.hosts.cors_probe import probe
from serving import Asked, Reply, Server
from standins.github import StandInGitHub

APP = "https://app.example"
MODEL = b"weights"
SHA256 = hashlib.sha256(MODEL).hexdigest()
STAR = {"access-control-allow-origin": "*"}
FOREVER = "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("foo", "URL must start with http:// or https://, got 'foo'. Use"),
        ("ftp://x", "not with ftp:, got"),
        ("app.example/m", "URL must start with http:// or https://, got 'app.example/m'. Use"),
    ],
)
def test_an_address_without_a_scheme_is_told_which_it_must_have(url: str, says: str) -> None:
    assert_refused(call(cli.probe, url), 2, [says])


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
