"""Looking at a repository before its first release: what will go wrong is said before anything is built."""

from collections.abc import Iterator
from typing import Any

import pytest

import cli
from commands import Outcome, assert_refused, call
from dists import REPOSITORY, TOKEN
from model_release.contract.pinned_models import load_registry
from model_release.release import workflow
from standins.github import RULESET, Fault, Repository, StandInGitHub, Token

pytestmark = pytest.mark.network
TAG = "model-v1.0.0"
ENV = "apps/web/.env.production"
FILES = {ENV: "VITE_MODEL_URL=\n", "apps/web/static/robots.txt": ""}
KEY = f"weights-openai-community--gpt2-{load_registry()['gpt2']['revision']}"
ADMIN = Token(
    name="admin", write=frozenset({"contents", "pull_requests", "actions", "administration"}), login="octocat"
)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGitHub]:
    tokens = {TOKEN: Token(), "read-token": Token(name="reader", write=frozenset()), "admin-token": ADMIN}
    with StandInGitHub(tokens=tokens) as running:
        monkeypatch.setenv("GITHUB_API_URL", running.url)
        monkeypatch.setenv("GITHUB_TOKEN", "admin-token")
        monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
        yield running
        assert (running.violations, running.leaks, running.writes()) == ([], [], [])


@pytest.fixture
def repository(site: StandInGitHub) -> Repository:
    """One with which all is well."""
    return site.add_repository(
        REPOSITORY,
        FILES,
        environments={"release": ["octocat"]},
        variables={"MODEL_RELEASE_MODELS": "gpt2", "NODE_ENV": "production"},
        caches={KEY: "refs/heads/main"},
    )


def doctor(*options: object) -> Outcome:
    return call(cli.doctor, "--tag", TAG, *options)


def lines(outcome: Outcome) -> dict[tuple[str, str], str]:
    """What was found: level and subject -> text."""
    found = {}
    for line in outcome.out.splitlines():
        level, _, rest = line.partition(" ")
        about, _, text = rest.strip().partition(": ")
        found[level, about] = text
    return found


def not_good(outcome: Outcome) -> dict[tuple[str, str], str]:
    return {key: text for key, text in lines(outcome).items() if key[0] != "good"}


def test_a_repository_that_is_ready_has_one_good_line_a_thing(repository: Repository) -> None:
    outcome = doctor("--delivery", "git")
    assert outcome.code == 0, outcome.err
    assert {level for level, _ in lines(outcome)} == {"good"}
    assert [about for _, about in lines(outcome)] == [
        "model",
        "token",
        "tag",
        "environment",
        "weights",
        "variables",
        "env file",
        "branch",
        "static folder",
    ]
    assert repository.releases == {}


def test_without_a_tag_the_repository_alone_is_looked_at(repository: Repository) -> None:
    assert repository.releases == {}
    outcome = call(cli.doctor)
    assert (outcome.code, ("good", "tag") in lines(outcome)) == (0, False)


