"""What a release wants in the web app's repository, and what its branch lacks: decisions, no requests."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from model_release.app.envfile import edited
from model_release.base.errors import EnvFileError, HostError, UsageError
from model_release.base.files import git_blob_digest, git_blob_id
from model_release.base.github_limits import MAX_BLOB_BYTES, REPOSITORY
from model_release.base.text import quoted
from model_release.contract.tag import parse_tag

HISTORY = 100
"""How many commits or runs are looked through for ours: one page."""

BRANCH_PREFIX = "model-release/"

_WORKFLOW = re.compile(r"[\w.-]+\.ya?ml", re.ASCII)
# https://git-scm.com/docs/git-check-ref-format, without the names that need care in URLs and shells.
_BRANCH = re.compile(r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)|[./]$))[\w][\w./#+@-]*", re.ASCII)
_MAX_PATH = 400  # characters


@dataclass(frozen=True, kw_only=True)
class AppCommit:
    """What to put into the web app's repository.

    Attributes:
        repository: `owner/name`; it may differ from the release's.
        branch: None stands for the default branch.
        env_path: The env file in the repository, e.g. `apps/web/.env.production`.
        values: What the env file shall say, by key.
        files: Path in the repository -> local file; empty where the app fetches its model from the release.
        tag: The release; it names the branch of a pull request.
        deploy_workflow: The file name of a workflow to start after a change, e.g. `deploy.yml`.
        create_env_file: Whether a missing env file is made.
    """

    repository: str
    branch: str | None
    env_path: str
    values: Mapping[str, str]
    files: Mapping[str, Path]
    tag: str
    deploy_workflow: str | None
    create_env_file: bool = False

    def __post_init__(self) -> None:
        parse_tag(self.tag)
        _require("--env-repo", self.repository, ok=bool(REPOSITORY.fullmatch(self.repository)), example="owner/name")
        if self.branch is not None:
            _require("--env-branch", self.branch, ok=bool(_BRANCH.fullmatch(self.branch)), example="main")
        for path in (self.env_path, *self.files):
            _require("--env-file", path, ok=is_plain_path(path), example="apps/web/.env.production")
        if self.env_path in self.files:
            raise UsageError(f"--env-file must be no file of the model, got {ascii(self.env_path)[:80]}. Use another.")
        if self.deploy_workflow is not None:
            known = bool(_WORKFLOW.fullmatch(self.deploy_workflow))
            _require("--deploy-workflow", self.deploy_workflow, ok=known, example="deploy.yml")

    @property
    def topic(self) -> str:
        """The branch of this release's pull request."""
        return BRANCH_PREFIX + self.tag

    @property
    def message(self) -> str:
        """The commit's message, which is also how a later run knows the commit."""
        return f"Deliver {self.tag} to the web app" if self.files else f"Point the web app at {self.tag}"

    @property
    def description(self) -> str:
        """The text of the pull request."""
        lines = [f"`{self.env_path}` for the released model `{self.tag}`:", ""]
        lines += [f"- `{key}={value}`" for key, value in self.values.items()]
        lines += [f"- `{path}`" for path in sorted(self.files)]
        return "\n".join([*lines, "", "The branch is protected, so this change waits for you. Deploy after merging."])


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


def is_plain_path(text: str) -> bool:
    """Whether a path stays inside a repository, and is the same for git, URLs and people.

    >>> [is_plain_path(text) for text in ("apps/web/.env", "/etc/x", "../x", "a//b", ".git/config")]
    [True, False, False, False, False]
    """
    parts = text.split("/")
    return (
        0 < len(text) <= _MAX_PATH
        and text.isprintable()
        and "\\" not in text
        and all(part not in ("", ".", "..") and part.lower() != ".git" and part == part.strip() for part in parts)
    )


def _require(option: str, text: str, *, ok: bool, example: str) -> None:
    if not ok:
        raise UsageError(f"{option} must be like {example}, got {quoted(text)}. Correct {option}.")


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A local file as git names it.

    Attributes:
        sha: Git's id of the content, sha1 over a header and the bytes.
    """

    path: Path
    size_bytes: int
    sha: str


def describe_blob(path: Path) -> Blob:
    """Names a local file as git does.

    Raises:
        HostError: It cannot be read, or is too large for the git data API.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BLOB_BYTES:
            raise HostError(
                f"{path.name} must be at most {MAX_BLOB_BYTES / 1e6:.0f} MB to live in the app's repository, "
                f"got {size_bytes / 1e6:.1f} MB. Use --delivery release, or a smaller precision."
            )
    except OSError as failure:
        raise HostError(f"{path} must be readable, got: {failure.strerror or failure}. Release again.") from failure
    return Blob(path=path, size_bytes=size_bytes, sha=git_blob_id(path, error=HostError))


def blob_id(content: bytes) -> str:
    r"""Git's id of a content.

    >>> blob_id(b"hello\n")
    'ce013625030ba8dba906f756967f9e9ca394464a'
    """
    digest = git_blob_digest(len(content))
    digest.update(content)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class BranchState:
    """What a branch holds of what is wanted.

    Attributes:
        commit: Its newest commit.
        env: The env file's bytes; None if there is none.
        env_sha: Its blob id, or empty.
        blobs: Path -> blob id of every file in the folders of the wanted files.
    """

    commit: str
    env: bytes | None
    env_sha: str
    blobs: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a branch lacks.

    Attributes:
        env: The env file's new bytes; None if it says everything already.
        files: Paths whose content is another one.
    """

    env: bytes | None
    files: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.env is not None or bool(self.files)


def plan_app(request: AppCommit, blobs: Mapping[str, Blob], state: BranchState) -> Changes:
    """What turns a branch into one that has the values and the files.

    Args:
        request: What is wanted.
        blobs: Path in the repository -> the wanted file.
        state: What the branch holds.

    Raises:
        EnvFileError: There is no env file and none may be made, or it cannot be edited safely.
    """
    if state.env is None and not request.create_env_file:
        raise EnvFileError(
            f"{request.env_path} must exist in {request.repository}. Commit one there, an empty file will do, "
            "correct --env-file, or give --create-env-file."
        )
    before = state.env or b""
    after = edited(before, request.values, request.env_path)
    return Changes(
        env=None if state.env is not None and after == before else after,
        files=tuple(path for path, blob in sorted(blobs.items()) if state.blobs.get(path) != blob.sha),
    )


def folders(paths: Iterable[str]) -> list[str]:
    """The folders that hold files, each once.

    >>> folders(["static/models/gpt2/model.onnx", "static/models/gpt2/vocab.json"])
    ['static/models/gpt2']
    """
    found = sorted({str(PurePosixPath(path).parent) for path in paths})
    return ["" if folder == "." else folder for folder in found]
