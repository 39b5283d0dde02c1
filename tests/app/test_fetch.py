"""The app's build step: whatever the line and the release do, the app gets the right bytes or one clear sentence."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import cli
from commands import SCRIPTS, assert_refused, call, start, tree
from model_release.app.fetch import (
    FetchRequest,
    FetchResult,
    Place,
    fetch_model,
)
from model_release.base.errors import (
    EnvFileError,
    ExportError,
    HostError,
    ManifestError,
    ReleaseError,
    UsageError,
)
from model_release.base.github_access import GitHubAccess
from model_release.base.retry import RetryPolicy
from model_release.contract.dist import check_manifest, parse_checksums
from model_release.contract.tag import parse_tag
from serving import Asked, Reply, Server, ranged
from small_release import CONTENTS, MODEL, QUICK, TAG, VERSION, document, release, sha256
from standins.github import Fault, Repository, StandInGitHub

NAME = "someone/app"
READER = "read-token"
DELIVERED = {"model_fp16.onnx", "tokenizer.json", "vocab.json", "merges.txt", "config.json", "manifest.json"}


class App:
    """A web app's folder with an env file."""

    def __init__(self, folder: Path, url: str = "", version: str = "1.2.0") -> None:
        self.folder = folder / "web"
        self.folder.mkdir(exist_ok=True)
        self.env_file = self.folder / ".env.production"
        self.static = self.folder / "static"
        self.models = self.static / "models" / "gpt2"
        self.local = self.folder / ".env.production.local"
        if url:
            self.env_file.write_text(f"VITE_MODEL_VERSION={version}\nVITE_MODEL_URL={url}?v={VERSION}\n")

    def fetch(self, *, tag: str | None = None, lines: list[str] | None = None, **options: Any) -> FetchResult:
        """Runs the build step, quickly."""
        request = FetchRequest(
            env_file=self.env_file,
            static_dir=self.static,
            tag=parse_tag(tag) if tag else None,
            **{"retry_policy": QUICK} | options,
        )
        return fetch_model(request, (lines if lines is not None else []).append)

    def held(self) -> set[str]:
        """The files that are there; each has the right bytes, unless it is a partial one."""
        names = {path.name for path in self.models.iterdir()} if self.models.exists() else set()
        for name in names & CONTENTS.keys():
            assert (self.models / name).read_bytes() == CONTENTS[name]
        return names

    def complete(self, names: set[str] = DELIVERED, file: str = "model_fp16.onnx") -> None:
        """Everything is in place, and nothing else."""
        assert self.held() == names
        url = f"models/gpt2/{file}?v=1.2.0-{sha256(CONTENTS[file])[:8]}"
        assert self.local.read_text() == f"VITE_MODEL_URL={url}\nVITE_MODEL_VERSION=1.2.0\n"


def serve(files: dict[str, bytes]) -> Callable[[Asked], Reply]:
    """A good server of a release."""

    def reply(asked: Asked) -> Reply:
        name = asked.path.rpartition("/")[2]
        return ranged(asked, files[name]) if name in files else Reply(404)

    return reply


@pytest.fixture
def site() -> Iterator[StandInGitHub]:
    with StandInGitHub() as site:
        yield site
        assert site.violations == []
        assert site.leaks == []


@pytest.fixture
def repository(site: StandInGitHub) -> Repository:
    repository = site.add_repository(NAME)
    repository.add_release(TAG, release())
    return repository


@pytest.fixture
def app(tmp_path: Path, site: StandInGitHub, repository: Repository) -> App:
    """An app whose env file names the release on GitHub, as release.py has written it."""
    return App(tmp_path, f"{site.url}/{repository.full_name}/releases/download/{TAG}/model_fp16.onnx")


def at(site: StandInGitHub, *, kind: Literal["env", "github"] = "env", **options: str) -> Place:
    return Place(kind=kind, github=GitHubAccess(api_url=site.url, server_url=site.url, **options))


# -- the whole way, on GitHub


