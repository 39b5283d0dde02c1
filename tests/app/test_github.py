"""The web app's repository: one commit, only our keys, a pull request where a branch is protected, and no loss."""

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

import cli
from dists import FILES as DIST_FILES
from dists import REPOSITORY, make_dist, publish_to
from fault_share import kinds_at
from model_release.app.app import AppResult, Released
from model_release.app.commit import AppCommit, describe_blob, is_plain_path
from model_release.app.envfile import edited
from model_release.app.github import CommitResult, commit_to_app
from model_release.app.repository import AppPlace, RepositoryApp
from model_release.base import github_client
from model_release.base.errors import (
    EnvFileError,
    HostError,
    ReleaseError,
    UsageError,
)
from model_release.base.github_access import GitHubAccess
from model_release.base.github_client import connect
from model_release.base.github_limits import MAX_BLOB_BYTES
from model_release.base.github_words import read_refusal
from model_release.base.http import Web
from model_release.base.retry import RetryPolicy
from model_release.contract import manifest
from model_release.hosts.source import GitHubRelease
from standins.github import CLASSIC, EVERY_FAULT, RESTRICTED, RULESET, Fault, Repository, StandInGitHub, Token, fault

TAG = "model-v1.0.0"
TOPIC = f"model-release/{TAG}"
NAME = "someone/app"
ENV = "apps/web/.env.production"
FOLDER = "apps/web/static/models/gpt2"
DEPLOY = "deploy.yml"
VALUES = {"VITE_MODEL_URL": "https://example.org/model.onnx?v=1.0.0-12345678", "VITE_MODEL_VERSION": "1.0.0"}
OLD_ENV = "# the app\nVITE_API=https://api.example\nVITE_MODEL_URL=old\nVITE_MODEL_VERSION=0.9.0\n"
NEW_ENV = OLD_ENV.replace("old", VALUES["VITE_MODEL_URL"]).replace("0.9.0", "1.0.0")
FILES = {"model.onnx": bytes(range(256)) * 40, "tokenizer.json": b'{"tokens": []}\n'}
START = {
    ENV: OLD_ENV,
    "README.md": "# app\n",
    f".github/workflows/{DEPLOY}": "on:\n  workflow_dispatch:\njobs: {}\n",
    ".github/workflows/test.yml": "on: push\njobs: {}\n",
}
RETRY_POLICY = RetryPolicy(attempts=8, longest_wait_s=900, sleep=lambda _: None, jitter=lambda: 0.0)


@pytest.fixture
def site() -> Iterator[StandInGitHub]:
    with StandInGitHub() as started:
        yield started
    assert started.violations == []


@pytest.fixture
def app(site: StandInGitHub) -> Repository:
    return site.add_repository(NAME, START)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The model's files, by their place in the app's repository."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return {f"{FOLDER}/{name}": tmp_path / name for name in FILES}


def wanted(**changes: Any) -> AppCommit:
    request = {
        "repository": NAME,
        "branch": None,
        "env_path": ENV,
        "values": VALUES,
        "files": {},
        "tag": TAG,
        "deploy_workflow": None,
    }
    return AppCommit(**{**request, **changes})


def commit(
    site: StandInGitHub, request: AppCommit, *, holder: str = "write", said: list[str] | None = None
) -> CommitResult:
    api = connect(access_to(site, f"{holder}-token"), timeout_s=5, seconds_between_writes=0)
    return commit_to_app(api, request, retry_policy=RETRY_POLICY, progress=(said if said is not None else []).append)


def access_to(site: StandInGitHub, token: str = "write-token") -> GitHubAccess:  # noqa: S107 - the stand-in's
    return GitHubAccess(token=token, repository=REPOSITORY, api_url=site.url, server_url=site.url)


def messages(repository: Repository, branch: str = "main") -> list[str]:
    head = repository.branch_head(branch)
    assert head is not None
    return [repository.objects.commits[sha].message for sha in repository.objects.history(head)]


def writes(site: StandInGitHub) -> list[str]:
    return [f"{request.method} {request.path.removeprefix(f'/repos/{NAME}')}" for request in site.writes()]


def before(site: StandInGitHub, method: str, path: str, act: Callable[[], object]) -> None:
    """Does something once, right before the server handles the first such request."""
    pending = [act]

    def hook(request: Any) -> None:
        if pending and request.method == method and path in request.path:
            pending.pop()()

    site.hook = hook


# The env file alone


@pytest.mark.network
def test_an_env_commit_touches_one_file_and_only_our_keys(site: StandInGitHub, app: Repository) -> None:
    old = app.files()
    said: list[str] = []
    result = commit(site, wanted(), said=said)
    assert (result.outcome, result.commit) == ("committed", app.branch_head("main"))
    assert app.files() == old | {ENV: NEW_ENV.encode()}
    assert messages(app) == [f"Point the web app at {TAG}", "Initial commit"]
    assert writes(site) == [f"PUT /contents/{ENV}"]
    assert "  - VITE_MODEL_VERSION=0.9.0" in said
    assert "  + VITE_MODEL_VERSION=1.0.0" in said


@pytest.mark.network
def test_a_bom_mixed_line_endings_and_bytes_that_are_no_text_survive(site: StandInGitHub, app: Repository) -> None:
    odd = b"\xef\xbb\xbf# caf\xe9 \xff\xfe\r\nA='1'\r\nVITE_MODEL_URL=old # here\r\n\nVITE_MODEL_VERSION=0\rLAST=\xc3"
    app.commit({ENV: odd})
    commit(site, wanted())
    url, version = (VALUES[key].encode() for key in VALUES)
    assert app.files()[ENV] == odd.replace(b"=old", b"=" + url).replace(b"VERSION=0", b"VERSION=" + version)


