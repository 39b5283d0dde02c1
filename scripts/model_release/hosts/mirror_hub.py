"""A mirror in a model repository of the Hugging Face Hub, whose files any page may read.

A release is one commit that puts its files, and no others, into the folder named by its tag; the URL names that
commit, so what it gives never changes. The same commit holds the first model a second time where `from_pretrained`
of transformers.js looks for it, in the repository's root, and bears the release's tag; the Hub stores equal files
once. Running again finds the commit and makes no other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from model_release.base.errors import HostError
from model_release.base.files import git_blob_id
from model_release.base.hub_client import HubCalls, bounded, endpoint
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy, TransientError
from model_release.contract.manifest import CHECKSUMS_NAME, FileEntry, Manifest
from model_release.contract.transformers_js import ASKED_FOR, repository_paths
from model_release.hosts.mirror import match_target

_BRANCH = "main"
_MODELS = "onnx"
_RELEASE = "Release "
_CONFLICTS = frozenset({409, 412})  # 412: the branch has moved on from the parent commit.
_CLOSED = "Create the model repository, make it public, and set HF_TOKEN to a token that may write to it."


class HubMirror:
    """Releases in a repository of the Hub. The token is huggingface_hub's own affair: HF_TOKEN.

    Args:
        target: `hub:ORG/REPO`; the repository must exist.
        retry_policy: Bounds on waiting.
        progress: Told one sentence at a time.
    """

    def __init__(self, target: str, *, retry_policy: RetryPolicy | None = None, progress: Progress = silent) -> None:
        self._repository = match_target(target)[1]
        self._retry_policy = retry_policy or RetryPolicy(request_timeout_s=60.0)
        self._progress = progress

    def upload(
        self,
        document: Manifest,
        dist: Path,
        entries: Iterable[FileEntry],
        *,
        was_public: bool,  # noqa: ARG002 - a page's URL names its commit, which nothing changes
    ) -> tuple[str, tuple[str, ...]]:
        """Commits what is missing, and reads back that all of it is there.

        What else lay in the tag's folder goes in the same commit. A repository with files of its own where
        transformers.js looks keeps them, and a warning says so.

        Returns:
            The URL of the release's folder at its commit, and the names that were committed.

        Raises:
            HostError: The hub stays away or refuses.
        """
        with bounded(self._retry_policy) as deadline:
            calls = HubCalls(
                error=HostError,
                advice="",
                closed=_CLOSED,
                progress=self._progress,
                retry_policy=self._retry_policy,
                deadline=deadline,
                conflicts=_CONFLICTS,
            )
            attempt = _Attempt(
                api=HfApi(),
                repository=self._repository,
                document=document,
                dist=dist,
                wanted={f"{document.tag}/{entry.name}": entry for entry in entries},
                progress=self._progress,
            )
            commit = calls.with_retries(f"the repository {self._repository}", attempt.reconcile)
        folder = f"{endpoint()}/{self._repository}/resolve/{commit}/{quote(document.tag)}"
        return folder, tuple(sorted(PurePosixPath(path).name for path in attempt.brought))


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One release on its way into one repository; `brought` collects what any attempt has committed.

    Attributes:
        wanted: The release's files, by path in the repository.
    """

    api: HfApi
    repository: str
    document: Manifest
    dist: Path
    wanted: Mapping[str, FileEntry]
    progress: Progress
    brought: set[str] = field(default_factory=set)

    def reconcile(self) -> str:
        """Finds the commit that holds the release, or makes it; safe to repeat after any failure."""
        commit = self._find_or_make()
        self._put_tag(commit)
        return commit

    def _find_or_make(self) -> str:
        head = str(self.api.model_info(self.repository, revision=_BRANCH).sha)
        present = self._present(head)
        missing = self._missing(present)
        # Others may have committed since: the commit that wrote the checksums is the release's own, and keeps it.
        checksums = present.get(f"{self.document.tag}/{CHECKSUMS_NAME}")
        written = checksums.last_commit.oid if checksums and checksums.last_commit else head
        if written != head and not self._missing(self._present(written)):
            return written
        if not missing:
            return head
        size_bytes = sum(self.wanted[path].size_bytes for path in missing)
        self.progress(f"mirror: {len(missing)} files, {size_bytes / 1e6:.1f} MB, to {self.repository}")
        additions = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=self._file(path)) for path in missing]
        # Before the commit looks what it still has to upload: it would upload a file once for each of its paths.
        self.api.preupload_lfs_files(self.repository, additions, revision=_BRANCH)
        made = self.api.create_commit(
            self.repository,
            [
                *additions,
                *self._changes_of_root(head),
                *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in self._surplus(head)),
            ],
            commit_message=f"{_RELEASE}{self.document.tag}",
            revision=_BRANCH,
            parent_commit=head,
        )
        if left := self._missing(self._present(made.oid)):
            raise TransientError(f"a commit without {left[0]}")
        self.brought.update(missing)
        return str(made.oid)

    def _put_tag(self, commit: str) -> None:
        """Lets the release's tag name its commit; one of a try that never became public, or was replaced, moves."""
        tags = {tag.name: tag.target_commit for tag in self.api.list_repo_refs(self.repository).tags}
        if tags.get(self.document.tag) == commit:
            return
        if self.document.tag in tags:
            self.api.delete_tag(self.repository, tag=self.document.tag)
        self.api.create_tag(self.repository, tag=self.document.tag, revision=commit)

    def _changes_of_root(self, head: str) -> list[CommitOperationAdd | CommitOperationDelete]:
        """What makes the repository's root the layout of transformers.js; nothing where others keep files there."""
        sources = {path: self.dist / name for path, name in repository_paths(self.document).items()}
        present = self._files_in(head, "") | self._files_in(head, _MODELS)
        ours = {path for path, file in present.items() if _is_ours(file)}
        layout = {*sources, *ASKED_FOR}
        if foreign := sorted(path for path in present if path in layout and path not in ours):
            self.progress(
                f"warning: {self.repository} has a {foreign[0]} of its own, so from_pretrained of transformers.js does "
                "not find the release there. Mirror to a repository for nothing else."
            )
            return []
        filled = {path: b"{}\n" for path in ASKED_FOR if path not in sources}
        stale = sorted(ours - layout)
        return [
            *(
                CommitOperationAdd(path_in_repo=path, path_or_fileobj=given)
                for path, given in (sources | filled).items()
            ),
            *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in stale),
        ]

    def _surplus(self, commit: str) -> list[str]:
        """What a commit has in the tag's folder that the release has not."""
        return sorted(self._files_in(commit, self.document.tag).keys() - self.wanted.keys())

    def _files_in(self, commit: str, folder: str) -> dict[str, RepoFile]:
        """The files of a folder at a commit, by path."""
        try:
            found = list(self.api.list_repo_tree(self.repository, folder or None, expand=True, revision=commit))
        except EntryNotFoundError:  # The folder is not there yet.
            return {}
        return {file.path: file for file in found if isinstance(file, RepoFile)}

    def _file(self, path: str) -> Path:
        """The local file behind a path of the repository."""
        return self.dist / path.rpartition("/")[2]

    def _present(self, commit: str) -> dict[str, RepoFile]:
        """What a commit has at the paths of the release."""
        found = self.api.get_paths_info(self.repository, list(self.wanted), expand=True, revision=commit)
        return {file.path: file for file in found if isinstance(file, RepoFile)}

    def _missing(self, present: Mapping[str, RepoFile]) -> list[str]:
        """The paths that are not there, or with other bytes."""
        return [path for path, entry in self.wanted.items() if not self._is_right(present.get(path), entry)]

    def _is_right(self, file: RepoFile | None, entry: FileEntry) -> bool:
        """By the sha256 of a large file; by git's id of any other."""
        if file is None or file.size != entry.size_bytes:
            return False
        if file.lfs is not None:
            return bool(file.lfs.sha256 == entry.sha256)
        return bool(file.blob_id == git_blob_id(self._file(entry.name), error=HostError))


def _is_ours(file: RepoFile) -> bool:
    """Whether a release's commit wrote a file last."""
    title = file.last_commit.title if file.last_commit else ""
    return title.startswith(f"{_RELEASE}model-v")