@pytest.mark.network
@pytest.mark.parametrize("kind", ["env", "github"])
def test_the_app_gets_its_model_and_a_second_run_asks_nobody(
    app: App, site: StandInGitHub, kind: Literal["env", "github"], repository: Repository
) -> None:
    place = at(site, kind=kind, repository=repository.full_name if kind == "github" else "")
    lines: list[str] = []
    first = app.fetch(place=place, lines=lines)
    assert (first.outcome, set(first.downloaded), first.env_changed) == ("fetched", DELIVERED - {"manifest.json"}, True)
    assert first.warnings == ()
    app.complete()
    assert "model_fp16.onnx: 0.3 MB" in lines
    asked, before = len(site.requests), tree(app.folder)
    times = {path: path.stat().st_mtime_ns for path in app.folder.rglob("*")}
    second = app.fetch(place=place)
    assert (second.outcome, second.downloaded, second.env_changed) == ("present", (), False)
    assert (len(site.requests), tree(app.folder)) == (asked, before)
    assert times == {path: path.stat().st_mtime_ns for path in app.folder.rglob("*")}
    assert {request.token for request in site.requests} == {""}


@pytest.mark.network
def test_a_private_release_is_read_through_the_api_and_the_token_goes_nowhere_else(
    app: App, site: StandInGitHub, repository: Repository
) -> None:
    repository.private = True
    with pytest.raises(HostError, match=r"got status 404\. .* a private one needs GITHUB_TOKEN"):
        app.fetch(place=at(site))
    site.requests.clear()
    lines: list[str] = []
    place = at(site, token=READER)
    app.fetch(place=place, lines=lines)
    app.complete()
    assert {(request.origin, request.token) for request in site.requests} == {
        ("web", ""), ("api", "reader"), ("assets", "")
    }  # fmt: skip
    assert "read-token" not in "\n".join([*lines, repr(place), *map(str, app.folder.rglob("*")), app.local.read_text()])


@pytest.mark.network
def test_a_refused_token_is_in_no_message(app: App, site: StandInGitHub, repository: Repository) -> None:
    repository.private = True
    with pytest.raises(HostError, match="got status 401") as caught:
        app.fetch(place=at(site, token=READER[1:]))
    assert READER[1:] not in str(caught.value)


@pytest.mark.network
def test_a_draft_is_not_fetched(tmp_path: Path, site: StandInGitHub) -> None:
    site.add_repository(NAME).add_release(TAG, release(), draft=True)
    for token in ("", "read-token"):
        with pytest.raises(HostError, match="got status 404"):
            App(tmp_path).fetch(tag=TAG, place=at(site, kind="github", repository=NAME, token=token))


@pytest.mark.network
@pytest.mark.parametrize("path", ["*/SHA256SUMS", "*/manifest.json", "*/model_fp16.onnx", "/release-assets/*"])
@pytest.mark.parametrize("kind", ["refuse", "reset", "500", "503", "429", "truncate", "corrupt", "hang", "slow"])
def test_one_fault_anywhere_still_gives_the_right_bytes(app: App, site: StandInGitHub, path: str, kind: str) -> None:
    site.faults = [Fault(kind, path=path, seconds=0.7 if kind == "hang" else 0.2, nth=3 if path[0] == "/" else 1)]
    try:
        app.fetch(place=at(site))
    except ManifestError:  # Of SHA256SUMS and the manifest nobody knows the hash before.
        assert kind == "corrupt"
    app.fetch(place=at(site))
    app.complete()
    assert site.faults[0].seen >= 1


@pytest.mark.network
def test_a_dead_host_ends_in_bounded_time_with_one_sentence(app: App, site: StandInGitHub) -> None:
    site.faults = [Fault("hang", times=1000, seconds=30)]
    began = time.monotonic()
    with pytest.raises(HostError, match=r"SHA256SUMS of .* must arrive, got: no answer in time \(attempts: 3\)"):
        app.fetch(place=at(site), retry_policy=RetryPolicy(attempts=3, request_timeout_s=0.2, base_wait_s=0.01))
    assert time.monotonic() - began < 3
    assert not app.static.exists()


# -- going on


