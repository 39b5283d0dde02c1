"""The web app's repository on GitHub: one commit with the env values and, delivered by git, the model's files.

Every pass reads the branch, plans (`app.commit`), and writes once, expecting what it read; so a re-run, a retry
and a repair are the same thing. What a protected branch refuses becomes a pull request, one for each release.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal
from urllib.parse import quote

import github
from github.ContentFile import ContentFile
from github.GitRef import GitRef
from github.InputGitTreeElement import InputGitTreeElement
from github.PullRequest import PullRequest
from github.Repository import Repository

from model_release.app.commit import (
    HISTORY,
    AppCommit,
    Blob,
    BranchState,
    Changes,
    blob_id,
    describe_blob,
    folders,
    plan_app,
)
from model_release.app.deploy import Deploy
from model_release.app.envfile import changed_lines
from model_release.app.rules import MAX_RULES_BYTES, changed_by, ignored_by, rule_files
from model_release.base.errors import EnvFileError, HostError
from model_release.base.files import read_bytes
from model_release.base.github_client import RETRY_POLICY, Client, with_retries
from model_release.base.github_limits import MAX_BLOB_BYTES
from model_release.base.github_words import EMPTY_REPOSITORY, TOO_LARGE, read_refusal, words_of
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy, TransientError

_FILE_MODE = "100644"
_NO_PULLS = (
    "GITHUB_TOKEN may not open pull requests. Open it yourself, or allow it: Settings, Actions, General, "
    "Workflow permissions, and pull-requests: write in the job."
)


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """What became of the repository.

    Attributes:
        commit: The commit that has the values, on the branch or on the pull request's.
        url: Of the pull request; for `branch pushed`, where to open one.
        dispatched: Whether the deploy workflow was started.
        notes: What else there is to say, in sentences.
    """

    outcome: Literal["unchanged", "committed", "pull request", "branch pushed"]
    commit: str
    url: str = ""
    dispatched: bool = False
    notes: tuple[str, ...] = ()


def commit_to_app(
    api: Client,
    request: AppCommit,
    *,
    retry_policy: RetryPolicy = RETRY_POLICY,
    progress: Progress = silent,
) -> CommitResult:
    """Puts values and files into the app's repository, by commit or by pull request, and starts its deploy.

    Args:
        api: From `github_client.connect`.
        request: What goes where.
        retry_policy: How long GitHub may take.
        progress: Told each line that changes, and each wait.

    Raises:
        HostError: GitHub refuses for good, or a file is too large for it.
        EnvFileError: The env file is missing there, or cannot be edited safely.
    """
    blobs = {path: describe_blob(file) for path, file in sorted(request.files.items())}
    app = _App(api, request, blobs, progress)
    what = f"{request.repository} (--env-repo)"
    result = with_retries(app.place, retry_policy, progress, what=what)
    if request.deploy_workflow is None:
        return result
    if result.outcome in ("pull request", "branch pushed"):
        note = f"{request.deploy_workflow} is not started: nothing changes for the app before the merge."
        return replace(result, notes=(*result.notes, note))
    deploy = Deploy(app.repository(), request, new=result.outcome == "committed")
    dispatched, note = with_retries(deploy.start, retry_policy, progress, what=what)
    return replace(result, dispatched=dispatched, notes=(*result.notes, note) if note else result.notes)


def check_app(
    api: Client,
    request: AppCommit,
    *,
    retry_policy: RetryPolicy = RETRY_POLICY,
    progress: Progress = silent,
) -> None:
    """Everything that can be refused before there is a release; writes nothing.

    Raises:
        HostError: There is no such repository or branch for us, or its own rules change files.
        EnvFileError: The env file is missing there, or cannot be edited safely.
    """
    app = _App(api, request, {}, progress)
    with_retries(app.check, retry_policy, progress, what=f"{request.repository} (--env-repo)")


class _ProtectedError(Exception):
    """The branch takes no commit of ours, in GitHub's words."""


@dataclass(frozen=True, kw_only=True)
class _Branch:
    """A branch as it was read; `ref` knows the address for moving it."""

    name: str
    ref: GitRef
    state: BranchState