@pytest.mark.network
@pytest.mark.parametrize("by_git", [False, True])
def test_a_second_run_writes_nothing(
    site: StandInGitHub, app: Repository, files: dict[str, Path], by_git: bool
) -> None:
    request = wanted(files=files if by_git else {}, deploy_workflow=DEPLOY)
    assert commit(site, request).dispatched
    state, count = site.snapshot(), len(site.writes())
    again = commit(site, request)
    assert (again.outcome, again.dispatched, again.commit) == ("unchanged", False, app.branch_head("main"))
    assert (site.snapshot(), len(site.writes())) == (state, count)


@pytest.mark.network
@pytest.mark.parametrize("by_git", [False, True])
def test_a_change_made_meanwhile_is_kept_and_ours_applied_to_it(
    site: StandInGitHub, app: Repository, files: dict[str, Path], by_git: bool
) -> None:
    theirs = OLD_ENV.replace("api.example", "api2.example") + "MORE=1\n"
    method, path = ("PATCH", "/git/refs/") if by_git else ("PUT", "/contents/")
    before(site, method, path, lambda: app.commit({ENV: theirs, "new.txt": "new"}, message="Theirs"))
    request = wanted(files=files if by_git else {})
    assert commit(site, request).outcome == "committed"
    assert app.files()[ENV].decode() == NEW_ENV.replace("api.example", "api2.example") + "MORE=1\n"
    assert app.files()["new.txt"] == b"new"
    assert messages(app) == [request.message, "Theirs", "Initial commit"]
    sent = [each for each in site.requests if each.method == "POST" and each.path.endswith("/git/blobs")]
    assert len(sent) == (len(FILES) + 2 if by_git else 0), "the model is sent once, the env file once for each try"


@pytest.mark.network
@pytest.mark.parametrize("kind", ["409", "422"])
def test_a_conflict_without_a_reason_is_read_and_applied_again(site: StandInGitHub, app: Repository, kind: str) -> None:
    site.faults = [Fault(kind, method="PUT", path="*/contents/*")]
    assert commit(site, wanted()).outcome == "committed"
    assert messages(app) == [f"Point the web app at {TAG}", "Initial commit"]


@pytest.mark.network
@pytest.mark.parametrize("by_git", [False, True])
def test_a_missing_env_file_is_an_env_error_unless_it_may_be_made(
    site: StandInGitHub, app: Repository, files: dict[str, Path], by_git: bool
) -> None:
    app.commit({ENV: None})
    request = wanted(files=files if by_git else {})
    with pytest.raises(EnvFileError, match="--create-env-file") as failure:
        commit(site, request)
    assert failure.value.exit_code == 9
    assert site.writes() == []
    commit(site, replace(request, create_env_file=True))
    assert app.files()[ENV].decode() == "".join(f"{key}={value}\n" for key, value in VALUES.items())


@pytest.mark.network
@pytest.mark.parametrize("there", [{f"{ENV}/x": "a folder"}, {ENV: "#" * 1_000_001}])
def test_an_env_file_that_is_none_is_refused(site: StandInGitHub, app: Repository, there: dict[str, str]) -> None:
    app.commit({ENV: None})
    app.commit(there)
    with pytest.raises(EnvFileError, match="must be a file of less than 1 MB"):
        commit(site, wanted())
    assert site.writes() == []


@pytest.mark.network
def test_a_key_that_is_assigned_twice_is_refused(site: StandInGitHub, app: Repository) -> None:
    app.commit({ENV: OLD_ENV + "VITE_MODEL_URL=again\n"})
    with pytest.raises(EnvFileError, match="assigned once"):
        commit(site, wanted())
    assert site.writes() == []


@pytest.mark.network
def test_another_branch_of_another_repository_can_be_named(site: StandInGitHub, app: Repository) -> None:
    other = site.add_repository("else/web.app", START)
    other.create_branch("release/next")
    result = commit(site, wanted(repository="else/web.app", branch="release/next", deploy_workflow=DEPLOY))
    assert other.files("release/next")[ENV].decode() == NEW_ENV
    assert other.files()[ENV].decode() == app.files()[ENV].decode() == OLD_ENV
    assert (result.dispatched, other.dispatches) == (False, [])
    assert "release/next is not the default branch" in result.notes[0]


# The model in the app's tree


@pytest.mark.network
def test_delivery_by_git_is_one_commit_with_the_model_and_the_env_file(
    site: StandInGitHub, app: Repository, files: dict[str, Path]
) -> None:
    old, head = app.files(), app.branch_head("main")
    result = commit(site, wanted(files=files))
    model = {f"{FOLDER}/{name}": content for name, content in FILES.items()}
    assert app.files() == old | model | {ENV: NEW_ENV.encode()}
    assert app.objects.commits[result.commit].parents == (head,)
    assert result.commit == app.branch_head("main")
    assert messages(app) == [f"Deliver {TAG} to the web app", "Initial commit"]


