"""Publishing to a stand-in GitHub: what it does, what it refuses, and what it never says."""

import hashlib
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import github
import pytest
from click.testing import CliRunner

import cli
from commands import call
from dists import FILES, REPOSITORY, TAG, TOKEN, github_host, make_dist, publish_to
from model_release.base import github_client
from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.base.github_access import GitHubAccess
from model_release.base.github_limits import MAX_NOTES_CHARACTERS
from model_release.base.retry import (
    RetriesExhaustedError,
    RetryPolicy,
    TransientError,
    retry,
)
from model_release.contract import manifest, measured
from model_release.contract.dist import check_dist
from model_release.contract.pinned_models import load_registry
from model_release.contract.tag import parse_tag
from model_release.hosts import github as github_host_room
from model_release.hosts.local import LocalHost
from model_release.release.notes import render_card, render_notes
from model_release.release.publish import publish
from standins.github import Fault, Repository, StandInGitHub, fault

READER = "read-token"
SCRIPTS = Path(__file__).parents[2] / "scripts"
EVERYTHING = {*FILES, manifest.MANIFEST_NAME, measured.MEASURED_NAME, manifest.CHECKSUMS_NAME}
network = pytest.mark.network


@pytest.fixture
def site() -> Iterator[StandInGitHub]:
    with StandInGitHub() as running:
        yield running
        assert running.violations == []
        assert running.leaks == []


@pytest.fixture
def repository(site: StandInGitHub) -> Repository:
    made = site.add_repository(REPOSITORY)
    made.create_tag(TAG)
    return made


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return make_dist(tmp_path / "dist")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def released(repository: Repository) -> dict[str, Any]:
    (release,) = repository.snapshot()["releases"]
    return dict(release)


def require_complete(repository: Repository, dist: Path) -> None:
    """One public release with exactly the folder's bytes."""
    release = released(repository)
    assert not release["draft"]
    assert {name: (asset["sha256"], asset["state"]) for name, asset in release["assets"].items()} == {
        name: (hashlib.sha256(content).hexdigest(), "uploaded") for name, content in contents(dist).items()
    }


def kinds(result: Any) -> dict[str, str]:
    return {action.name: action.kind for action in result.actions}


# Flows