@pytest.mark.network
@pytest.mark.parametrize("etag", ['"one"', 'W/"weak"', ""])
def test_a_line_that_breaks_at_any_byte_is_gone_on_with(tmp_path: Path, etag: str) -> None:
    content = random.Random(1).randbytes(24)
    contents = CONTENTS | {"model_fp16.onnx": content}
    files = release(contents)
    for cut in range(25):
        cuts = [cut]

        def reply(asked: Asked, cuts: list[int] = cuts) -> Reply:
            name = asked.path.rpartition("/")[2]
            at = cuts.pop() if cuts and name == "model_fp16.onnx" else None
            return ranged(asked, files[name], etag=etag, cut=at)

        folder = tmp_path / str(cut)
        folder.mkdir()
        with Server(reply) as server:
            place = Place(kind="url", base_url=server.url)
            App(folder).fetch(
                tag=TAG, place=place, retry_policy=RetryPolicy(attempts=2, base_wait_s=0, request_timeout_s=2)
            )
        assert (folder / "web/static/models/gpt2/model_fp16.onnx").read_bytes() == content
        asked = [each.headers for each in server.asked if each.path.endswith("model_fp16.onnx")]
        assert len(asked) == (1 if cut == 24 else 2)
        if 0 < cut < 24 and "Range" in asked[1]:
            start = int(asked[1]["Range"].removeprefix("bytes=").removesuffix("-"))
            assert 0 < start <= cut
            assert asked[1].get("If-Range") == (etag if etag == '"one"' else None)


@pytest.mark.network
@pytest.mark.parametrize("cut", [1, 17, 65_535, 65_536, 150_000, 299_999])
def test_another_run_goes_on_where_the_last_one_stopped(tmp_path: Path, cut: int) -> None:
    files = release()
    broken = True

    def reply(asked: Asked) -> Reply:
        name = asked.path.rpartition("/")[2]
        return ranged(asked, files[name], cut=cut if broken and name == "model_fp16.onnx" else None)

    app = App(tmp_path)
    with Server(reply) as server:
        place = Place(kind="url", base_url=server.url)
        with pytest.raises(HostError, match="run it again; it goes on where it stopped"):
            app.fetch(tag=TAG, place=place, retry_policy=RetryPolicy(attempts=1))
        (partial,) = app.held()
        got = (app.models / partial).stat().st_size
        assert partial.endswith(".partial")
        assert 0 < got <= cut
        assert not app.local.exists()
        broken = False
        server.asked.clear()
        lines: list[str] = []
        app.fetch(tag=TAG, place=place, lines=lines)
        (asked,) = [each for each in server.asked if each.path.endswith("model_fp16.onnx")]
    assert asked.headers["Range"] == f"bytes={got}-"
    assert f"model_fp16.onnx: 0.3 MB, going on at {got / 1e6:.1f}" in lines
    app.complete()