class _App:
    """The repository, and what this run knows of what it did there already."""

    def __init__(self, api: Client, request: AppCommit, blobs: Mapping[str, Blob], progress: Progress) -> None:
        self._api, self._request, self._blobs, self._progress = api, request, blobs, progress
        self._repository: Repository | None = None
        self._sent: set[str] = set()  # ids of blobs that GitHub has
        self._committing = False  # a commit was on its way; its answer may be lost
        self._shown = self._ruled = False

    # Values and files

    def check(self) -> None:
        """One pass that only reads."""
        base = self._base()
        plan_app(self._request, self._blobs, base.state)
        self._apply_rules(base)

    def place(self) -> CommitResult:
        """One pass: what the branch lacks goes there, or into a pull request."""
        request, repo, base = self._request, self.repository(), self._base()
        changes = plan_app(request, self._blobs, base.state)
        topic = self._read(repo, request.topic)
        pulls = self._pulls(repo, base) if topic else []
        for branch in (base, topic):
            self._sent.update(branch.state.blobs.values() if branch else ())
        if not changes:
            self._tidy(repo, base, topic, pulls)
            return CommitResult(outcome="committed" if self._committing else "unchanged", commit=base.state.commit)
        self._apply_rules(base)
        self._show(base, changes)
        if not any(pull.state == "open" for pull in pulls):
            try:
                commit = self._commit(repo, base, changes)
            except _ProtectedError as refusal:
                self._progress(f"{base.name} is protected ({refusal}): a pull request instead")
            else:
                self._tidy(repo, base, topic, pulls)
                return CommitResult(outcome="committed", commit=commit)
        return self._ask(repo, base, changes, topic)

    def repository(self) -> Repository:
        """The repository, asked for once."""
        if self._repository is not None:
            return self._repository
        try:
            self._repository = self._api.get_repo(self._request.repository)
        except github.GithubException as failure:
            if failure.status != 404:
                raise
            raise HostError(
                f"{self._request.repository} must be a repository that GITHUB_TOKEN may use, got 404. Correct "
                "--env-repo; a workflow's own token reaches its own repository only, another needs a token of its own."
            ) from failure
        return self._repository

    def _base(self) -> _Branch:
        """The branch that is to have the commit."""
        repo = self.repository()
        name = self._request.branch or repo.default_branch
        base = self._read(repo, name)
        if base is None:
            raise HostError(
                f"{repo.full_name} must have the branch {name}, got none. Push it first, or correct --env-branch."
            )
        return base

    def _read(self, repo: Repository, name: str) -> _Branch | None:
        """A branch and what it holds; None if there is no such branch."""
        try:
            ref = repo.get_git_ref(f"heads/{name}")
            commit = ref.object.sha
        except github.GithubException as failure:
            if failure.status == 404 or (failure.status == 409 and EMPTY_REPOSITORY in words_of(failure.data)):
                return None
            raise
        env, env_sha = self._env_file(repo, commit)
        blobs: dict[str, str] = {}
        for folder in folders(self._blobs):
            found = _contents(repo, folder, commit)
            if found is not None and not isinstance(found, list):
                raise HostError(f"{folder} must be a folder in {repo.full_name}, got a file. Correct --static-dir.")
            blobs |= {item.path: item.sha for item in found or () if item.type == "file"}
        return _Branch(name=name, ref=ref, state=BranchState(commit=commit, env=env, env_sha=env_sha, blobs=blobs))

    def _env_file(self, repo: Repository, commit: str) -> tuple[bytes | None, str]:
        found = _contents(repo, self._request.env_path, commit)
        if found is None:
            return None, ""
        if isinstance(found, list) or found.type != "file" or found.encoding != "base64":
            raise EnvFileError(
                f"{self._request.env_path} must be a file of less than 1 MB in {repo.full_name}. Correct --env-file."
            )
        return found.decoded_content, found.sha

    def _apply_rules(self, base: _Branch) -> None:
        """Looks once whether the repository's own rules would change or hide what is committed."""
        if self._ruled:
            return
        request = self._request
        holds = listing(self.repository(), base.state.commit)
        wanted = {path for each in (request.env_path, *request.files) for path in rule_files(each)}
        texts = {path: holds.read(path) for path in sorted(wanted & holds.shas.keys())}
        rule = changed_by(request.env_path, texts)
        if rule is not None and rule.attribute != "eol":
            raise EnvFileError(
                f"{request.env_path} must come out of git as it goes in, but {rule} {rule.effect}, which GitHub's API "
                f"does not. Add the line '{rule.exempts(request.env_path)}' below it."
            )
        for path in sorted(request.files):
            if rule := changed_by(path, texts):
                raise HostError(
                    f"{path} must come out of git as it goes in, but {rule} {rule.effect}, which GitHub's API does "
                    f"not. Use --delivery release, or add the line '{rule.exempts(path)}' below it."
                )
        for path in (request.env_path, *sorted(request.files)):
            if path not in holds.shas and (rule := ignored_by(path, texts)):
                self._progress(
                    f"warning: {path} is committed although {rule} leaves it out: tools that follow that rule do not "
                    "see it. Change that line."
                )
        self._ruled = True

    def _show(self, base: _Branch, changes: Changes) -> None:
        """Says once what will change."""
        if self._shown:
            return
        self._shown = True
        self._progress(f"{self._request.repository}, {base.name}:")
        for line in changed_lines(base.state.env or b"", changes.env or base.state.env or b""):
            self._progress(line)
        for path in changes.files:
            self._progress(f"  + {path} ({self._blobs[path].size_bytes / 1e6:.1f} MB)")

    def _commit(self, repo: Repository, branch: _Branch, changes: Changes) -> str:
        """One commit onto the branch; of a single file through the contents API."""
        request, state = self._request, branch.state
        if changes.files or changes.env is None:
            commit = self._object(repo, state, changes)
            self._committing = True
            with _writing(request):
                branch.ref.edit(commit, force=False)
            return commit
        self._committing = True
        with _writing(request):
            new, where = (request.env_path, request.message, changes.env), branch.name
            made = repo.update_file(*new, state.env_sha, where) if state.env_sha else repo.create_file(*new, where)
        return str(made["commit"].sha)

    def _object(self, repo: Repository, parent: BranchState, changes: Changes) -> str:
        """A commit on top of another that no branch knows yet; one file at a time is in memory."""
        request = self._request
        lines = []
        for path in changes.files:
            blob = self._blobs[path]
            self._send(repo, path, blob.sha, partial(read_bytes, blob.path, limit_bytes=MAX_BLOB_BYTES))
            lines.append(InputGitTreeElement(path, _FILE_MODE, "blob", sha=blob.sha))
        if changes.env is not None:
            env, sha = changes.env, blob_id(changes.env)
            self._send(repo, request.env_path, sha, lambda: env)
            lines.append(InputGitTreeElement(request.env_path, _FILE_MODE, "blob", sha=sha))
        commit = repo.get_git_commit(parent.commit)
        tree = repo.create_git_tree(lines, base_tree=commit.tree)
        return repo.create_git_commit(request.message, tree, [commit]).sha

    def _send(self, repo: Repository, path: str, sha: str, read: Callable[[], bytes]) -> None:
        """Uploads a file's content, unless GitHub has it."""
        if sha in self._sent:
            return
        try:
            made = repo.create_git_blob(base64.b64encode(read()).decode(), "base64")
        except OSError as failure:
            raise HostError(f"{path}'s source must be readable, got: {failure.strerror}. Release again.") from failure
        except github.GithubException as failure:
            if failure.status in (413, 422) and TOO_LARGE in words_of(failure.data):
                raise HostError(
                    f"{path} must be small enough for GitHub's git data API, got: {words_of(failure.data)} "
                    "Use --delivery release, or a smaller precision."
                ) from failure
            raise
        if made.sha != sha:
            raise HostError(f"{path}'s source must not change while it is sent. Run the same command again.")
        self._sent.add(sha)

    # Pull requests

    def _pulls(self, repo: Repository, base: _Branch) -> list[PullRequest]:
        """This release's pull requests, newest first."""
        topic = self._request.topic
        found = repo.get_pulls(state="all", head=f"{repo.owner.login}:{topic}", base=base.name)
        return [pull for pull in found if pull.head.ref == topic]  # A filter GitHub does not like is ignored there.

    def _ask(self, repo: Repository, base: _Branch, changes: Changes, topic: _Branch | None) -> CommitResult:
        """The same commit on a branch of its own, and a pull request for it."""
        request, pulls = self._request, self._pulls(repo, base)
        pull = next((each for each in pulls if each.state == "open"), None)
        closed = next((each for each in pulls[:1] if each.state == "closed" and each.merged_at is None), None)
        try:
            commit = self._push(repo, base, changes, topic, pulls)
        except _ProtectedError as refusal:
            raise HostError(
                f"{request.repository} must take commits on {base.name} or on {request.topic}, got: {refusal}. "
                "Exempt the token from the rule for one of them."
            ) from refusal
        notes = []
        if pull is None:
            try:
                pull = repo.create_pull(base.name, request.topic, title=request.message, body=request.description)
            except github.GithubException as failure:
                if failure.status != 403 or read_refusal(403, words_of(failure.data)) != "forbidden":
                    raise
                notes.append(_NO_PULLS)
            if closed is not None:
                again = f"#{pull.number} asks again" if pull else "its branch is there again"
                notes.append(f"Pull request #{closed.number} was closed without being merged; {again}.")
        if pull is None:
            link = f"{repo.html_url}/compare/{quote(base.name)}...{quote(request.topic)}?expand=1"
            return CommitResult(outcome="branch pushed", commit=commit, url=link, notes=tuple(notes))
        return CommitResult(outcome="pull request", commit=commit, url=pull.html_url, notes=tuple(notes))

    def _push(
        self, repo: Repository, base: _Branch, changes: Changes, topic: _Branch | None, pulls: list[PullRequest]
    ) -> str:
        """Brings the pull request's branch up to date, and returns its commit."""
        request = self._request
        if topic and any(pull.merged_at and pull.head.sha == topic.state.commit for pull in pulls):
            with _writing(request):
                topic.ref.delete()  # All of it was merged, and undone since: it is no branch to go on from.
            topic = None
        if topic is None:
            commit = self._object(repo, base.state, changes)
            with _writing(request):
                repo.create_git_ref(f"refs/heads/{request.topic}", commit)
            return commit
        missing = plan_app(request, self._blobs, topic.state)
        if not missing:
            return topic.state.commit
        commit = self._object(repo, topic.state, missing)
        with _writing(request):
            topic.ref.edit(commit, force=False)
        return commit

    def _tidy(self, repo: Repository, base: _Branch, topic: _Branch | None, pulls: list[PullRequest]) -> None:
        """Removes this release's branch once it is needless: no open pull request, and all of it merged.

        All is merged if GitHub merged this very commit, if the base branch has it, or if it is ours and
        stands on a commit of the base branch, which has the values.
        """
        if topic is None or any(pull.state == "open" for pull in pulls):
            return
        commit = topic.state.commit
        if not any(pull.merged_at and pull.head.sha == commit for pull in pulls):
            newest = repo.get_git_commit(commit)
            known = {each.sha for each in islice(repo.get_commits(sha=base.name), HISTORY)}
            ours = newest.message == self._request.message and {parent.sha for parent in newest.parents} <= known
            if commit not in known and not ours:
                self._progress(f"{topic.name} has commits that {base.name} has not: it is left alone")
                return
        try:
            with _writing(self._request):
                topic.ref.delete()
        except (_ProtectedError, HostError) as refusal:
            self._progress(f"{topic.name} is no longer needed and stays: {refusal}")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a commit holds.

    Attributes:
        shas: Path -> blob id of every file, as far as GitHub lists them in one answer.
    """

    repo: Repository
    shas: Mapping[str, str]

    def read(self, path: str) -> str:
        """A file's text, in whatever encoding; nothing for a large one."""
        blob = self.repo.get_git_blob(self.shas[path])
        if blob.encoding != "base64" or blob.size > MAX_RULES_BYTES:
            return ""
        return base64.b64decode(blob.content).decode("utf-8", errors="surrogateescape")


