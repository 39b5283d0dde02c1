"""Publishing to a stand-in GitHub: what it does, what it refuses, and what it never says."""

import hashlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cli
from dists import FILES, REPOSITORY, TAG, TOKEN, github_host, make_dist, publish_to
from model_release.base import github_client
from model_release.base.errors import HostError, ManifestError, UsageError
from model_release.base.github_access import GitHubAccess
from model_release.base.retry import RetryPolicy
from model_release.contract import manifest, measured
from model_release.contract.tag import parse_tag
from model_release.hosts import github as github_host_room
from model_release.hosts.local import LocalHost
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


# Names, and files that change


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
