"""Where a branch is protected, its commit becomes a pull request: one for each release."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app_repository import (
    DEPLOY,
    ENV,
    FILES,
    FOLDER,
    NAME,
    NEW_ENV,
    OLD_ENV,
    TAG,
    TOPIC,
    VALUES,
    commit,
    messages,
    wanted,
    writes,
)
from model_release.base.errors import HostError
from standins.github import CLASSIC, RESTRICTED, RULESET, Fault, Repository, StandInGitHub, Token


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
