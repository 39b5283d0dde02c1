"""What a protected branch refuses becomes a pull request: one for each release, from a branch of its own."""

from collections.abc import Mapping
from itertools import islice
from urllib.parse import quote

import github
from github.PullRequest import PullRequest

from model_release.app.branches import Branch, Branches, ProtectedError, writing
from model_release.app.commit import HISTORY, AppCommit, Blob, Changes, CommitResult, plan_app
from model_release.base.errors import HostError
from model_release.base.github_words import read_refusal, words_of
from model_release.base.progress import Progress

_NO_PULLS = (
    "GITHUB_TOKEN may not open pull requests. Open it yourself, or allow it: Settings, Actions, General, "
    "Workflow permissions, and pull-requests: write in the job."
)


class Pulls:
    """A release's pull requests in the app's repository, and the branch they are from.

    Args:
        branches: Of the repository.
        request: What goes where.
        blobs: The files of the model, by their path in the repository.
        progress: Told what is left alone.
    """

    def __init__(self, branches: Branches, request: AppCommit, blobs: Mapping[str, Blob], progress: Progress) -> None:
        self._branches, self._repo = branches, branches.repo
        self._request, self._blobs, self._progress = request, blobs, progress

    def find(self, base: Branch) -> list[PullRequest]:
        """This release's pull requests, newest first."""
        topic = self._request.topic
        found = self._repo.get_pulls(state="all", head=f"{self._repo.owner.login}:{topic}", base=base.name)
        return [pull for pull in found if pull.head.ref == topic]  # A filter GitHub does not like is ignored there.

    def ask(self, base: Branch, changes: Changes, topic: Branch | None) -> CommitResult:
        """The same commit on a branch of its own, and a pull request for it.

        Raises:
            HostError: That branch takes no commit of ours either.
        """
        request, pulls = self._request, self.find(base)
        pull = next((each for each in pulls if each.state == "open"), None)
        closed = next((each for each in pulls[:1] if each.state == "closed" and each.merged_at is None), None)
        try:
            commit = self._push(base, changes, topic, pulls)
        except ProtectedError as refusal:
            raise HostError(
                f"{request.repository} must take commits on {base.name} or on {request.topic}, got: {refusal}. "
                "Exempt the token from the rule for one of them."
            ) from refusal
        notes = []
        if pull is None:
            try:
                pull = self._repo.create_pull(base.name, request.topic, title=request.message, body=request.description)
            except github.GithubException as failure:
                if failure.status != 403 or read_refusal(403, words_of(failure.data)) != "forbidden":
                    raise
                notes.append(_NO_PULLS)
            if closed is not None:
                again = f"#{pull.number} asks again" if pull else "its branch is there again"
                notes.append(f"Pull request #{closed.number} was closed without being merged; {again}.")
        if pull is None:
            link = f"{self._repo.html_url}/compare/{quote(base.name)}...{quote(request.topic)}?expand=1"
            return CommitResult(outcome="branch pushed", commit=commit, url=link, notes=tuple(notes))
        return CommitResult(outcome="pull request", commit=commit, url=pull.html_url, notes=tuple(notes))

    def _push(self, base: Branch, changes: Changes, topic: Branch | None, pulls: list[PullRequest]) -> str:
        """Brings the pull request's branch up to date, and returns its commit."""
        request = self._request
        if topic and any(pull.merged_at and pull.head.sha == topic.state.commit for pull in pulls):
            with writing(request):
                topic.ref.delete()  # All of it was merged, and undone since: it is no branch to go on from.
            topic = None
        if topic is None:
            commit = self._branches.make(base.state, changes)
            with writing(request):
                self._repo.create_git_ref(f"refs/heads/{request.topic}", commit)
            return commit
        missing = plan_app(request, self._blobs, topic.state)
        if not missing:
            return topic.state.commit
        commit = self._branches.make(topic.state, missing)
        with writing(request):
            topic.ref.edit(commit, force=False)
        return commit

    def tidy(self, base: Branch, topic: Branch | None, pulls: list[PullRequest]) -> None:
        """Removes this release's branch once it is needless: no open pull request, and all of it merged.

        All is merged if GitHub merged this very commit, if the base branch has it, or if it is ours and
        stands on a commit of the base branch, which has the values.
        """
        if topic is None or any(pull.state == "open" for pull in pulls):
            return
        commit = topic.state.commit
        if not any(pull.merged_at and pull.head.sha == commit for pull in pulls):
            newest = self._repo.get_git_commit(commit)
            known = {each.sha for each in islice(self._repo.get_commits(sha=base.name), HISTORY)}
            ours = newest.message == self._request.message and {parent.sha for parent in newest.parents} <= known
            if commit not in known and not ours:
                self._progress(f"{topic.name} has commits that {base.name} has not: it is left alone")
                return
        try:
            with writing(self._request):
                topic.ref.delete()
        except (ProtectedError, HostError) as refusal:
            self._progress(f"{topic.name} is no longer needed and stays: {refusal}")
