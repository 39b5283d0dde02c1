"""Starts the web app's deploy workflow, once for each change: an event made with GITHUB_TOKEN starts none by itself."""

from collections.abc import Mapping
from itertools import islice

import github
from github.Repository import Repository
from github.Workflow import Workflow

from model_release.app.commit import HISTORY, AppCommit
from model_release.base.errors import HostError
from model_release.base.github_words import read_refusal, words_of

_ADVICE = {
    403: "Grant actions: write under permissions: in the job",
    404: "Put it into .github/workflows of the default branch, or correct --deploy-workflow",
    422: "Give it the trigger workflow_dispatch, without required inputs",
}


class Deploy:
    """A workflow to start; `start` is a pass that may be run again.

    Args:
        repo: The app's repository.
        request: What was committed, with the workflow's name.
        new: Whether it was committed just now.
    """

    def __init__(self, repo: Repository, request: AppCommit, *, new: bool) -> None:
        self._repo, self._request, self._new = repo, request, new
        self._starting = False  # a dispatch was on its way; its answer may be lost

    def start(self) -> tuple[bool, str]:
        """Starts the workflow if our commit is on the default branch and no run has had it yet.

        So a deploy that is missing because its run was killed after the commit is started, and none is started twice.

        Returns:
            Whether it was started, and what there is to say.

        Raises:
            HostError: There is no such workflow, or it cannot be started.
        """
        request, repo = self._request, self._repo
        branch, name = request.branch or repo.default_branch, str(request.deploy_workflow)
        if branch != repo.default_branch:
            return False, f"{name} is not started: {branch} is not the default branch."
        undeployed: dict[str, str] = {}  # commit -> its date, from the newest down to ours
        for each in islice(repo.get_commits(sha=branch), HISTORY):
            undeployed[each.sha] = each.commit.committer.date.strftime("%Y-%m-%dT%H:%M:%SZ")
            if each.commit.message == request.message:
                break
        else:
            return False, ""  # The values came with somebody else's commit, and so does their deploy.
        try:
            workflow = repo.get_workflow(name)
            if self._has_run(workflow, branch, undeployed):
                return self._starting, ""
            self._starting = True
            workflow.create_dispatch(branch, throw=True)
        except github.GithubException as failure:
            words = words_of(failure.data)
            if failure.status not in _ADVICE or (
                failure.status == 403 and read_refusal(failure.status, words) != "forbidden"
            ):
                raise
            raise HostError(
                f"{name} must be a workflow that can be started in {request.repository}, got {failure.status} "
                f"{words}. The env file is committed. {_ADVICE[failure.status]}, and run the same command again."
            ) from failure
        return True, ""

    def _has_run(self, workflow: Workflow, branch: str, commits: Mapping[str, str]) -> bool:
        """Whether a run of the workflow was about one of the commits."""
        try:
            runs = workflow.get_runs(branch=branch, created=f">={min(commits.values())}")
            return any(run.head_sha in commits for run in islice(runs, HISTORY))
        except github.GithubException as failure:
            if read_refusal(failure.status, words_of(failure.data)) != "forbidden":
                raise
            return not self._new or self._starting  # Runs cannot be read: only what is new for certain is deployed.
