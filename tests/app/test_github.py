"""The web app's repository: one commit, only our keys, and no loss whatever breaks."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from app_repository import (
    DEPLOY,
    ENV,
    FILES,
    FOLDER,
    NEW_ENV,
    OLD_ENV,
    START,
    TAG,
    TOPIC,
    VALUES,
    before,
    commit,
    messages,
    wanted,
    writes,
)
from fault_share import kinds_at
from model_release.app.commit import AppCommit, CommitResult, describe_blob, is_plain_path
from model_release.app.envfile import edited
from model_release.base.errors import EnvFileError, HostError, ReleaseError, UsageError
from model_release.base.github_limits import MAX_BLOB_BYTES
from model_release.base.github_words import read_refusal
from standins.github import EVERY_FAULT, RULESET, Fault, Repository, StandInGitHub, fault

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


@pytest.mark.long_cases("True-", "False-ruleset")
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