def listing(repo: Repository, commit: str) -> Listing:
    """All files of a commit."""
    tree = repo.get_git_tree(commit, recursive=True)
    return Listing(repo=repo, shas={item.path: item.sha for item in tree.tree if item.type == "blob"})


def _contents(repo: Repository, path: str, commit: str) -> ContentFile | list[ContentFile] | None:
    """A file, or what is in a folder, as a commit has it; None if there is nothing."""
    try:
        return repo.get_contents(path, ref=commit)
    except github.GithubException as failure:
        if failure.status == 404:
            return None
        raise


@contextmanager
def _writing(request: AppCommit) -> Iterator[None]:
    """Reads the refusal of a write to a branch.

    Raises:
        TransientError: The branch moved: read again, apply again.
        HostError: The token may not write.
    """
    try:
        yield
    except github.GithubException as failure:
        words = words_of(failure.data)
        match read_refusal(failure.status, words):
            case "protected":
                raise _ProtectedError(words) from failure
            case "moved":
                raise TransientError(f"{failure.status} {words}") from failure
            case "forbidden":
                raise HostError(
                    f"GITHUB_TOKEN must be allowed to write the contents of {request.repository}, "
                    f"got {failure.status} {words}. Grant contents: write in the job; another repository "
                    "(--env-repo) needs a token of its own."
                ) from failure
        raise