@pytest.mark.network
def test_a_file_that_is_in_the_tree_already_is_not_sent_again(
    site: StandInGitHub, app: Repository, files: dict[str, Path]
) -> None:
    commit(site, wanted(files=files))
    count = len(site.requests)
    (files[f"{FOLDER}/tokenizer.json"]).write_bytes(b'{"tokens": ["new"]}\n')
    second = wanted(files=files, tag="model-v1.0.1", values=VALUES | {"VITE_MODEL_VERSION": "1.0.1"})
    assert commit(site, second).outcome == "committed"
    sent = [each for each in site.requests[count:] if each.path.endswith("/git/blobs")]
    assert len(sent) == 2, "tokenizer and env file"
    assert app.files()[f"{FOLDER}/tokenizer.json"] == b'{"tokens": ["new"]}\n'
    count = len(site.requests)
    third = replace(second, tag="model-v1.0.2", values=VALUES | {"VITE_MODEL_VERSION": "1.0.2"})
    assert commit(site, third).outcome == "committed"
    assert [each.path for each in site.requests[count:] if each.path.endswith("/git/blobs")] == []


@pytest.mark.network
def test_a_file_too_large_for_git_is_refused_before_anything_is_sent(
    site: StandInGitHub, files: dict[str, Path]
) -> None:
    with files[f"{FOLDER}/model.onnx"].open("wb") as file:
        file.truncate(MAX_BLOB_BYTES + 1)
    with pytest.raises(HostError, match=r"at most 100 MB .* got 100\.0 MB\. Use --delivery release"):
        commit(site, wanted(files=files))
    assert site.requests == []


@pytest.mark.network
def test_a_file_that_github_finds_too_large_is_explained(
    site: StandInGitHub, app: Repository, files: dict[str, Path]
) -> None:
    words = "Sorry, your input was too large to process."
    site.faults = [Fault("422", path="*/git/blobs", message=words)]
    with pytest.raises(HostError, match=r"small enough for GitHub's git data API.*--delivery release"):
        commit(site, wanted(files=files))
    assert messages(app) == ["Initial commit"]


# Protected branches


@pytest.mark.network
@pytest.mark.parametrize("by_git", [False, True])
@pytest.mark.parametrize("kind", [RULESET, CLASSIC, RESTRICTED])
def test_a_protected_branch_gets_a_pull_request_with_the_same_commit(
    site: StandInGitHub, app: Repository, files: dict[str, Path], kind: str, by_git: bool
) -> None:
    app.protected["main"] = kind
    head = app.branch_head("main")
    request = wanted(files=files if by_git else {}, deploy_workflow=DEPLOY)
    result = commit(site, request)
    (pull,) = app.pulls
    assert (result.outcome, result.commit) == ("pull request", app.branch_head(TOPIC))
    assert result.url.endswith(f"/{NAME}/pull/{pull.number}")
    assert (pull.head, pull.base, pull.state, pull.title) == (TOPIC, "main", "open", request.message)
    assert VALUES["VITE_MODEL_URL"] in (pull.body or "")
    assert app.branch_head("main") == head
    model = {f"{FOLDER}/{name}": content for name, content in FILES.items()} if by_git else {}
    assert app.files(TOPIC) == app.files() | model | {ENV: NEW_ENV.encode()}
    assert app.objects.commits[result.commit].parents == (head,)
    assert (result.dispatched, app.dispatches) == (False, [])
    assert f"{DEPLOY} is not started" in result.notes[0]


@pytest.mark.network
def test_a_branch_that_is_only_listed_as_protected_is_written_directly(site: StandInGitHub, app: Repository) -> None:
    app.protected["main"] = ""  # The token is exempt.
    assert commit(site, wanted()).outcome == "committed"
    assert app.pulls == []


@pytest.mark.network
@pytest.mark.parametrize("by_git", [False, True])
def test_a_second_run_reuses_the_pull_request_and_writes_nothing(
    site: StandInGitHub, app: Repository, files: dict[str, Path], by_git: bool
) -> None:
    app.protected["main"] = RULESET
    request = wanted(files=files if by_git else {})
    first = commit(site, request)
    state, count = site.snapshot(), len(site.writes())
    assert commit(site, request) == first
    assert (site.snapshot(), len(site.writes())) == (state, count)


@pytest.mark.network
def test_other_values_for_the_same_tag_go_into_the_same_pull_request(site: StandInGitHub, app: Repository) -> None:
    app.protected["main"] = RULESET
    first = commit(site, wanted())
    app.commit({"their.txt": "review"}, branch=TOPIC, message="A review")
    second = commit(site, wanted(values=VALUES | {"VITE_MODEL_URL": "https://example.org/other"}))
    assert (second.url, len(app.pulls)) == (first.url, 1)
    assert messages(app, TOPIC) == [wanted().message, "A review", wanted().message, "Initial commit"]
    assert b"https://example.org/other" in app.files(TOPIC)[ENV]


@pytest.mark.network
@pytest.mark.parametrize("branch_deleted", [False, True])
def test_a_pull_request_that_was_closed_is_said_so_and_opened_again(
    site: StandInGitHub, app: Repository, branch_deleted: bool
) -> None:
    app.protected["main"] = RULESET
    commit(site, wanted())
    app.pulls[0].state = "closed"
    if branch_deleted:
        app.move(f"refs/heads/{TOPIC}", None)
    result = commit(site, wanted())
    assert result.outcome == "pull request"
    assert [pull.state for pull in app.pulls] == ["closed", "open"]
    assert result.notes == ("Pull request #1 was closed without being merged; #2 asks again.",)
    assert messages(app, TOPIC) == [wanted().message, "Initial commit"]


@pytest.mark.network
@pytest.mark.parametrize("squashed", [False, True])
def test_after_the_merge_a_run_changes_nothing_but_removes_the_branch(
    site: StandInGitHub, app: Repository, squashed: bool
) -> None:
    app.protected["main"] = RULESET
    commit(site, wanted())
    if squashed:
        app.commit({ENV: NEW_ENV}, message=f"Point the web app at {TAG} (#1)")
        app.pulls[0].state, app.pulls[0].merged_at = "closed", app.clock.now()
    else:
        app.merge(app.pulls[0])
    state, count = app.snapshot(), len(site.writes())
    assert commit(site, wanted()).outcome == "unchanged"
    del state["branches"][TOPIC]
    assert app.snapshot() == state
    assert writes(site)[count:] == [f"DELETE /git/refs/heads/{TOPIC}"]
    assert commit(site, wanted()).outcome == "unchanged"
    assert len(site.writes()) == count + 1


