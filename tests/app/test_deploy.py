"""The app's deploy workflow is started once for each change."""

from pathlib import Path

import pytest

from app_repository import DEPLOY, ENV, NEW_ENV, START, VALUES, commit, wanted
from model_release.base.errors import HostError
from standins.github import Fault, Repository, StandInGitHub, Token


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