@network
def test_a_release_is_a_draft_until_every_file_is_there(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    public_early = []

    def look(request: Any) -> None:
        if request.origin == "uploads":
            public_early.append(repository.published(TAG))

    site.hook = look
    result = publish_to(site, dist)
    assert public_early == [None] * 5
    assert kinds(result) == dict.fromkeys(EVERYTHING, "upload")
    require_complete(repository, dist)
    assert result.model_url == f"{site.url}/{REPOSITORY}/releases/download/{TAG}/model.onnx"


@network
@pytest.mark.usefixtures("repository")
def test_a_rerun_writes_nothing(site: StandInGitHub, dist: Path) -> None:
    publish_to(site, dist)
    before = len(site.writes())
    assert kinds(publish_to(site, dist)) == dict.fromkeys(EVERYTHING, "keep")
    assert len(site.writes()) == before


@network
@pytest.mark.usefixtures("repository")
def test_a_reader_may_find_that_all_is_done(site: StandInGitHub, dist: Path) -> None:
    publish_to(site, dist)
    assert set(kinds(publish_to(site, dist, token=READER)).values()) == {"keep"}


@network
def test_a_dry_run_says_it_all_and_writes_nothing(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    repository.add_release(TAG, {**contents(dist), "config.json": b"old", "foreign.txt": b"x"}, draft=True)
    result = publish_to(site, dist, dry_run=True)
    assert kinds(result) == {
        "SHA256SUMS": "keep",
        "config.json": "replace",
        "foreign.txt": "delete",
        "manifest.json": "keep",
        "measured.json": "keep",
        "model.onnx": "keep",
    }
    assert site.writes() == []
    assert kinds(publish_to(site, dist)) == kinds(result)
    require_complete(repository, dist)


@network
@pytest.mark.parametrize("text", ["model-v1.0.0-rc.1", "model-v1.0.0"])
def test_a_prerelease_is_offered_as_one(site: StandInGitHub, repository: Repository, tmp_path: Path, text: str) -> None:
    publish_to(site, make_dist(tmp_path / "dist", text), text)
    assert released(repository)["prerelease"] == ("rc" in text)


@network
@pytest.mark.parametrize("latest", [False, True])
def test_only_who_asks_becomes_the_latest(
    site: StandInGitHub, repository: Repository, dist: Path, latest: bool
) -> None:
    repository.add_release("v3.0.0", latest=True)
    publish_to(site, dist, latest=latest)
    shown = repository.latest()
    assert shown is not None
    assert shown.tag == (TAG if latest else "v3.0.0")


@network
def test_other_content_is_refused_with_the_next_free_tag(
    site: StandInGitHub, repository: Repository, dist: Path, tmp_path: Path
) -> None:
    publish_to(site, dist)
    repository.create_tag("model-v1.0.1")
    other = make_dist(tmp_path / "other", files={"model.onnx": b"other"})
    before = site.snapshot()
    with pytest.raises(HostError, match=r"released with other content .*next free tag, model-v1\.0\.2, or give --rep"):
        publish_to(site, other)
    assert site.snapshot() == before


@network
def test_a_replacement_changes_what_differs(
    site: StandInGitHub, repository: Repository, dist: Path, tmp_path: Path
) -> None:
    publish_to(site, dist)
    other = make_dist(tmp_path / "other", files={"model.onnx": b"other", "vocab.json": b"{}"})
    result = publish_to(site, other, replace=True)
    assert kinds(result) == {
        "SHA256SUMS": "replace",
        "config.json": "delete",
        "manifest.json": "replace",
        "measured.json": "keep",
        "model.onnx": "replace",
        "vocab.json": "upload",
    }
    require_complete(repository, other)
    assert "vocab.json" in released(repository)["body"]


@network
@pytest.mark.parametrize("replace", [False, True])
def test_an_immutable_release_is_refused_before_any_upload(
    site: StandInGitHub, repository: Repository, dist: Path, tmp_path: Path, replace: bool
) -> None:
    repository.immutable_releases = True
    publish_to(site, dist)
    before = len(site.writes())
    other = make_dist(tmp_path / "other", files={"model.onnx": b"other"})
    with pytest.raises(HostError, match=r"is immutable\. Use the next free tag, model-v1\.0\.1\."):
        publish_to(site, other, replace=replace)
    assert len(site.writes()) == before
    assert set(kinds(publish_to(site, dist)).values()) == {"keep"}


@network
def test_a_tag_that_an_immutable_release_had_leaves_no_draft(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    repository.burned_tags.add(TAG)
    with pytest.raises(HostError, match="can never be used again"):
        publish_to(site, dist)
    assert repository.releases == {}


# What is found there


@network
@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("draft", [False, True])
def test_a_file_without_a_digest_is_downloaded_and_hashed(
    site: StandInGitHub, repository: Repository, dist: Path, draft: bool, streams: bool
) -> None:
    repository.digests, site.streams_downloads = False, streams
    repository.add_release(TAG, {**contents(dist), "config.json": b'{"model_type": "GPT2"}\n'}, draft=draft)
    result = publish_to(site, dist, replace=True)
    assert kinds(result) == dict.fromkeys(EVERYTHING, "keep") | {"config.json": "replace"}
    require_complete(repository, dist)


@network
def test_a_leftover_of_a_broken_upload_is_replaced(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    draft = repository.add_release(TAG, contents(dist), draft=True)
    draft.assets[0].state = "starter"
    waits: list[float] = []
    assert kinds(publish_to(site, dist, waits=waits))[draft.assets[-1].name] == "replace"
    assert waits == [20.0], "it could have been on its way from another publisher"
    require_complete(repository, dist)


@network
def test_our_own_broken_upload_is_replaced_at_once(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    site.faults = [fault("502", method="POST", path="/uploads/*", nth=2)]
    waits: list[float] = []
    publish_to(site, dist, waits=waits)
    assert [1.0 <= wait <= 2.0 for wait in waits] == [True]
    require_complete(repository, dist)


@network
def test_of_several_drafts_one_is_finished_and_the_others_go(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    repository.add_release("model-v0.9.0", {"model.onnx": b"x"}, draft=True)
    for content in (b"a", b"b", b"c"):
        repository.add_release(TAG, {"model.onnx": content}, draft=True)
    assert publish_to(site, dist).surplus == 2
    assert sorted((release.tag, release.draft) for release in repository.releases.values()) == [
        ("model-v0.9.0", True),
        (TAG, False),
    ]


@network
def test_a_draft_beside_the_finished_release_goes(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    publish_to(site, dist)
    repository.add_release(TAG, {"model.onnx": b"x"}, draft=True)
    publish_to(site, dist)
    require_complete(repository, dist)


@network
def test_releases_are_found_behind_many_pages(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    repository.add_release(TAG, {"model.onnx": b"x"}, draft=True)
    for number in range(120):
        repository.add_release(f"v1.{number}.0")
    publish_to(site, dist)
    assert [release.draft for release in repository.releases.values() if release.tag == TAG] == [False]


@network
def test_notes_of_a_draft_never_publish_it(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    site.faults = [fault("422", method="POST", path="/uploads/*", nth=3)]
    with pytest.raises(HostError, match="422 Validation Failed"):
        publish_to(site, dist)
    assert released(repository)["draft"]
    assert not [r for r in site.requests if r.method == "PATCH"]


# Refusals of GitHub


@network
@pytest.mark.usefixtures("repository")
def test_a_token_that_may_only_read_is_told_which_permission_it_lacks(site: StandInGitHub, dist: Path) -> None:
    with pytest.raises(HostError, match=r"GITHUB_TOKEN must have the permission contents: write, got 403"):
        publish_to(site, dist, token=READER)
    assert site.writes() == []


@network
@pytest.mark.usefixtures("repository")
def test_a_token_that_github_does_not_know_is_one_sentence(site: StandInGitHub, dist: Path) -> None:
    with pytest.raises(HostError, match="must be a token that GitHub accepts, got 401 Bad credentials"):
        publish_to(site, dist, token="ghp_" + "nobody")
    assert len(site.requests) == 1


@network
def test_a_repository_that_is_not_there_is_one_sentence(site: StandInGitHub, dist: Path) -> None:
    with pytest.raises(HostError, match=r"someone/app must exist and be open to GITHUB_TOKEN, got 404"):
        publish_to(site, dist)


@network
def test_a_github_enterprise_server_works(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    publish_to(site, dist, url=site.ghes_url + "/")
    require_complete(repository, dist)


@network
@pytest.mark.parametrize(
    ("what", "waits_s"),
    [
        (Fault("403", path="*/releases"), (61.0, 62.0)),
        (Fault("429", path="*/releases", retry_after="7"), (7.0, 7.0)),
        (Fault("503", path="*/releases", retry_after="3"), (3.0, 3.0)),
        (Fault("500", path="*/releases"), (1.0, 2.0)),
    ],
)
@pytest.mark.usefixtures("repository")
def test_waits_are_as_long_as_github_asks(
    site: StandInGitHub, dist: Path, what: Fault, waits_s: tuple[float, float]
) -> None:
    waits: list[float] = []
    site.faults = [what]
    publish_to(site, dist, waits=waits)
    assert [waits_s[0] <= wait <= waits_s[1] for wait in waits] == [True]


@network
@pytest.mark.usefixtures("repository")
def test_the_hourly_limit_is_not_waited_for_when_it_is_far(site: StandInGitHub, dist: Path) -> None:
    site.rate_remaining = 9
    waits: list[float] = []
    with pytest.raises(HostError, match=r"rate limit exceeded.* which is too late.*Run the same command again"):
        publish_to(site, dist, waits=waits)
    assert waits == []
    site.rate_remaining, site.rate_reset_s = 3, int(time.time()) + 30
    with pytest.raises(HostError, match="attempts: 2"):
        publish_to(site, dist, waits=waits, attempts=2)
    assert [25 <= wait <= 32 for wait in waits] == [True]


@network
@pytest.mark.usefixtures("repository")
def test_a_server_that_never_answers_is_given_up(site: StandInGitHub) -> None:
    site.faults = [Fault("hang", seconds=3, times=99)]
    client = github_client.connect(access_to(site), timeout_s=1)
    with pytest.raises(HostError, match=r"got: no answer in time \(attempts: 1\)"):
        github_client.with_retries(lambda: client.get_repo(REPOSITORY), RetryPolicy(attempts=1))


@network
@pytest.mark.usefixtures("repository")
def test_an_answer_that_never_ends_is_given_up(site: StandInGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_client, "_ANSWER_S", 0.1)
    monkeypatch.setattr(github_client, "_CHUNK_BYTES", 64)
    site.faults = [Fault("slow", seconds=1)]
    client = github_client.connect(access_to(site))
    with pytest.raises(HostError, match="did not end in time"):
        github_client.with_retries(lambda: client.get_repo(REPOSITORY), RetryPolicy(attempts=1))


@network
def test_a_web_page_in_the_place_of_the_api_is_told(site: StandInGitHub) -> None:
    site.add_repository(REPOSITORY).add_release(TAG)
    web_page = GitHubAccess(token=TOKEN, api_url=f"{site.url}/{REPOSITORY}/releases/tag")
    client = github_client.connect(web_page)
    with pytest.raises(HostError, match=r"no JSON but text/html.*see GITHUB_API_URL"):
        github_client.with_retries(
            lambda: client.requester.requestJsonAndCheck("GET", f"/{TAG}"),
            RetryPolicy(attempts=2, sleep=lambda _: None),
        )


# The token


@network
def test_the_token_is_in_no_output_and_no_log(
    site: StandInGitHub,
    repository: Repository,
    dist: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    repository.digests = False
    site.faults = [
        fault(kind, path="*", number=number) for number, kind in enumerate(("500", "403 secondary limit"), 3)
    ]
    monkeypatch.setattr(github_client, "connect", partial(github_client.connect, seconds_between_writes=0))
    quick = partial(github_host_room.GitHubHost, retry_policy=RetryPolicy(sleep=lambda _: None))
    monkeypatch.setattr(github_host_room, "GitHubHost", quick)
    said = []
    for token, status in ((f"  {TOKEN}\n", 0), ("unknown-secret", 8), ("two words-secret", 2)):
        environment = {"GITHUB_TOKEN": token, "GITHUB_API_URL": site.url, "GITHUB_REPOSITORY": REPOSITORY}
        done = run_cli(["--dist", str(dist), "--tag", TAG], environment)
        assert done[0] == status, done
        said.append(done[1])
    everything = "\n".join([*said, caplog.text, str(site.snapshot())])
    for secret in (TOKEN, "unknown-secret", "words-secret"):
        assert secret not in everything


def access_to(site: StandInGitHub) -> GitHubAccess:
    return GitHubAccess(token=TOKEN, api_url=site.url)


def run_cli(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Runs the command as `cli.run` does; status and everything it says."""
    done = CliRunner().invoke(cli.publish, arguments, env=environment, standalone_mode=False)
    status = getattr(done.exception, "exit_code", 1) if done.exception else 0
    return status, done.output + (f"{done.exception} {done.exception!r}" if done.exception else "")


@pytest.mark.parametrize("token", ["", " ", "a b", "a\nb", "ü"])
def test_what_is_no_token_is_refused_unsaid(token: str) -> None:
    with pytest.raises(UsageError, match="GITHUB_TOKEN must be") as caught:
        github_client.connect(GitHubAccess.from_environment({"GITHUB_TOKEN": token}))
    assert "a b" not in str(caught.value)


@network
def test_a_download_takes_no_token_to_another_origin(site: StandInGitHub, repository: Repository) -> None:
    repository.add_release(TAG, {"model.onnx": b"x" * 9})
    host = github_host(site)
    assert host.read(TAG, "model.onnx") == b"x" * 9
    client = github_client.connect(GitHubAccess(token=TOKEN, api_url="https://api.github.example"))
    with pytest.raises(HostError, match="must be the API's own"):
        next(github_client.download(client, f"{site.url}/repos/x/releases/assets/1"))


# The folder


def add(name: str) -> Callable[[Path], object]:
    return lambda dist: (dist / name).write_bytes(b"x")


def remove(name: str) -> Callable[[Path], object]:
    return lambda dist: (dist / name).unlink()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (add("extra.txt"), "'extra.txt' is not listed"),
        (add(".hidden"), "'.hidden' is not listed"),
        (add("ü\n$(touch x)"), r"'\\xfc\\n\$\(touch x\)' is not listed"),
        (remove("config.json"), "'config.json' is missing"),
        (remove("SHA256SUMS"), "must be a folder with manifest.json and SHA256SUMS"),
        pytest.param(
            *(remove("manifest.json"), "must be a folder with manifest.json and SHA256SUMS"), id="without its manifest"
        ),
        (add("config.json"), "'config.json' has other bytes"),
        (add("SHA256SUMS"), "SHA256SUMS has other sums"),
        (add("manifest.json"), "manifest.json must be JSON"),
    ],
)
def test_a_folder_that_is_not_what_its_manifest_says_is_refused(
    dist: Path, harm: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    harm(dist)
    with pytest.raises(ManifestError, match=said):
        publish(dist, parse_tag(TAG), LocalHost(tmp_path / "releases"))
    assert not (tmp_path / "releases").exists()


CONTRADICTIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a file twice": lambda document: document["files"].append(dict(document["files"][0])),
    "itself": lambda document: document["files"].append(dict(document["files"][0], name="manifest.json")),
    "a file elsewhere": lambda document: document["files"].append(dict(document["files"][0], name="../x")),
    "a long name": lambda document: document["files"].append(dict(document["files"][0], name="a" * 300)),
    "no such model": lambda document: document["delivery"].update(file="nothing.onnx"),
    "a variant elsewhere": lambda document: document["variants"][0].update(file="../../etc/passwd"),
    "another tag": lambda document: document.update(tag="model-v9.0.0"),
    "another version": lambda document: document.update(version="9.0.0"),
}


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_manifest_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ManifestError):
        check_dist(make_dist(tmp_path / "dist", change=change), parse_tag(TAG))


@network
def test_a_release_holds_several_models_each_with_its_own_manifest(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    make_dist(dist, prefix="tiny-")
    result = publish_to(site, dist)
    require_complete(repository, dist)
    assert result.document.name == "gpt2"
    assert {"model.onnx", "tiny-model.onnx", "tiny-manifest.json", "tiny-SHA256SUMS"} <= contents(dist).keys()
    assert result.details.notes.startswith("`gpt2` and `tiny` as ONNX")
    assert "# `tiny`" in result.details.notes
    assert set(kinds(publish_to(site, dist)).values()) == {"keep"}


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (add("tiny-config.json"), "'tiny-config.json' has other bytes"),
        (add("tiny-SHA256SUMS"), "tiny-SHA256SUMS has other sums"),
        (add("tiny-extra.txt"), "'tiny-extra.txt' is not listed"),
        (remove("tiny-manifest.json"), "'tiny-SHA256SUMS' is not listed"),
        (lambda dist: (dist / "tiny-manifest.json").rename(dist / "x-manifest.json"), "No such file"),
        (remove("manifest.json"), "must be a folder with manifest.json"),
    ],
)
def test_a_second_model_is_judged_like_the_first(dist: Path, harm: Callable[[Path], object], said: str) -> None:
    make_dist(dist, prefix="tiny-")
    harm(dist)
    with pytest.raises(ManifestError, match=said):
        check_dist(dist, parse_tag(TAG))


def test_a_second_model_may_not_claim_the_firsts_files(dist: Path) -> None:
    def claim(document: dict[str, Any]) -> None:
        document["files"].append({**document["files"][0], "name": "model.onnx"})

    make_dist(dist, prefix="tiny-", change=claim)
    with pytest.raises(ManifestError, match="whose names begin as its own"):
        check_dist(dist, parse_tag(TAG))


@pytest.mark.parametrize(
    "tag", ["model-v1$(touch x)", "../../x", "model-v1.0.0\n", "m" * 300, "model-v1.0.0;ls", "model-v1", "", "-rf"]
)
def test_a_hostile_tag_reaches_nothing(dist: Path, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    status, said = run_cli(["--dist", str(dist), f"--tag={tag}", "--repo", REPOSITORY], {"GITHUB_TOKEN": "t"})
    assert status == 2
    assert "\n" not in said.strip()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "repo", ["", "app", "a/b/c", "../..", "a/..", "a/.", "a b/c", "a/b?c", "a/b#", "x" * 99, "ü/a"]
)
def test_a_hostile_repository_reaches_no_url(dist: Path, repo: str) -> None:
    status, said = run_cli(["--dist", str(dist), "--tag", TAG, "--repo", repo], {"GITHUB_TOKEN": "t"})
    assert (status, "--repo" in said) == (2, True)


@network
@pytest.mark.parametrize("name", ["a..b", "end.", "empty.txt"])
@pytest.mark.usefixtures("repository")
def test_a_file_that_github_would_rename_or_refuse_is_refused_before_any_write(
    site: StandInGitHub, tmp_path: Path, name: str
) -> None:
    content = b"" if name == "empty.txt" else b"x"
    dist = make_dist(tmp_path / "dist", files={"model.onnx": b"x", name: content})
    with pytest.raises(HostError, match=r"must keep its name|must not be empty"):
        publish_to(site, dist)
    assert site.writes() == []


@network
def test_a_file_that_changes_while_it_is_uploaded_is_not_published(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    def change(request: Any) -> None:
        if request.origin == "uploads" and request.query["name"] == "config.json":
            (dist / "model.onnx").write_bytes(b"evil " * 400)

    site.hook = change
    with pytest.raises(ManifestError, match=r"model\.onnx must not change while it is uploaded"):
        publish_to(site, dist)
    assert released(repository)["draft"]
    assert "model.onnx" not in released(repository)["assets"]


# Notes and the contract


@network
def test_notes_tell_what_changed_since_the_release_before(
    site: StandInGitHub, repository: Repository, dist: Path, tmp_path: Path
) -> None:
    publish_to(site, dist)
    files = {"model.onnx": b"x" * 2_500_000, "vocab.json": b"{}"}
    later = make_dist(tmp_path / "later", "model-v1.1.0", files, change=lambda d: d.update(contract_version="1.1.0"))
    publish_to(site, later, "model-v1.1.0")
    body = next(release.body for release in repository.releases.values() if release.tag == "model-v1.1.0") or ""
    for line in (
        "## Changes since `model-v1.0.0`",
        "- contract version: `1.0.0` → `1.1.0`",
        "| `config.json` | removed | 0.0 kB |",
        "| `model.onnx` | changed | 2.5 (+2.5) |",
        "| `vocab.json` | added | 0.0 kB |",
        "sha256sum -c SHA256SUMS",
        "python scripts/verify.py --model model.onnx",
    ):
        assert line in body.splitlines()


@network
@pytest.mark.usefixtures("repository")
def test_a_breaking_contract_needs_a_new_major_version(site: StandInGitHub, dist: Path, tmp_path: Path) -> None:
    publish_to(site, dist)

    def breaking(document: dict[str, Any]) -> None:
        document["contract_version"] = "2.0.0"

    writes = len(site.writes())
    small = make_dist(tmp_path / "small", "model-v1.1.0", change=breaking)
    with pytest.raises(HostError, match=r"model-v1\.1\.0 must have a new major .*Use e\.g\. model-v2\.0\.0"):
        publish_to(site, small, "model-v1.1.0")
    assert len(site.writes()) == writes
    publish_to(site, make_dist(tmp_path / "big", "model-v2.0.0", change=breaking), "model-v2.0.0")


@network
def test_a_release_of_something_else_before_ours_does_no_harm(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    repository.add_release("model-v0.9.0", {"manifest.json": b"not ours"})
    repository.add_release("model-v0.8.0", {"app.zip": b"x"})
    repository.add_release("nightly", {"manifest.json": b"{}"})
    publish_to(site, dist)
    assert "Changes since" not in str([release.body for release in repository.releases.values()])


HOSTILE = "x` \\| @someone #1 <img src=x onerror=alert(1)> ![](https://evil.example)\n# Heading\n```\n\x1b[31m"


def test_notes_say_how_to_check_who_built_it_and_are_printed_offline(
    dist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    asked = ["--dist", str(dist), "--tag", TAG, "--notes"]
    plain = call(cli.publish, *asked)
    assert plain.code == 0, plain.err
    assert "gh attestation verify" not in plain.out
    signed = call(cli.publish, *asked, "--signer-repo", "someone/see-through")
    line = f"gh attestation verify model.onnx --repo {REPOSITORY} --signer-repo someone/see-through"
    assert signed.out == plain.out.replace("sha256sum -c SHA256SUMS\n", f"sha256sum -c SHA256SUMS\n{line}\n")
    refused = call(cli.publish, *asked, "--signer-repo", "$(id)")
    assert (refused.code, "--signer-repo must be OWNER/NAME" in refused.error) == (2, True)


def test_notes_name_the_licence_and_the_card_of_known_weights(tmp_path: Path) -> None:
    known = load_registry()["gpt2"]
    for source, revision, line in (
        (
            known["repository"],
            known["revision"],
            f"`MIT`, [model card](https://huggingface.co/{known['repository']}/blob/{known['revision']}/README.md)",
        ),
        ("demo", "", "made from public-domain text, see `scripts/demo_model/README.md`"),
        ("folder /models/mine", "", "not known here"),
    ):
        folder = make_dist(tmp_path / source.replace("/", "-"))
        document = manifest.read(folder)
        document = replace(document, model=replace(document.model, source=source, revision=revision))
        notes = render_notes(document, {"": measured.read(folder)})
        assert f"| licence of the weights | {line} |" in notes.splitlines()


def test_notes_say_where_a_precision_is_best_if_that_is_not_plain(tmp_path: Path) -> None:
    folder = make_dist(tmp_path / "dist")
    document, figures = manifest.read(folder), measured.read(folder)
    best = "int4-compute`: The least memory"
    assert best not in render_notes(document, {"": figures})
    first, *others = document.variants
    large = replace(document, variants=(replace(first, precision="int4-compute"), *others))
    assert f"- `{best}" in render_notes(large, {"": figures})


def test_the_card_says_once_what_holds_everywhere(dist: Path) -> None:
    card = render_card(manifest.read(dist), measured.read(dist))
    assert "- clauses that hold in every model file: C1 C2" in card.splitlines()


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    def hostile(document: dict[str, Any]) -> None:
        document["model"].update(source=HOSTILE, revision=HOSTILE * 99)
        document["selection"]["activations"] = [HOSTILE]
        document["variants"][0].update(precision=HOSTILE, file="`; rm -rf ~")
        document["files"][0]["name"] = HOSTILE

    def measure(figures: dict[str, Any]) -> None:
        figures["models"][0]["agreement"]["text"] = HOSTILE
        figures["made_with"] = {HOSTILE: HOSTILE}

    folder = make_dist(tmp_path / "dist", change=hostile, measure=measure)
    document = manifest.read(folder)
    notes = render_notes(document, {"": measured.read(folder)}, document)
    assert "\x1b" not in notes
    assert [line for line in notes.splitlines() if line.startswith("#")] == [
        "## Files",
        "## Origin",
        "## Verify",
        f"## Changes since `{TAG}`",
    ]
    assert "rm -rf" not in notes
    # What CommonMark takes for code is text to GitHub: no link, mention, image or HTML.
    outside = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", notes)
    assert not [text for text in ("@", "#1", "<img", "evil", "[") if text in outside]
    assert "¦" in notes, "a bar would end a table's cell, even in code and behind a backslash"


def test_notes_are_never_too_long(tmp_path: Path) -> None:
    folder = make_dist(tmp_path / "dist")
    small = manifest.read(folder)
    files = [replace(small.files[0], name=f"{number}-{'n' * 180}") for number in range(2000)]
    selection = replace(small.selection, activations=("a" * 5000,) * 5000)
    document = replace(small, files=(*small.files, *files), selection=selection)
    old = replace(document, files=tuple(replace(entry, name=f"old-{entry.name}") for entry in document.files))
    notes = render_notes(document, {"": measured.read(folder)}, old)
    assert len(notes) < MAX_NOTES_CHARACTERS * 0.8
    assert "more, see `manifest.json`" in notes


# The command


def test_a_local_host_takes_the_same_folder(dist: Path, tmp_path: Path) -> None:
    arguments = ["--dist", str(dist), "--tag", TAG, "--host", f"local:{tmp_path / 'releases'}"]
    status, said = run_cli([*arguments, "--dry-run"], {})
    assert (status, (tmp_path / "releases").exists()) == (0, False)
    assert said.splitlines()[:2] == [
        "action  file               MB  reason",
        "upload  SHA256SUMS     0.3 kB  not there yet",
    ]
    assert said.splitlines()[-1] == f"{TAG} would be made public as a release; nothing was changed."
    assert run_cli(arguments, {})[0] == 0
    assert contents(tmp_path / "releases" / TAG) == contents(dist)
    assert "keep" in run_cli(arguments, {})[1]


@pytest.mark.parametrize("host", ["s3", "local:", "github:x", "", "local"])
def test_a_host_that_is_none_is_refused(dist: Path, host: str) -> None:
    assert run_cli(["--dist", str(dist), "--tag", TAG, "--host", host, "--repo", REPOSITORY], {})[0] == 2


def test_the_latest_is_no_prerelease(tmp_path: Path) -> None:
    tag = "model-v1.0.0-rc.1"
    with pytest.raises(UsageError, match="--latest must be for a version without prerelease"):
        publish(make_dist(tmp_path / "dist", tag), parse_tag(tag), LocalHost(tmp_path / "r"), latest=True)


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['publish.py', '--help']\n"
        "try:\n    import runpy; runpy.run_path('publish.py', run_name='__main__')\n"
        "except SystemExit: print(sorted({'github', 'requests', 'torch', 'onnx', 'jsonschema'} & set(sys.modules)))"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


# RetryPolicy


def test_patience_doubles_its_waits_and_ends() -> None:
    waits: list[float] = []

    def failing() -> None:
        raise TransientError("no luck")

    retry_policy = RetryPolicy(attempts=7, sleep=waits.append, jitter=lambda: 1.0)
    with pytest.raises(RetriesExhaustedError) as caught:
        retry(failing, retry_policy, lambda _: None)
    assert (waits, caught.value.attempts) == ([2.0, 4.0, 8.0, 16.0, 30.0, 30.0], 7)


def test_what_is_refused_for_good_is_asked_once() -> None:
    calls = []

    def refused() -> None:
        calls.append(1)
        raise github.GithubException(422, {"message": "Validation Failed", "errors": [{"field": "x", "code": "bad"}]})

    with pytest.raises(HostError, match="got 422 Validation Failed, x bad"):
        github_client.with_retries(refused)
    assert calls == [1]