def test_a_workflows_own_token_sees_less_and_that_is_no_reason_to_warn(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_TOKEN", "read-token")
    monkeypatch.setenv("GITHUB_SHA", repository.resolve("main") or "")
    outcome = doctor()
    assert (outcome.code, not_good(outcome)) == (0, {})
    assert "the jobs that write have their own" in lines(outcome)["good", "token"]


def test_a_persons_token_that_may_only_read_is_told(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repository.releases == {}
    monkeypatch.setenv("GITHUB_TOKEN", "read-token")
    assert "give it contents: write" in not_good(doctor())["warning", "token"]


@pytest.mark.parametrize(
    ("switches", "about", "text"),
    [
        ({"environments": {}}, "environment", "Settings, Environments, New environment, release"),
        ({"environments": {"release": []}}, "environment", "nobody is asked"),
        ({"caches": {}}, "weights", "gpt2 is not in the cache"),
        ({"caches": {KEY: "refs/heads/other"}}, "weights", "Actions, Warm the weights, Run workflow."),
        ({"variables": {"MODEL_RELEASE_MODEL": "x"}}, "variables", "Did you mean MODEL_RELEASE_MODELS?"),
        (
            {"protected": {"main": RULESET}, "actions_may_open_pulls": False},
            "branch",
            "may not open pull requests. Set",
        ),
    ],
)
def test_what_may_surprise_is_a_warning_with_its_next_step(
    repository: Repository, switches: dict[str, Any], about: str, text: str
) -> None:
    for name, value in switches.items():
        setattr(repository, name, value)
    outcome = doctor()
    assert outcome.code == 0
    assert [*not_good(outcome)] == [("warning", about)]
    assert text in not_good(outcome)["warning", about]


def test_a_protected_branch_is_well_where_actions_may_open_pull_requests(repository: Repository) -> None:
    repository.protected = {"main": RULESET}
    assert "comes as a pull request" in lines(doctor())["good", "branch"]


def test_a_protected_branch_is_a_warning_for_a_token_that_cannot_see_the_setting(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    repository.protected = {"main": RULESET}
    assert "this token cannot see whether Actions may" in not_good(doctor())["warning", "branch"]


@pytest.mark.parametrize(
    ("change", "options", "code", "about", "text"),
    [
        ({ENV: None}, [], 9, "env file", f"{ENV} must exist in {REPOSITORY}"),
        ({ENV: "VITE_MODEL_URL=a\nVITE_MODEL_URL=b\n"}, [], 9, "env file", "VITE_MODEL_URL"),
        ({}, ["--env-branch", "next"], 8, "env file", "must have the branch next"),
        ({".gitattributes": "*.onnx filter=lfs\n"}, ["--delivery", "git"], 8, ".gitattributes", "Git LFS"),
        (
            {"apps/web/.gitattributes": "static/** filter=lfs\n"},
            ["--delivery", "git"],
            8,
            ".gitattributes",
            "apps/web/static/models/gpt2/model.onnx must come out of git as it goes in",
        ),
        (
            {"apps/web/static/robots.txt": None, "apps/web/public/robots.txt": ""},
            ["--delivery", "git"],
            2,
            "static folder",
            "Give --static-dir apps/web/public.",
        ),
        ({}, ["--layers", "12"], 2, "layers", "gpt2: layers must be from 0 to 11"),
        ({}, ["--model", "gtp2"], 2, "model", "Did you mean gpt2?"),
    ],
)
def test_what_would_fail_later_is_refused_now(
    repository: Repository, change: dict[str, str | None], options: list[str], code: int, about: str, text: str
) -> None:
    repository.commit(change)
    outcome = doctor(*options)
    assert (outcome.code, text in not_good(outcome)["refused", about]) == (code, True), outcome.out
    assert text in outcome.error


def test_what_automatic_delivery_may_never_meet_is_a_warning(repository: Repository) -> None:
    repository.commit({".gitattributes": "*.onnx filter=lfs\n", "apps/web/static/robots.txt": None})
    repository.commit({"apps/web/public/robots.txt": ""})
    outcome = doctor()
    assert outcome.code == 0
    assert [*not_good(outcome)] == [("warning", ".gitattributes"), ("warning", "static folder")]
    assert not_good(doctor("--delivery", "release")) == {}
    assert not_good(doctor("--mirror", "s3://models/gpt2")) == {}


def test_an_env_file_that_is_to_be_made_needs_none(repository: Repository) -> None:
    repository.commit({ENV: None})
    assert doctor("--create-env-file").code == 0
    assert doctor("--no-env").code == 0


def test_an_env_file_that_git_does_not_see_is_told(repository: Repository) -> None:
    repository.commit({"apps/.gitignore": ".env*\n!.env.example\n"})
    assert not_good(doctor()) == {}, "git knows it already"
    repository.commit({ENV: None})
    assert (
        f"apps/.gitignore line 1 (.env*) hides {ENV}" in not_good(doctor("--create-env-file"))["warning", ".gitignore"]
    )


def test_all_refusals_are_shown_and_the_first_decides(repository: Repository) -> None:
    repository.commit({ENV: None})
    outcome = doctor("--layers", "99")
    assert outcome.code == 2
    assert "2 findings must be mended in all" in outcome.error
    assert {("refused", "layers"), ("refused", "env file")} <= not_good(outcome).keys()


# -- the tag


def test_a_tag_is_told_with_its_commit(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    old = repository.resolve("main") or ""
    repository.create_tag(TAG)
    assert f"{TAG} is at {old[:10]}" in lines(doctor())["good", "tag"]
    new = repository.commit({"README.md": "later"})
    monkeypatch.setenv("GITHUB_SHA", new)
    assert f"at {old[:10]}, the run at {new[:10]}" in not_good(doctor())["warning", "tag"]


def test_a_run_that_its_branch_has_left_behind_is_told_to_push_the_tag(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_SHA", repository.resolve("main") or "")
    repository.commit({"README.md": "later"})
    assert "Push the tag before the run." in not_good(doctor())["warning", "tag"]


def test_an_immutable_release_cannot_be_replaced(repository: Repository) -> None:
    repository.immutable_releases = True
    repository.add_release(TAG, immutable=True)
    assert "public already" in lines(doctor())["good", "tag"]
    outcome = doctor("--replace")
    assert_refused(outcome, 8, silent=False)
    assert "--replace cannot change it" in outcome.error


def test_an_environment_that_keeps_tags_out_is_refused(repository: Repository) -> None:
    repository.tags_may_not_deploy = True
    outcome = doctor()
    assert (outcome.code, "add the tag model-v*" in outcome.error) == (8, True)


@pytest.mark.parametrize(
    ("patterns", "got"),
    [
        ([("branch", "main"), ("branch", "model-v*")], "got branch 'main', branch 'model-v*'"),
        ([("tag", "v*")], "got tag 'v*'"),
        ([], "got nothing that may"),
    ],
)
def test_an_environment_whose_patterns_keep_the_tag_out_is_refused(
    repository: Repository, patterns: list[tuple[str, str]], got: str
) -> None:
    repository.may_deploy = patterns
    outcome = doctor()
    assert (outcome.code, "add the tag model-v*" in outcome.error) == (8, True)
    assert got in outcome.error


@pytest.mark.parametrize("pattern", ["model-v*", "*", TAG, "model-v[0-9]*"])
def test_an_environment_whose_pattern_lets_the_tag_in_is_good(repository: Repository, pattern: str) -> None:
    repository.may_deploy = [("branch", "main"), ("tag", pattern)]
    assert not_good(doctor()) == {}


def test_a_run_that_was_started_on_a_branch_deploys_from_it(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_REF_TYPE", "branch")
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    repository.may_deploy = [("branch", "main")]
    assert not_good(doctor()) == {}
    repository.may_deploy = [("tag", "model-v*")]
    outcome = doctor()
    assert (outcome.code, "add the branch main, or push the tag instead" in outcome.error) == (8, True)


# -- where nothing can be asked


def test_a_repository_out_of_reach_ends_it_at_once(site: StandInGitHub) -> None:
    outcome = doctor()
    assert outcome.code == 8
    assert [*not_good(outcome)] == [("refused", "token")]
    assert len(site.requests) == 1


def test_a_passing_failure_is_waited_out(
    site: StandInGitHub, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    site.faults = [Fault("502", path="*/environments/*")]
    assert not_good(doctor()) == {}
    assert repository.releases == {}


def test_hostile_names_are_refused_before_anything_is_asked(site: StandInGitHub) -> None:
    for options in (["--model", "$(id)"], ["--env-file", "../x"], ["--mirror", "ftp://x"], ["--repo", "o/../r"]):
        assert_refused(doctor(*options), 2)
    assert site.requests == []


def test_an_unpinned_model_is_a_warning_by_hand_and_refused_where_a_tag_asks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repository.releases == {}
    entries = {"gpt2": load_registry()["gpt2"], "young": {"repository": "someone/young", "gated": True}}
    monkeypatch.setattr(workflow, "load_registry", lambda: entries)
    outcome = doctor("--model", "young", "--delivery", "release")
    assert outcome.code == 0, outcome.err
    told = [line for line in outcome.out.splitlines() if line.startswith("warning   model: ")]
    assert len(told) == 2
    assert "young is gated: HF_TOKEN must be that of an account that has accepted its terms" in told[0]
    assert "not pinned" in told[1]
    assert "weights.py --pin young and commit contract/models.json" in told[1]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_EVENT_NAME", "push")
    refused = doctor("--model", "young", "--delivery", "release")
    assert (refused.code, "must be of pinned weights, got young" in refused.error) == (5, True)