@pytest.mark.network
def test_a_killed_run_is_gone_on_with(tmp_path: Path) -> None:
    files = release()

    def reply(asked: Asked) -> Reply:
        name = asked.path.rpartition("/")[2]
        if name == "model_fp16.onnx" and "Range" not in asked.headers:
            return Reply(200, MODEL, drip=20_000, pause_s=0.05)
        return ranged(asked, files[name])

    app = App(tmp_path)
    (tmp_path / "tmp").mkdir()
    with Server(reply) as server:
        options = ["--tag", TAG, "--base-url", server.url, "--env-file", app.env_file, "--static-dir", app.static]
        process = start("fetch.py", *options, cwd=tmp_path)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not any(
            path.stat().st_size for path in app.models.glob(".model*.partial")
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert any(name.endswith(".partial") for name in app.held())
        app.fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
        assert any("Range" in each.headers for each in server.asked)
    app.complete()


@pytest.mark.network
@pytest.mark.parametrize("answer", ["ignores ranges", "another range", "no content-range", "416"])
def test_a_server_without_good_ranges_is_read_from_the_start(tmp_path: Path, answer: str) -> None:
    files = release()
    app = App(tmp_path)
    app.models.mkdir(parents=True)
    partial = app.models / f".model_fp16.onnx.{sha256(MODEL)[:16]}.partial"
    partial.write_bytes(MODEL[:1000])

    def reply(asked: Asked) -> Reply:
        content = files[asked.path.rpartition("/")[2]]
        if "Range" not in asked.headers or answer == "ignores ranges":
            return Reply(200, content)
        if answer == "another range":
            return Reply(206, content[500:], {"Content-Range": f"bytes 500-{len(content) - 1}/{len(content)}"})
        return Reply(206, content[1000:]) if answer == "no content-range" else Reply(416)

    with Server(reply) as server:
        app.fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
    app.complete()


@pytest.mark.network
@pytest.mark.parametrize("rest", [MODEL, MODEL + b"more", b"x" * 1000])
def test_whatever_an_earlier_run_left_ends_in_the_right_bytes(tmp_path: Path, rest: bytes) -> None:
    app = App(tmp_path)
    app.models.mkdir(parents=True)
    (app.models / f".model_fp16.onnx.{sha256(MODEL)[:16]}.partial").write_bytes(rest)
    (app.models / f".model_fp16.onnx.{'0' * 16}.partial").write_bytes(b"of another release")
    with Server(serve(release())) as server:
        app.fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
    app.complete()


@pytest.mark.network
def test_two_runs_at_a_time_download_once_and_do_not_spoil_each_other(tmp_path: Path) -> None:
    files, app, failures = release(), App(tmp_path), []

    def reply(asked: Asked) -> Reply:
        answer = ranged(asked, files[asked.path.rpartition("/")[2]])
        answer.pause_s = 0.1 if asked.path.endswith(".onnx") else 0
        return answer

    with Server(reply) as server:

        def run() -> None:
            try:
                app.fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
            except ReleaseError as failure:
                failures.append(failure)

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [each.path for each in server.asked if each.path.endswith(".onnx")] == [f"/{TAG}/model_fp16.onnx"]
    assert failures == []
    app.complete()


# -- wrong bytes


@pytest.mark.network
@pytest.mark.parametrize("wrong", [b"x" * len(MODEL), MODEL[:-1], MODEL + b"x", b""])
def test_wrong_bytes_are_fetched_once_more_and_then_refused(tmp_path: Path, wrong: bytes) -> None:
    app = App(tmp_path)
    with Server(serve(release() | {"model_fp16.onnx": wrong})) as server:
        with pytest.raises(ManifestError, match=r"model_fp16\.onnx of .* must have 300000 bytes and the sha256"):
            app.fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
        assert len([each for each in server.asked if each.path.endswith("model_fp16.onnx")]) == 2
    assert app.held() == set()
    assert not app.local.exists()


@pytest.mark.network
def test_a_body_without_end_is_cut_off(tmp_path: Path) -> None:
    endless = Reply(200, MODEL * 20, no_length=True)
    good = serve(release())
    with (
        Server(lambda asked: endless if asked.path.endswith("16.onnx") else good(asked)) as server,
        pytest.raises(ManifestError, match="got others twice"),
    ):
        App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
    with (
        Server(lambda _: Reply(200, b"a" * 2_000_000)) as server,
        pytest.raises(ManifestError, match=r"SHA256SUMS of .* must have at most 1 MB"),
    ):
        App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url))


@pytest.mark.network
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 301])
def test_a_final_no_is_not_asked_again(tmp_path: Path, status: int) -> None:
    with Server(lambda _: Reply(status)) as server:
        with pytest.raises(HostError, match=f"got status {status}"):
            App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
        assert len(server.asked) == 1


@pytest.mark.network
def test_a_busy_server_is_given_the_time_it_asks_for(tmp_path: Path) -> None:
    files, waits = release(), list[float]()
    busy = [
        Reply(503, headers={"Retry-After": "7"}),
        Reply(429, headers={"Retry-After": "3"}),
        Reply(403, headers={"Retry-After": "60"}),
    ]
    retry_policy = RetryPolicy(attempts=5, sleep=waits.append)
    with Server(lambda asked: busy.pop(0) if busy else serve(files)(asked)) as server:
        App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url), retry_policy=retry_policy)
    assert waits == [7, 3, 60]


# -- redirects


@pytest.mark.network
@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/y", "//", "http://me:pw@127.0.0.1/x", "http:///x"])
def test_a_redirect_leads_to_http_or_nowhere(tmp_path: Path, location: str) -> None:
    with (
        Server(lambda _: Reply(302, headers={"Location": location})) as server,
        pytest.raises(HostError, match=r"must lead to a file, (but|got)"),
    ):
        App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
    assert not (tmp_path / "web" / "static").exists()


@pytest.mark.network
def test_a_redirect_loop_ends(tmp_path: Path) -> None:
    with Server(lambda _: Reply(302, headers={"Location": "/again"})) as server:
        with pytest.raises(HostError, match="more than 10 redirects"):
            App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
        assert len(server.asked) == 11


