"""A mirror in a model repository of the Hugging Face Hub, whose files any page may read.

A release is one commit that puts its files, and no others, into the folder named by its tag; the URL names that
commit, so what it gives never changes. Running again finds the commit and makes no other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.hf_api import RepoFile

from model_release.base.errors import HostError
from model_release.base.files import git_blob_id
from model_release.base.hub_client import HubCalls, bounded, endpoint
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy, TransientError
from model_release.contract.manifest import CHECKSUMS_NAME, FileEntry
from model_release.hosts.mirror import match_target

_BRANCH = "main"
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
        tag: str,
        dist: Path,
        entries: Iterable[FileEntry],
        *,
        was_public: bool,  # noqa: ARG002 - a page's URL names its commit, which nothing changes
    ) -> tuple[str, tuple[str, ...]]:
        """Commits what is missing, and reads back that all of it is there.

        What else lay in the tag's folder goes in the same commit.

        Returns:
            The URL of the release's folder at its commit, and the names that were committed.

        Raises:
            HostError: The hub stays away or refuses.
        """
        wanted = {f"{tag}/{entry.name}": entry for entry in entries}
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
            brought: set[str] = set()
            attempt = _Attempt(HfApi(), self._repository, tag, dist, wanted, brought, self._progress)
            commit = calls.with_retries(f"the repository {self._repository}", attempt.reconcile)
        folder = f"{endpoint()}/{self._repository}/resolve/{commit}/{quote(tag)}"
        return folder, tuple(sorted(name.removeprefix(f"{tag}/") for name in brought))


@dataclass(frozen=True)
class _Attempt:
    """One release on its way into one repository; `brought` collects what any attempt has committed."""

    api: HfApi
    repository: str
    tag: str
    dist: Path
    wanted: Mapping[str, FileEntry]
    brought: set[str]
    progress: Progress

    def reconcile(self) -> str:
        """Finds the commit that holds the release, or makes it; safe to repeat after any failure."""
        head = str(self.api.model_info(self.repository, revision=_BRANCH).sha)
        present = self._present(head)
        missing = self._missing(present)
        # Others may have committed since: the commit that wrote the checksums is the release's own, and keeps it.
        checksums = present.get(f"{self.tag}/{CHECKSUMS_NAME}")
        written = checksums.last_commit.oid if checksums and checksums.last_commit else head
        if written != head and not self._missing(self._present(written)):
            return written
        if not missing:
            return head
        size_bytes = sum(self.wanted[path].size_bytes for path in missing)
        self.progress(f"mirror: {len(missing)} files, {size_bytes / 1e6:.1f} MB, to {self.repository}")
        made = self.api.create_commit(
            self.repository,
            [
                *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=self._file(path)) for path in missing),
                *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in self._surplus(head)),
            ],
            commit_message=f"Release {self.tag}",
            revision=_BRANCH,
            parent_commit=head,
        )
        if left := self._missing(self._present(made.oid)):
            raise TransientError(f"a commit without {left[0]}")
        self.brought.update(missing)
        return str(made.oid)

    def _file(self, path: str) -> Path:
        """The local file behind a path of the repository."""
        return self.dist / path.rpartition("/")[2]

    def _present(self, commit: str) -> dict[str, RepoFile]:
        """What a commit has at the paths of the release."""
        found = self.api.get_paths_info(self.repository, list(self.wanted), expand=True, revision=commit)
        return {file.path: file for file in found if isinstance(file, RepoFile)}

    def _surplus(self, commit: str) -> list[str]:
        """What a commit has in the tag's folder that the release has not."""
        try:
            found = list(self.api.list_repo_tree(self.repository, self.tag, recursive=True, revision=commit))
        except EntryNotFoundError:  # The folder is not there yet.
            return []
        return sorted(file.path for file in found if isinstance(file, RepoFile) and file.path not in self.wanted)

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
