"""GitHub as a host: which commit a release's tag stands for. Everything else of it is in release/test_publish.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dists import REPOSITORY, TAG, make_dist, publish_to
from model_release.base.errors import HostError
from standins.github import Fault, Repository, Request, StandInGitHub

pytestmark = pytest.mark.network
WORKFLOW = {".github/workflows/model.yml": "on: workflow_dispatch\n"}


@pytest.fixture
def site() -> Iterator[StandInGitHub]:
    with StandInGitHub() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def repository(site: StandInGitHub) -> Repository:
    return site.add_repository(REPOSITORY)


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return make_dist(tmp_path / "dist")


def tagged(repository: Repository) -> str | None:
    return repository.refs.get(f"refs/tags/{TAG}")


def test_a_release_without_a_tag_gets_it_at_the_runs_own_commit(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    ours = repository.commit({"README.md": "what is released"})
    repository.commit({"README.md": "pushed while it was built"})
    publish_to(site, dist, commit=ours)
    assert tagged(repository) == ours


def test_the_commit_that_brings_the_workflow_can_be_released_by_a_click(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    """A workflow's token may not name it; the branch, which is the same, it may."""
    ours = repository.commit(WORKFLOW)
    publish_to(site, dist, commit=ours)
    assert tagged(repository) == ours


def test_a_commit_that_may_not_be_tagged_any_more_is_told_with_the_command_that_tags_it(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    ours = repository.commit(WORKFLOW)
    repository.commit({"README.md": "pushed while it was built"})
    with pytest.raises(
        HostError, match=rf"{ours[:10]}, but main has moved on .*git push origin {ours}:refs/tags/{TAG}"
    ):
        publish_to(site, dist, commit=ours)
    assert (tagged(repository), repository.releases) == (None, {})
    repository.create_tag(TAG, target=ours)
    publish_to(site, dist, commit=ours)
    assert tagged(repository) == ours


def test_a_branch_that_moves_during_the_upload_moves_no_tag(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    ours = repository.commit({"README.md": "what is released"})

    def push(request: Request) -> Fault | None:
        if request.origin == "uploads" and repository.branch_head("main") == ours:
            repository.commit({"README.md": "pushed meanwhile"})
        return None

    site.hook = push
    publish_to(site, dist, commit=ours)
    assert tagged(repository) == ours


def test_a_draft_of_an_earlier_run_is_tagged_at_the_commit_of_the_run_that_finishes_it(
    site: StandInGitHub, repository: Repository, dist: Path
) -> None:
    early = repository.commit({"README.md": "the first try"})
    ours = repository.commit({"README.md": "the second"})
    site.faults = [Fault("422", path="/uploads/*")]
    with pytest.raises(HostError):
        publish_to(site, dist, commit=early)
    site.faults = []
    publish_to(site, dist, commit=ours)
    assert tagged(repository) == ours


def test_a_tag_that_is_there_stays_where_it_is(site: StandInGitHub, repository: Repository, dist: Path) -> None:
    there = repository.commit({"README.md": "tagged"})
    repository.create_tag(TAG)
    ours = repository.commit({"README.md": "a click later"})
    publish_to(site, dist, commit=ours)
    assert tagged(repository) == there