@pytest.mark.network
def test_the_token_does_not_follow_a_redirect_of_the_api_to_another_host(tmp_path: Path) -> None:
    listing = json.dumps(
        {
            "assets": [
                {"name": name, "id": n, "state": "uploaded", "url": "http://evil.example"}
                for n, name in enumerate(release())
            ]
        }
    )
    with Server(serve({str(n): content for n, content in enumerate(release().values())})) as storage:

        def reply(asked: Asked) -> Reply:
            if "/releases/download/" in asked.path:
                return Reply(404)
            if "/tags/" in asked.path:
                return Reply(200, listing.encode())
            return Reply(302, headers={"Location": f"{storage.url}/{asked.path.rpartition('/')[2]}"})

        with Server(reply) as api:
            access = GitHubAccess(repository=NAME, server_url=api.url, api_url=api.url, token=READER)
            place = Place(kind="github", github=access)
            app = App(tmp_path)
            app.fetch(tag=TAG, place=place)
            logins = [each.headers.get("Authorization") for each in api.asked]
    app.complete()
    assert logins == [None, *[f"Bearer {READER}"] * 8]
    assert [each for each in storage.asked if "Authorization" in each.headers] == []


# -- a release that means harm, from a folder


def local(tmp_path: Path, files: dict[str, bytes]) -> Place:
    folder = tmp_path / "releases" / TAG
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return Place(kind="local", folder=tmp_path / "releases")


def test_a_local_release_is_fetched_too(tmp_path: Path) -> None:
    app = App(tmp_path)
    assert app.fetch(tag=TAG, place=local(tmp_path, release())).outcome == "fetched"
    app.complete()


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "tokenizer_x", "size_bytes": 1, "sha256": sha256(b"x")} | changes


HOSTILE: dict[str, dict[str, Any]] = {
    "a name that climbs": {"files": [entry(name="tokenizer/../../../x")]},
    "an absolute name": {"files": [entry(name="/etc/tokenizer")]},
    "a name of Windows": {"files": [entry(name="tokenizer\\..\\x")]},
    "a hidden name": {"files": [entry(name=".env")]},
    "a name with a line end": {"files": [entry(name="tokenizer\n")]},
    "a long name": {"files": [entry(name="tokenizer" + "x" * 300)]},
    "an empty name": {"files": [entry(name="")]},
    "a huge size": {"files": [entry(size_bytes=10**15)]},
    "an endless size": {"files": [entry(size_bytes=10**400)]},
    "a size of no file": {"files": [entry(size_bytes=1.0)]},
    "two of a name": {"files": [entry(), entry(sha256=sha256(b"y"))]},
    "two of a name on Windows": {"files": [entry(), entry(name="Tokenizer_x")]},
    "no files": {"files": []},
    "a model that is not there": {"files": document(CONTENTS | {"model.onnx": b""})["files"][:3]},
    "a folder that climbs": {"name": "../.."},
    "a folder with a line end": {"name": "gpt2\n"},
    "a long folder": {"name": "x" * 200},
    "a manifest as the model": {"delivery": document()["delivery"] | {"file": "manifest.json"}},
    "a tokenizer as the model": {"delivery": document()["delivery"] | {"file": "tokenizer.json"}},
    "a model that climbs": {"delivery": document()["delivery"] | {"file": "../model_fp16.onnx"}},
    "another tag": {"tag": "model-v9.9.9"},
    "another version": {"version": "9.9.9"},
    "another format": {"manifest_version": 3},
    "a missing key": {"delivery": {}},
    "an unknown key": {"script": "x"},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_manifest_writes_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    changed = document(**changes)
    if "files" in changes and changes["files"] and changes["files"][0]["name"] != "model_fp16.onnx":
        changed["files"] = [*document()["files"], *changes["files"]]
    text = json.dumps(changed)
    files = release(manifest=text.encode())
    for each in changes.get("files", []):
        if "\n" not in each["name"] and each["name"] and sha256(b"x") == each["sha256"]:
            files["SHA256SUMS"] += f"{each['sha256']}  {each['name']}\n".encode()
    app = App(tmp_path)
    place = local(tmp_path, files)
    before = tree(tmp_path)
    with pytest.raises(ManifestError):
        app.fetch(tag=TAG, place=place)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "manifest", [b"", b"{", b"[" * 100_000, b"\xff", b"null", b'{"manifest_version": ' + b"9" * 5000 + b"}"]
)
def test_what_is_no_manifest_writes_nothing(tmp_path: Path, manifest: bytes) -> None:
    with pytest.raises(ManifestError):
        App(tmp_path).fetch(tag=TAG, place=local(tmp_path, release(manifest=manifest)))
    assert not (tmp_path / "web" / "static").exists()