@pytest.mark.network
def test_values_that_were_merged_and_changed_again_get_a_new_pull_request(site: StandInGitHub, app: Repository) -> None:
    app.protected["main"] = RULESET
    commit(site, wanted())
    app.merge(app.pulls[0])
    app.commit({ENV: OLD_ENV}, message="Back")
    result = commit(site, wanted())
    assert (result.outcome, result.notes) == ("pull request", ())
    assert [pull.state for pull in app.pulls] == ["closed", "open"]
    assert app.files(TOPIC)[ENV].decode() == NEW_ENV
    app.merge(app.pulls[1])
    assert app.files()[ENV].decode() == NEW_ENV


@pytest.mark.network
@pytest.mark.parametrize("protected", ["", RULESET])
@pytest.mark.parametrize("by_git", [False, True])
def test_two_publishers_at_the_same_time_end_as_one(
    site: StandInGitHub, app: Repository, files: dict[str, Path], by_git: bool, protected: str
) -> None:
    app.protected |= {"main": protected} if protected else {}
    request = wanted(files=files if by_git else {})
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: commit(site, request), range(3)))
    assert {result.outcome for result in results} <= {"pull request" if protected else "committed", "unchanged"}
    assert messages(app, TOPIC if protected else "main") == [request.message, "Initial commit"]
    assert [branch for branch, _ in app.branches()] == (["main", TOPIC] if protected else ["main"])
    assert len(app.pulls) == len({result.url for result in results if protected})


@pytest.mark.network
def test_an_open_pull_request_stays_when_its_values_came_another_way(site: StandInGitHub, app: Repository) -> None:
    app.protected["main"] = RULESET
    commit(site, wanted())
    app.commit({ENV: NEW_ENV}, message="By hand")
    state, count = site.snapshot(), len(site.writes())
    assert commit(site, wanted()).outcome == "unchanged"
    assert (site.snapshot(), len(site.writes())) == (state, count)


@pytest.mark.network
@pytest.mark.parametrize("permissions", [{"contents", "pull_requests"}, {"contents"}])
def test_where_no_pull_request_may_be_opened_the_branch_is_pushed_and_its_link_given(
    site: StandInGitHub, app: Repository, permissions: set[str]
) -> None:
    app.protected["main"], app.actions_may_open_pulls = CLASSIC, False
    site.tokens["some-token"] = Token(write=frozenset(permissions))
    first = commit(site, wanted(), holder="some")
    assert (first.outcome, first.commit) == ("branch pushed", app.branch_head(TOPIC))
    assert first.url.endswith(f"/{NAME}/compare/main...{TOPIC}?expand=1")
    assert "may not open pull requests" in first.notes[0]
    state = site.snapshot()
    assert commit(site, wanted(), holder="some") == first
    assert site.snapshot() == state
    app.actions_may_open_pulls = True
    assert commit(site, wanted()).outcome == "pull request"
    assert messages(app, TOPIC) == [wanted().message, "Initial commit"]


@pytest.mark.network
def test_where_no_branch_may_be_written_the_rule_is_named(site: StandInGitHub, app: Repository) -> None:
    app.protected |= {"main": RULESET, TOPIC: RULESET}
    app.create_branch(TOPIC)
    with pytest.raises(HostError, match=f"commits on main or on {TOPIC}.*rule violations.*Exempt the token"):
        commit(site, wanted())
    assert app.pulls == []


@pytest.mark.network
def test_a_branch_left_by_a_broken_run_goes_once_the_commit_is_made_directly(
    site: StandInGitHub, app: Repository
) -> None:
    app.protected["main"] = RULESET
    site.faults = [Fault("400", method="POST", path="*/pulls")]
    with pytest.raises(HostError):
        commit(site, wanted())
    assert app.branch_head(TOPIC)
    app.protected.clear()
    assert commit(site, wanted()).outcome == "committed"
    assert app.branch_head(TOPIC) is None
    assert messages(app) == [wanted().message, "Initial commit"]


@pytest.mark.network
def test_a_branch_with_somebody_elses_commits_stays(site: StandInGitHub, app: Repository) -> None:
    app.protected["main"] = RULESET
    commit(site, wanted())
    app.pulls[0].state = "closed"
    app.commit({"their.txt": "work"}, branch=TOPIC, message="Theirs")
    app.commit({ENV: NEW_ENV}, message="By hand")
    said: list[str] = []
    assert commit(site, wanted(), said=said).outcome == "unchanged"
    assert messages(app, TOPIC)[0] == "Theirs"
    assert any("left alone" in line for line in said)


# The app's deploy


@pytest.mark.network
@pytest.mark.parametrize("by_git", [False, True])
def test_a_change_on_the_default_branch_starts_the_deploy(
    site: StandInGitHub, app: Repository, files: dict[str, Path], by_git: bool
) -> None:
    result = commit(site, wanted(files=files if by_git else {}, deploy_workflow=DEPLOY))
    assert result.dispatched
    assert [(each.workflow, each.ref) for each in app.dispatches] == [(DEPLOY, "main")]


