"""The app's repository on GitHub: what a branch of it holds, and one commit more."""

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import github
from github.ContentFile import ContentFile
from github.GitRef import GitRef
from github.InputGitTreeElement import InputGitTreeElement
from github.Repository import Repository

from model_release.app.commit import AppCommit, Blob, BranchState, Changes, blob_id, folders
from model_release.app.rules import MAX_RULES_BYTES
from model_release.base.errors import EnvFileError, HostError
from model_release.base.files import read_bytes
from model_release.base.github_client import Client
from model_release.base.github_limits import MAX_BLOB_BYTES
from model_release.base.github_words import EMPTY_REPOSITORY, TOO_LARGE, read_refusal, words_of
from model_release.base.retry import TransientError

_FILE_MODE = "100644"


class ProtectedError(Exception):
    """The branch takes no commit of ours, in GitHub's words."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch as it was read; `ref` knows the address for moving it."""

    name: str
    ref: GitRef
    state: BranchState


def open_repository(api: Client, name: str) -> Repository:
    """The app's repository.

    Raises:
        HostError: There is none for this token.
    """
    try:
        return api.get_repo(name)
    except github.GithubException as failure:
        if failure.status != 404:
            raise
        raise HostError(
            f"{name} must be a repository that GITHUB_TOKEN may use, got 404. Correct "
            "--env-repo; a workflow's own token reaches its own repository only, another needs a token of its own."
        ) from failure


class Branches:
    """The branches of the app's repository, and what this run knows of what it did to them already.

    Args:
        repo: The repository.
        request: What goes where.
        blobs: The files of the model, by their path in the repository.

    Attributes:
        has_tried: Whether a commit onto a branch was on its way; its answer may be lost.
    """

    def __init__(self, repo: Repository, request: AppCommit, blobs: Mapping[str, Blob]) -> None:
        self.repo, self._request, self._blobs = repo, request, blobs
        self._sent: set[str] = set()  # ids of blobs that GitHub has
        self.has_tried = False

    def base(self) -> Branch:
        """The branch that is to have the commit.

        Raises:
            HostError: There is none.
        """
        name = self._request.branch or self.repo.default_branch
        base = self.read(name)
        if base is None:
            raise HostError(
                f"{self.repo.full_name} must have the branch {name}, got none. Push it first, or correct --env-branch."
            )
        return base

    def read(self, name: str) -> Branch | None:
        """A branch and what it holds; None if there is no such branch.

        Raises:
            HostError: A folder for the model's files is a file there.
            EnvFileError: The env file is none.
        """
        try:
            ref = self.repo.get_git_ref(f"heads/{name}")
            commit = ref.object.sha
        except github.GithubException as failure:
            if failure.status == 404 or (failure.status == 409 and EMPTY_REPOSITORY in words_of(failure.data)):
                return None
            raise
        env, env_sha = self._env_file(commit)
        blobs: dict[str, str] = {}
        for folder in folders(self._blobs):
            found = _contents(self.repo, folder, commit)
            if found is not None and not isinstance(found, list):
                raise HostError(
                    f"{folder} must be a folder in {self.repo.full_name}, got a file. Correct --static-dir."
                )
            blobs |= {item.path: item.sha for item in found or () if item.type == "file"}
        self._sent.update(blobs.values())
        return Branch(name=name, ref=ref, state=BranchState(commit=commit, env=env, env_sha=env_sha, blobs=blobs))

    def _env_file(self, commit: str) -> tuple[bytes | None, str]:
        found = _contents(self.repo, self._request.env_path, commit)
        if found is None:
            return None, ""
        if isinstance(found, list) or found.type != "file" or found.encoding != "base64":
            raise EnvFileError(
                f"{self._request.env_path} must be a file of less than 1 MB in {self.repo.full_name}. "
                "Correct --env-file."
            )
        return found.decoded_content, found.sha

    def commit(self, branch: Branch, changes: Changes) -> str:
        """One commit onto the branch; of a single file through the contents API.

        Raises:
            ProtectedError: The branch takes none.
            HostError: GitHub refuses for good, or a file is too large for it.
        """
        request, state = self._request, branch.state
        if changes.files or changes.env is None:
            commit = self.make(state, changes)
            self.has_tried = True
            with writing(request):
                branch.ref.edit(commit, force=False)
            return commit
        self.has_tried = True
        with writing(request):
            new, where = (request.env_path, request.message, changes.env), branch.name
            if state.env_sha:
                made = self.repo.update_file(*new, state.env_sha, where)
            else:
                made = self.repo.create_file(*new, where)
        return str(made["commit"].sha)

    def make(self, parent: BranchState, changes: Changes) -> str:
        """A commit on top of another that no branch knows yet; one file at a time is in memory."""
        request = self._request
        lines = []
        for path in changes.files:
            blob = self._blobs[path]
            self._send(path, blob.sha, partial(read_bytes, blob.path, limit_bytes=MAX_BLOB_BYTES))
            lines.append(InputGitTreeElement(path, _FILE_MODE, "blob", sha=blob.sha))
        if changes.env is not None:
            env, sha = changes.env, blob_id(changes.env)
            self._send(request.env_path, sha, lambda: env)
            lines.append(InputGitTreeElement(request.env_path, _FILE_MODE, "blob", sha=sha))
        commit = self.repo.get_git_commit(parent.commit)
        tree = self.repo.create_git_tree(lines, base_tree=commit.tree)
        return self.repo.create_git_commit(request.message, tree, [commit]).sha

    def _send(self, path: str, sha: str, read: Callable[[], bytes]) -> None:
        """Uploads a file's content, unless GitHub has it."""
        if sha in self._sent:
            return
        try:
            made = self.repo.create_git_blob(base64.b64encode(read()).decode(), "base64")
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
def writing(request: AppCommit) -> Iterator[None]:
    """Reads the refusal of a write to a branch.

    Raises:
        ProtectedError: The branch takes no commit of ours.
        TransientError: The branch moved: read again, apply again.
        HostError: The token may not write.
    """
    try:
        yield
    except github.GithubException as failure:
        words = words_of(failure.data)
        match read_refusal(failure.status, words):
            case "protected":
                raise ProtectedError(words) from failure
            case "moved":
                raise TransientError(f"{failure.status} {words}") from failure
            case "forbidden":
                raise HostError(
                    f"GITHUB_TOKEN must be allowed to write the contents of {request.repository}, "
                    f"got {failure.status} {words}. Grant contents: write in the job; another repository "
                    "(--env-repo) needs a token of its own."
                ) from failure
        raise