@pytest.mark.parametrize(
    "sums",
    [
        b"",
        b"\xff",
        b"x  manifest.json\n",
        b"0" * 64 + b"  ../x\n",
        b"0" * 64 + b"  a\n" + b"0" * 64 + b"  a\n",
        b"0" * 64,
    ],
)
def test_checksums_that_do_not_vouch_for_the_manifest_write_nothing(tmp_path: Path, sums: bytes) -> None:
    with pytest.raises(ManifestError, match="SHA256SUMS"):
        App(tmp_path).fetch(tag=TAG, place=local(tmp_path, release() | {"SHA256SUMS": sums}))
    assert not (tmp_path / "web" / "static").exists()


def test_the_manifest_and_the_checksums_must_agree_on_every_file() -> None:
    files = release()
    other = files["SHA256SUMS"].replace(sha256(b"{}").encode(), sha256(b"[]").encode())
    with pytest.raises(ManifestError, match="must have one sha256"):
        check_manifest(files["manifest.json"], parse_checksums(other), sha256(files["manifest.json"]))


@pytest.mark.parametrize(
    "query", ["", f"?v={VERSION}0", "?v=1.2.0-00000000", f"?v=1.2.1-{sha256(MODEL)[:8]}", "?v=x'\n"]
)
def test_an_env_file_and_a_release_that_disagree_write_nothing(tmp_path: Path, query: str) -> None:
    app = App(tmp_path)
    app.env_file.write_text(
        f'VITE_MODEL_VERSION=1.2.0\nVITE_MODEL_URL="https://x.example/{TAG}/model_fp16.onnx{query.strip()}"\n'
    )
    place = local(tmp_path, release())
    before = tree(tmp_path)
    with pytest.raises(ManifestError, match="the env file and the release must agree"):
        app.fetch(place=place)
    assert tree(tmp_path) == before


def test_a_file_the_release_does_not_have_is_a_disagreement(tmp_path: Path) -> None:
    app = App(tmp_path, f"https://x.example/{TAG}/model_q4.onnx")
    with pytest.raises(ManifestError, match=r"agree on 'model_q4\.onnx'"):
        app.fetch(place=local(tmp_path, release()))


# -- what the app's files say


def test_another_precision_gets_its_own_version(tmp_path: Path) -> None:
    app = App(tmp_path, f"https://x.example/{TAG}/model_fp16.onnx")
    place = local(tmp_path, release())
    app.fetch(place=place, precision="int8-dynamic")
    app.complete({*DELIVERED - {"model_fp16.onnx"}, "model_int8_dynamic.onnx"}, "model_int8_dynamic.onnx")
    with pytest.raises(ManifestError, match="--precision must be one of this release"):
        app.fetch(place=place, precision="q4")


def test_the_files_can_lie_as_transformers_js_looks_for_them(tmp_path: Path) -> None:
    app = App(tmp_path, f"https://x.example/{TAG}/model_fp16.onnx")
    place = local(tmp_path, release())
    app.fetch(place=place, layout="transformers.js")
    names = {str(path.relative_to(app.models)) for path in app.models.rglob("*") if path.is_file()}
    filled = {"tokenizer_config.json", "generation_config.json"}
    assert names == {*DELIVERED - {"model_fp16.onnx"}, "onnx/model_fp16.onnx", *filled}
    assert (app.models / "onnx/model_fp16.onnx").read_bytes() == MODEL
    assert {(app.models / name).read_text() for name in filled} == {"{}\n"}
    assert f"VITE_MODEL_URL=models/gpt2/onnx/model_fp16.onnx?v={VERSION}\n" in app.local.read_text()
    assert app.fetch(layout="transformers.js").outcome == "present"
    (app.models / "generation_config.json").unlink()
    assert app.fetch(place=place, layout="transformers.js").outcome == "fetched"
    assert (app.models / "generation_config.json").is_file()
    assert app.fetch(place=place).downloaded == ("model_fp16.onnx",)


def test_a_release_s_own_files_are_not_replaced_by_the_layout_s(tmp_path: Path) -> None:
    app, own = App(tmp_path, f"https://x.example/{TAG}/model_fp16.onnx"), b'{"model_max_length": 1024}'
    app.fetch(place=local(tmp_path, release({**CONTENTS, "tokenizer_config.json": own})), layout="transformers.js")
    assert (app.models / "tokenizer_config.json").read_bytes() == own