@pytest.mark.network
def test_each_release_has_its_own_deploy(site: StandInGitHub, app: Repository) -> None:
    commit(site, wanted(deploy_workflow=DEPLOY))
    app.commit({"x": "y"}, message="Theirs")
    second = wanted(deploy_workflow=DEPLOY, tag="model-v1.0.1", values=VALUES | {"VITE_MODEL_VERSION": "1.0.1"})
    assert commit(site, second).dispatched
    assert not commit(site, second).dispatched
    assert len(app.dispatches) == 2


@pytest.mark.network
def test_values_that_came_with_somebody_elses_commit_start_no_deploy(site: StandInGitHub, app: Repository) -> None:
    app.commit({ENV: NEW_ENV}, message="By hand")
    result = commit(site, wanted(deploy_workflow=DEPLOY))
    assert (result.outcome, result.dispatched, app.dispatches) == ("unchanged", False, [])


@pytest.mark.network
@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        ("none.yml", r"got 404 .*committed\. Put it into \.github/workflows"),
        ("test.yml", r"got 422 .*'workflow_dispatch' trigger\. The env file is committed\. Give it the trigger"),
    ],
)
def test_a_deploy_that_cannot_be_started_is_explained_and_made_up_for(
    site: StandInGitHub, app: Repository, workflow: str, words: str
) -> None:
    with pytest.raises(HostError, match=words):
        commit(site, wanted(deploy_workflow=workflow))
    assert app.files()[ENV].decode() == NEW_ENV
    app.commit({f".github/workflows/{workflow}": START[f".github/workflows/{DEPLOY}"]}, message="Repaired")
    result = commit(site, wanted(deploy_workflow=workflow))
    assert (result.outcome, result.dispatched, len(app.dispatches)) == ("unchanged", True, 1)
    assert not commit(site, wanted(deploy_workflow=workflow)).dispatched


@pytest.mark.network
@pytest.mark.usefixtures("app")
def test_a_token_that_may_not_start_workflows_is_told_its_permission(site: StandInGitHub) -> None:
    site.tokens["some-token"] = Token(write=frozenset({"contents"}))
    with pytest.raises(HostError, match=r"got 403 .*Grant actions: write"):
        commit(site, wanted(deploy_workflow=DEPLOY), holder="some")


@pytest.mark.network
def test_where_runs_cannot_be_read_only_a_new_commit_is_deployed(site: StandInGitHub, app: Repository) -> None:
    site.faults = [Fault("404", path="*/runs", times=99)]
    assert commit(site, wanted(deploy_workflow=DEPLOY)).dispatched
    assert not commit(site, wanted(deploy_workflow=DEPLOY)).dispatched
    assert len(app.dispatches) == 1


# Refusals


@pytest.mark.parametrize(
    "change",
    [
        {"repository": "app"},
        {"repository": "a/b/c"},
        {"repository": "../app"},
        {"repository": "someone/.."},
        {"repository": "some one/app"},
        {"repository": "someone/app\n"},
        {"repository": "someone/app?x=1"},
        {"branch": "$(touch x)"},
        {"branch": "-x"},
        {"branch": "a..b"},
        {"branch": "a/.b"},
        {"branch": "a.lock"},
        {"branch": "a\nb"},
        {"branch": ""},
        {"env_path": "../.env"},
        {"env_path": "/etc/passwd"},
        {"env_path": "a//b"},
        {"env_path": "a/./b"},
        {"env_path": "a\\b"},
        {"env_path": ".git/config"},
        {"env_path": "a/.GIT/config"},
        {"env_path": "a\x1bb"},
        {"env_path": "a\n::set-env name=x::y"},
        {"env_path": ""},
        {"env_path": "a" * 500},
        {"files": {"../model.onnx": Path("x")}},
        {"files": {ENV: Path("x")}},
        {"tag": "model-v1$(touch x)"},
        {"tag": "../../x"},
        {"deploy_workflow": "../deploy.yml"},
        {"deploy_workflow": "deploy"},
        {"deploy_workflow": "a/b.yml"},
        {"deploy_workflow": "deploy.yml\n"},
    ],
    ids=str,
)
def test_hostile_options_are_refused_before_any_request(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as failure:
        wanted(**change)
    assert failure.value.exit_code == 2
    assert str(failure.value).isascii()


@pytest.mark.network
@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("change", "holder", "words"),
    [
        ({"repository": "someone/none"}, "write", "repository that GITHUB_TOKEN may use"),
        ({"branch": "none"}, "write", "must have the branch none"),
        ({}, "read", r"write the contents of someone/app, got 403 .*contents: write"),
        ({}, "no-such", "GITHUB_TOKEN must be a token that GitHub accepts"),
    ],
)
def test_what_cannot_be_is_one_sentence_without_the_token(
    site: StandInGitHub,
    change: dict[str, Any],
    holder: str,
    words: str,
) -> None:
    said: list[str] = []
    with pytest.raises(HostError, match=words) as failure:
        commit(site, wanted(**change), holder=holder, said=said)
    assert f"{holder}-token" not in f"{failure.value!r} {failure.value.__cause__!r} {said}"
    assert site.writes() == []


@pytest.mark.network
@pytest.mark.usefixtures("app")
def test_an_empty_repository_has_no_branch(site: StandInGitHub) -> None:
    site.faults = [Fault("409", path="*/git/ref/*", message="Git Repository is empty.")]
    with pytest.raises(HostError, match="must have the branch main"):
        commit(site, wanted())