def test_other_lines_of_the_local_env_file_stay(tmp_path: Path) -> None:
    app = App(tmp_path)
    app.local.write_bytes(b"# mine\r\nVITE_MODEL_URL='old' # why\r\nVITE_DEBUG=1")
    app.fetch(tag=TAG, place=local(tmp_path, release()))
    url = f"models/gpt2/model_fp16.onnx?v={VERSION}".encode()
    assert app.local.read_bytes() == (
        b"# mine\r\nVITE_MODEL_URL='" + url + b"' # why\r\nVITE_DEBUG=1\r\nVITE_MODEL_VERSION=1.2.0\r\n"
    )


def test_a_later_release_replaces_the_files_whole(tmp_path: Path) -> None:
    app = App(tmp_path)
    app.fetch(tag=TAG, place=local(tmp_path, release()))
    contents = CONTENTS | {"model_fp16.onnx": b"new", "config.json": b"[]"}
    files = release(contents, tag="model-v2.0.0", version="2.0.0")
    (tmp_path / "releases" / TAG).rename(tmp_path / "releases" / "old")
    place = local(tmp_path, files)
    (tmp_path / "releases" / TAG).rename(tmp_path / "releases" / "model-v2.0.0")
    result = app.fetch(tag="model-v2.0.0", place=place)
    assert set(result.downloaded) == {"model_fp16.onnx", "config.json"}
    assert (app.models / "model_fp16.onnx").read_bytes() == b"new"
    assert "2.0.0" in app.local.read_text()


@pytest.mark.parametrize("name", sorted(DELIVERED))
@pytest.mark.parametrize("damage", ["gone", "other bytes"])
def test_a_damaged_file_is_fetched_again_and_only_it(tmp_path: Path, name: str, damage: str) -> None:
    app, place = App(tmp_path), local(tmp_path, release())
    app.fetch(tag=TAG, place=place)
    if damage == "gone":
        (app.models / name).unlink()
    else:
        (app.models / name).write_bytes(b"x" * len(release()[name]))
    assert app.fetch(tag=TAG, place=place).downloaded == ((name,) if name != "manifest.json" else ())
    app.complete()