def test_refusals_are_told_apart_by_their_words() -> None:
    rules = "Repository rule violations found\n\nChanges must be made through a pull request.\n\n"
    assert read_refusal(409, rules) == read_refusal(422, "Changes must be made through a pull request.") == "protected"
    assert read_refusal(403, "You're not authorized to push to this branch. Visit https://docs") == "protected"
    assert read_refusal(422, "2 of 2 required status checks are expected.") == "protected"
    assert read_refusal(422, "At least 1 approving review is required by reviewers with write access.") == "protected"
    assert read_refusal(409, "is at 0929670 but expected c45b544") == read_refusal(422, "Validation Failed") == "moved"
    assert read_refusal(403, "Resource not accessible by integration") == read_refusal(404, "Not Found") == "forbidden"
    assert read_refusal(403, "You have exceeded a secondary rate limit.") == read_refusal(500, "") == "other"


def test_a_blob_is_named_as_git_names_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert describe_blob(tmp_path / "a").sha == "ce013625030ba8dba906f756967f9e9ca394464a"
    (tmp_path / "b").write_bytes(b"x" * 3_000_000)
    assert describe_blob(tmp_path / "b").sha == hashlib.sha1(b"blob 3000000\0" + b"x" * 3_000_000).hexdigest()  # noqa: S324
    with pytest.raises(HostError, match="must be readable"):
        describe_blob(tmp_path / "none")


def test_paths_and_bytes_of_an_env_file() -> None:
    assert is_plain_path("apps/web/.env.production")
    assert is_plain_path(".gitignore")
    assert edited(b"A=1\r\n\xff", {}, ".env") == b"A=1\r\n\xff"


# A release, then the app


def released(dist: Path, asset_url: str) -> Released:
    document = manifest.parse((dist / manifest.MANIFEST_NAME).read_bytes())
    return Released(document=document, dist=dist, asset_url=asset_url)


def point(site: StandInGitHub, dist: Path, place: AppPlace, asset_url: str = "") -> AppResult:
    """Points the app at what the release `TAG` of `REPOSITORY` shows to people."""
    access = access_to(site)
    source = GitHubRelease(access, TAG, Web())
    api = connect(access, seconds_between_writes=0)
    app = RepositoryApp(api=api, place=place, source=source, retry_policy=RETRY_POLICY)
    asset_url = asset_url or f"{site.url}/{REPOSITORY}/releases/download/{TAG}/model.onnx"
    return app.point(released(dist, asset_url))


WEB_APP = AppPlace(repository="else/web", env_path=ENV, static_path="apps/web/static")


@pytest.fixture
def web(site: StandInGitHub) -> Repository:
    """A web app in another repository than the releases, which are in `someone/app`."""
    site.add_repository(REPOSITORY)
    return site.add_repository("else/web", START)


@pytest.mark.network
@pytest.mark.parametrize("private", [False, True])
def test_the_app_is_pointed_at_a_release_that_answers(
    site: StandInGitHub, web: Repository, tmp_path: Path, private: bool
) -> None:
    site.repositories[REPOSITORY].private = private
    dist = make_dist(tmp_path / "dist")
    published = publish_to(site, dist)
    count = len(site.requests)
    result = point(site, dist, WEB_APP, published.model_url)
    sha256 = hashlib.sha256(DIST_FILES["model.onnx"]).hexdigest()
    assert result.model_url == f"{published.model_url}?v=1.0.0-{sha256[:8]}"
    assert result.outcome == "committed"
    assert result.lines[-1] == f"VITE_MODEL_URL={result.model_url}"
    assert f"{result.lines[-1]}\nVITE_MODEL_VERSION=1.0.0\n" in web.files()[ENV].decode()
    paths = [each.path for each in site.requests[count:]]
    asked = [i for i, path in enumerate(paths) if "/releases/" in path or "/release-assets/" in path]
    assert max(asked) < min(i for i, path in enumerate(paths) if path.startswith("/repos/else/web"))
    assert site.leaks == []


@pytest.mark.network
def test_the_app_is_left_alone_while_the_release_is_a_draft_or_has_another_file(
    site: StandInGitHub, web: Repository, tmp_path: Path
) -> None:
    dist = make_dist(tmp_path / "dist")
    release = site.repositories[REPOSITORY].add_release(TAG, DIST_FILES, draft=True)
    with pytest.raises(HostError, match=f"model.onnx of {TAG} of {REPOSITORY}|{TAG} of {REPOSITORY} in GitHub's API"):
        point(site, dist, WEB_APP)
    release.draft = False
    release.assets[0].file.write_bytes(b"short")
    with pytest.raises(HostError, match="must have 2000 bytes, got 5"):
        point(site, dist, WEB_APP)
    assert site.writes() == []
    assert web.files()[ENV].decode() == OLD_ENV


@pytest.mark.network
def test_delivery_by_git_brings_model_tokenizer_config_and_manifest(
    site: StandInGitHub, web: Repository, tmp_path: Path
) -> None:
    files = {**DIST_FILES, "tokenizer.json": b"{}", "vocab.json": b"{}", "extra.onnx.txt": b"not for the app"}
    dist = make_dist(tmp_path / "dist", files=files, change=lambda document: document["delivery"].update(mode="git"))
    publish_to(site, dist)
    result = point(site, dist, WEB_APP)
    assert result.model_url.startswith("models/gpt2/model.onnx?v=1.0.0-")
    names = {path.removeprefix(f"{FOLDER}/") for path in web.files() if path.startswith(FOLDER)}
    assert names == {"model.onnx", "config.json", "tokenizer.json", "vocab.json", "manifest.json"}
    assert result.commit == web.branch_head("main")
    assert len(messages(web)) == 2


def test_an_address_that_no_browser_can_ask_for_is_refused(tmp_path: Path) -> None:
    dist = make_dist(tmp_path / "dist")
    api = connect(GitHubAccess(token="t"))  # noqa: S106 - no secret
    with pytest.raises(UsageError, match="--base-url"):
        RepositoryApp(api=api, place=WEB_APP, source=None).point(released(dist, "file:///releases/model.onnx"))
    with pytest.raises(UsageError, match="--static-dir"):
        replace(WEB_APP, static_path="../static")


@pytest.fixture
def run_publish(site: StandInGitHub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `publish` in the environment of a workflow of `REPOSITORY`, without waiting between writes."""
    for name, value in {
        "GITHUB_TOKEN": "write-token",
        "GITHUB_API_URL": site.url,
        "GITHUB_SERVER_URL": site.url,
        "GITHUB_REPOSITORY": REPOSITORY,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(github_client, "connect", functools.partial(connect, seconds_between_writes=0))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli.publish, [*map(str, arguments)], standalone_mode=False)

    return run


@pytest.mark.network
@pytest.mark.usefixtures("web")
def test_publish_points_the_app_of_another_repository_and_a_second_run_writes_nothing(
    site: StandInGitHub, tmp_path: Path, run_publish: Callable[..., Result]
) -> None:
    arguments = ["--dist", make_dist(tmp_path / "dist"), "--tag", TAG, "--env-repo", "else/web"]
    arguments += ["--deploy-workflow", DEPLOY]
    dry = run_publish(*arguments, "--dry-run")
    assert (dry.exception, site.writes()) == (None, [])
    assert f"then else/web, {ENV}: VITE_MODEL_URL" in dry.output
    done = run_publish(*arguments)
    assert done.exception is None
    assert f"else/web, {ENV}: committed" in done.output
    assert f"{DEPLOY}: started" in done.output
    assert f"VITE_MODEL_URL={site.url}/{REPOSITORY}/releases/download/{TAG}/model.onnx?v=1.0.0-" in done.output
    state, count = site.snapshot(), len(site.writes())
    again = run_publish(*arguments)
    assert f"else/web, {ENV}: unchanged" in again.output
    assert (again.exception, site.snapshot(), len(site.writes())) == (None, state, count)
    assert "write-token" not in dry.output + done.output + again.output


@pytest.mark.network
def test_publish_refuses_a_model_that_the_apps_git_lfs_would_spoil_before_anything_is_public(
    site: StandInGitHub, web: Repository, tmp_path: Path, run_publish: Callable[..., Result]
) -> None:
    web.commit({".gitattributes": "*.onnx filter=lfs diff=lfs merge=lfs -text\n"})
    dist = make_dist(tmp_path / "dist", change=lambda document: document["delivery"].update(mode="git"))
    done = run_publish("--dist", dist, "--tag", TAG, "--env-repo", "else/web")
    assert type(done.exception) is HostError
    assert "Use --delivery release, or add the line 'apps/web/static/models/gpt2/** -filter" in str(done.exception)
    assert site.writes() == []


@pytest.mark.network
def test_an_enterprise_server_is_found_by_its_api_alone_and_a_token_may_end_in_a_line_break(
    site: StandInGitHub,
    web: Repository,
    tmp_path: Path,
    run_publish: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GITHUB_SERVER_URL")
    monkeypatch.setenv("GITHUB_TOKEN", "write-token\n")
    site.repositories[REPOSITORY].private = web.private = True
    done = run_publish("--dist", make_dist(tmp_path / "dist"), "--tag", TAG, "--env-repo", "else/web")
    assert done.exception is None
    (tmp_path / ".env").write_bytes(web.files()[ENV])
    fetched = CliRunner().invoke(cli.fetch, ["--env-file", str(tmp_path / ".env")], standalone_mode=False)
    assert fetched.exception is None
    assert (tmp_path / "static/models/gpt2/model.onnx").read_bytes() == DIST_FILES["model.onnx"]
    assert site.leaks == []


@pytest.mark.network
def test_publish_without_a_word_about_the_app_leaves_it_alone(
    site: StandInGitHub, web: Repository, tmp_path: Path, run_publish: Callable[..., Result]
) -> None:
    before_it = web.snapshot()
    done = run_publish("--dist", make_dist(tmp_path / "dist"), "--tag", TAG)
    assert (done.exception, web.snapshot()) == (None, before_it)
    assert not [each for each in site.requests if "/else/web" in each.path]


@pytest.mark.network
@pytest.mark.usefixtures("web")
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--env-file", "apps/none/.env"], EnvFileError),
        (["--env-repo", "else/none"], HostError),
        (["--env-repo", "else/web", "--env-branch", "none"], HostError),
        (["--env-repo", "../web"], UsageError),
        (["--env-file", "../.env"], UsageError),
        (["--env-branch", "$(touch x)"], UsageError),
        (["--deploy-workflow", "../x.yml"], UsageError),
        (["--static-dir", "/srv"], UsageError),
    ],
    ids=str,
)
def test_what_cannot_be_in_the_app_is_refused_before_anything_is_published(
    site: StandInGitHub,
    tmp_path: Path,
    run_publish: Callable[..., Result],
    arguments: list[str],
    error: type[ReleaseError],
) -> None:
    done = run_publish("--dist", make_dist(tmp_path / "dist"), "--tag", TAG, *arguments)
    assert type(done.exception) is error
    assert site.writes() == []


@pytest.mark.network
@pytest.mark.usefixtures("web", "run_publish")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--env-repo", "else/web", "--no-env"], UsageError, "--no-env leaves the web app alone"),
        (["--repo", REPOSITORY], UsageError, "--repo is for --host github"),
        (["--env-repo", "../web"], UsageError, "--env-repo must be like"),
        (["--host", "github", "--env-repo", "else/web", "--env-file", "no/.env"], EnvFileError, "no/.env must exist"),
    ],
)
def test_release_refuses_before_its_work_what_cannot_be_in_the_app(
    site: StandInGitHub, arguments: list[str], error: type[ReleaseError], words: str
) -> None:
    done = CliRunner().invoke(cli.release, ["--tag", TAG, "--demo", *arguments], standalone_mode=False)
    assert type(done.exception) is error
    assert words in str(done.exception)
    assert site.writes() == []


@pytest.mark.network
@pytest.mark.usefixtures("web", "run_publish")
def test_a_dry_run_of_a_release_names_the_apps_env_file_and_refuses_one_that_is_not_there(site: StandInGitHub) -> None:
    arguments = ["--tag", TAG, "--demo", "--host", "github", "--env-repo", "else/web", "--dry-run"]
    done = CliRunner().invoke(cli.release, arguments, standalone_mode=False)
    assert done.exception is None
    assert f"else/web, {ENV}" in done.output
    missing = CliRunner().invoke(cli.release, [*arguments, "--env-file", "no/.env"], standalone_mode=False)
    assert type(missing.exception) is EnvFileError
    assert site.writes() == []


# Nothing is lost

UNHEARD = "reset after the server acted"


class Killed(BaseException):
    """What no program can catch: the process ends here."""


class World:
    """One site with a repository for each scenario, so that a thousand of them cost no start."""

    def __init__(self, site: StandInGitHub, files: Mapping[str, Path]) -> None:
        self.site, self.files, self.numbers = site, files, itertools.count()
        self.sends = 0
        self.die_at = 0

    def scenario(self, *, by_git: bool, protected: str) -> tuple[Repository, AppCommit]:
        """A fresh repository and what is to come there."""
        name = f"someone/app-{next(self.numbers)}"
        repository = self.site.add_repository(name, START)
        repository.protected |= {"main": protected} if protected else {}
        self.site.requests.clear()
        self.sends = self.die_at = 0
        files = self.files if by_git else {}
        return repository, wanted(repository=name, files=files, deploy_workflow=DEPLOY)

    def run(self, request: AppCommit) -> CommitResult:
        """One run."""
        return commit(self.site, request)

    def survives(self, request: AppCommit, number: int, name: str) -> bool:
        """Runs while the request of this number meets a fault, or the process dies before it."""
        killed = name == "process killed"
        self.die_at = number if killed else 0
        self.site.faults = [] if killed else [fault(name, number=number, seconds=0.01)]
        try:
            self.run(request)
        except (ReleaseError, Killed):
            survived = False
        else:
            survived = True
        assert self.sends == number if killed else self.site.requests[number - 1].fault, (number, name)
        self.site.faults, self.die_at = [], 0
        return survived


@pytest.fixture
def world(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with StandInGitHub(rate_limit=10**7, validate=False) as site:
        made = World(site, dict(list(files.items())[:1]))
        plain = requests.Session.send

        def send(session: requests.Session, *given: Any, **options: Any) -> requests.Response:
            made.sends += 1
            if made.sends == made.die_at:
                raise Killed
            return plain(session, *given, **options)

        monkeypatch.setattr(requests.Session, "send", send)
        monkeypatch.setattr(requests.sessions, "get_environ_proxies", lambda *_, **__: {})  # Slow, and always empty.
        yield made
    assert site.violations == []


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(("by_git", "protected"), [(False, ""), (False, RULESET), (True, "")])
def test_whatever_breaks_wherever_a_run_that_ends_well_ends_as_a_clean_one(
    world: World, by_git: bool, protected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every request meets its share of faults, and the process dies before every one; then it runs again if it failed.

    Where the branch is protected, which begins alike, faults begin with the request that is refused.
    """
    repository, request = world.scenario(by_git=by_git, protected=protected)
    world.run(request)
    clean, methods = repository.snapshot(), [each.method for each in world.site.requests]
    refused = next(i for i, each in enumerate(world.site.requests, 1) if each.status == 409) if protected else 0
    assert (TOPIC in clean["branches"], len(clean["pulls"])) == (bool(protected), int(bool(protected)))
    assert len(clean["dispatches"]) == int(not protected)
    injected, again, lost = 0, 0, []
    for number, method in enumerate(methods, 1):
        for name in ["process killed", *(kinds_at(number, EVERY_FAULT, always=UNHEARD) if number >= refused else ())]:
            repository, request = world.scenario(by_git=by_git, protected=protected)
            if not world.survives(request, number, name):
                again += 1
                world.run(request)
            injected += 1
            if repository.snapshot() != clean:
                lost.append((number, method, name))
            world.site.repositories.clear()
    with capsys.disabled():
        flow = f"{'model and env file' if by_git else 'env file'}{', protected' if protected else ''}"
        print(f"\n{flow}: {len(methods)} requests, faults injected {injected}, lost {len(lost)}, run again {again}")
    assert lost == []


@pytest.mark.network
def test_a_killed_run_before_the_deploy_is_made_up_for_by_the_next(world: World) -> None:
    repository, request = world.scenario(by_git=False, protected="")
    world.run(request)
    repository, request = world.scenario(by_git=False, protected="")
    world.die_at = 7
    with pytest.raises(Killed):
        world.run(request)
    assert (messages(repository)[0], repository.dispatches) == (request.message, [])
    world.die_at = 0
    result = world.run(request)
    assert (result.outcome, result.dispatched, len(repository.dispatches)) == ("unchanged", True, 1)