def test_a_model_in_the_tree_is_verified_and_nothing_is_written(tmp_path: Path) -> None:
    app = App(tmp_path, "models/gpt2/model_fp16.onnx")
    app.models.mkdir(parents=True)
    for name in DELIVERED:
        (app.models / name).write_bytes(release()[name])
    before = tree(tmp_path)
    result = app.fetch()
    assert (result.outcome, result.url, result.env_changed) == (
        "git",
        f"models/gpt2/model_fp16.onnx?v={VERSION}",
        False,
    )
    assert tree(tmp_path) == before
    for name in DELIVERED:
        (app.models / name).rename(tmp_path / "kept")
        with pytest.raises(ManifestError, match=r"Commit the release's files"):
            app.fetch()
        (app.models / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
        with pytest.raises(ManifestError):
            app.fetch()
        (tmp_path / "kept").rename(app.models / name)
    app.fetch()


@pytest.mark.parametrize(
    "url",
    [
        "../models/gpt2/m.onnx",
        "models/../../x",
        "m.onnx",
        "//evil.example/m",
        "file:///etc/x",
        "http://[x/m",
        "models/gpt2/",
    ],
)
def test_an_env_file_that_leads_elsewhere_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(EnvFileError, match="VITE_MODEL_URL"):
        App(tmp_path, url).fetch()


def test_an_env_file_that_says_nothing_is_refused_unless_there_is_a_tag(tmp_path: Path) -> None:
    app = App(tmp_path)
    with pytest.raises(EnvFileError, match="must exist"):
        app.fetch()
    app.env_file.write_text("VITE_TITLE=x\n")
    with pytest.raises(EnvFileError, match="must set VITE_MODEL_VERSION"):
        app.fetch()
    app.env_file.write_text("VITE_MODEL_VERSION=1.2.0\n")
    with pytest.raises(EnvFileError, match="must set VITE_MODEL_URL"):
        app.fetch()
    with pytest.raises(UsageError, match="--tag needs to know"):
        app.fetch(tag=TAG)


@pytest.mark.network
@pytest.mark.parametrize("tag", [TAG, None])
def test_the_release_is_looked_for_where_the_env_file_points(tmp_path: Path, tag: str | None) -> None:
    with Server(serve(release())) as server:
        version = "1.0.0" if tag else "1.2.0"
        app = App(tmp_path, f"{server.url}/models/model-v{version}/model_fp16.onnx", version=version)
        app.fetch(tag=tag)
        assert {each.path.rpartition("/")[0] for each in server.asked} == {f"/models/{TAG}"}
    app.complete()


def test_a_static_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    app = App(tmp_path)
    app.static.write_text("a file")
    with pytest.raises(ExportError, match="must be writable"):
        app.fetch(tag=TAG, place=local(tmp_path, release()))


# -- the command


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No GitHub in the environment."""
    for name in list(os.environ):
        if name.startswith(("GITHUB_", "VITE_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--tag", "model-v1.0.0/../../x"], 2),
        (["--tag", "model-v1$(touch x)"], 2),
        (["--tag", "model-v1.0.0\nx"], 2),
        (["--tag", "model-v1.0.0-" + "x" * 300], 2),
        (["--from", "s3:x"], 2),
        (["--from", "local:"], 2),
        (["--from", "github"], 2),
        (["--from", "github", "--repo", "../x"], 2),
        (["--from", "github", "--repo", "o/.."], 2),
        (["--from", "github", "--repo", "o/r/x"], 2),
        (["--repo", "o/r"], 2),
        (["--base-url", "file:///etc"], 2),
        (["--base-url", "https://x.example/?a=b"], 2),
        (["--base-url", "https://me:pw@x.example/"], 2),
        (["--base-url", "https://x.example", "--from", "github"], 2),
        (["--from", "local:nowhere"], 8),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    tmp_path: Path, plain: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    plain.chdir(tmp_path)
    app = App(tmp_path, f"https://x.example/{TAG}/model_fp16.onnx")
    before = tree(tmp_path)
    outcome = call(cli.fetch, "--env-file", app.env_file, *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith("error: ")
    assert_refused(type(outcome)(code=outcome.code, out="", err=outcome.error + "\n"), code)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("version", ["1.0.0/../x", "$(id)x", "latest", "1.0.0+x"])
def test_a_hostile_version_in_the_env_file_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises((UsageError, EnvFileError)):
        App(tmp_path, "https://x.example/model_fp16.onnx", version=version).fetch()


@pytest.mark.network
def test_the_command_tells_what_it_did_and_warns_of_what_comes_before(
    app: App, site: StandInGitHub, repository: Repository, plain: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GITHUB_SERVER_URL": site.url,
        "GITHUB_API_URL": site.url,
        "GITHUB_TOKEN": "read-token",
    }.items():
        plain.setenv(name, value)
    repository.private = True
    plain.setenv("VITE_MODEL_URL", "")
    outcome = call(cli.fetch, "--env-file", app.env_file)
    assert outcome.code == 0, outcome.err
    url = f"models/gpt2/model_fp16.onnx?v={VERSION}"
    assert outcome.out.splitlines() == [
        f"{app.models}: 5 files downloaded, verified",
        f"{app.local} (written): VITE_MODEL_URL={url}",
    ]
    assert outcome.error.startswith("warning: the environment sets VITE_MODEL_URL to nothing")
    assert "read-token" not in outcome.out + outcome.err
    app.complete()
    plain.delenv("VITE_MODEL_URL")
    again = call(cli.fetch, "--env-file", app.env_file)
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines()[0] == f"{app.models}: there already, verified"


def test_the_build_step_needs_three_small_libraries_and_no_other() -> None:
    code = (
        "import sys; before = set(sys.modules); import model_release.cli.main, model_release.app.fetch, jsonschema, "
        "model_release.hosts.cors_probe; print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "onnx", "onnxruntime", "numpy", "huggingface_hub", "github", "tokenizers"}
    assert set(done.stdout.split()) & heavy == set()
    root = SCRIPTS.parent
    named = re.search(r"^pip install (.+)", (SCRIPTS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert named is not None
    assert set(named[1].split()) <= set((root / "requirements.txt").read_text(encoding="utf-8").split())


@pytest.mark.network
def test_a_large_file_needs_no_large_memory(tmp_path: Path) -> None:
    contents = CONTENTS | {"model_fp16.onnx": b"0123456789abcdef" * (2 << 20)}  # 32 MiB
    with Server(serve(release(contents))) as server:
        tracemalloc.start()
        try:
            App(tmp_path).fetch(tag=TAG, place=Place(kind="url", base_url=server.url))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 << 20
