"""GitHub Releases as a host: draft -> complete and checked -> public, by reconciliation.

Each pass reads what is there, and writes only what is missing; `github_client.with_retries` repeats passes,
never requests. Draft releases of a tag can be several (a lost answer, a second publisher): the oldest
one counts, the others are removed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import github
from github.GithubObject import NotSet, Opt
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from github.Repository import Repository

from model_release.base.errors import HostError
from model_release.base.github_client import RETRY_POLICY, Client, with_retries
from model_release.base.github_limits import MAX_ASSETS
from model_release.base.github_words import BURNED_TAG, NO_PERMISSION, words_of
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy, TransientError
from model_release.contract.manifest import FileEntry, describe_files
from model_release.hosts.github_assets import Assets
from model_release.hosts.host import ReleaseDetails, T
from model_release.hosts.reconcile import Action, ReleaseState, RemoteFile, plan_release

# GitHub joins dots and adds to a name that ends in one: such a name would not come back as it was sent.
_REWRITTEN = re.compile(r"\.\.|\.\Z")
_ELSEWHERE = "somebody else is changing this release"
_SECOND_LOOK_S = 20.0


class GitHubHost:
    """Releases of a GitHub repository.

    Args:
        client: From `github_client.connect`.
        repository: `owner/name`, as `GitHubAccess` has accepted it.
        commit: What a release's tag stands for, where it is made with the release; empty leaves that to GitHub, which
            takes the default branch's newest commit.
        retry_policy: How often a pass is run, and how long.
        progress: Told one sentence at a time.
    """

    def __init__(
        self,
        client: Client,
        repository: str,
        *,
        commit: str = "",
        retry_policy: RetryPolicy = RETRY_POLICY,
        progress: Progress = silent,
    ) -> None:
        self._client, self._name, self._retry_policy, self._progress = client, repository, retry_policy, progress
        self._commit, self._assets = commit, Assets(client, progress)
        self._opened: Repository | None = None
        self._listed: list[GitRelease] | None = None
        self._made: dict[str, int] = {}  # tag -> the draft we made; a list can lag behind
        self._attempted: set[str] = set()  # uploads of ours, so that what they left is not taken for another's
        self._sighted: set[int] = set()

    def with_retries(self, attempt: Callable[[], T]) -> T:
        """See `Host`."""
        return with_retries(attempt, self._retry_policy, self._progress, what=self._name)

    # Reading

    def state(self, tag: str) -> ReleaseState | None:
        """See `Host`. Finds drafts too, if the token may write."""
        releases = self._releases(tag)
        if not releases:
            return None
        with _settled():
            return self._state(releases[0], self._files(releases[0]), surplus=len(releases) - 1)

    def tags(self) -> Iterable[str]:
        """See `Host`: tags in git, and tags that drafts wait for."""
        listed = {release.tag_name for release in self._repository.get_releases()}
        refs = self._repository.get_git_matching_refs("tags/model-v")
        return sorted(listed | {ref.ref.removeprefix("refs/tags/") for ref in refs})

    def released(self) -> Iterable[str]:
        """See `Host`; as of the last look, if there was one in this pass."""
        listed = self._listed if self._listed is not None else list(self._repository.get_releases())
        return sorted(release.tag_name for release in listed if not release.draft)

    def read(self, tag: str, name: str) -> bytes | None:
        """See `Host`.

        Raises:
            HostError: The file is not small.
        """
        asset = self._published(tag, name)
        if asset is None or asset.state != "uploaded":
            return None
        with _settled():
            return self._assets.read(asset, f"{name} of {tag}")

    def copy(self, tag: str, name: str, target: Path) -> None:
        """See `Host`."""
        asset = self._published(tag, name)
        if asset is None or asset.state != "uploaded":
            raise TransientError(f"{name} is not in the published release {tag}")
        with _settled():
            self._assets.copy(asset, target)

    def asset_url(self, tag: str, name: str) -> str:
        """See `Host`. A draft's addresses are temporary, so this asks for the published release."""
        asset = self._published(tag, name)
        if asset is None:  # Reads can lag behind writes.
            raise TransientError(f"{name} is not in the published release {tag}")
        return asset.browser_download_url

    # Writing

    def apply(self, tag: str, dist: Path, actions: Iterable[Action], details: ReleaseDetails | None = None) -> None:
        """See `Host`. Nothing is public before every name, size and sha256 is as wanted.

        Raises:
            HostError: GitHub would rename a file, or refuses for good.
            TransientError: Something else is there than when the plan was made.
        """
        actions, details = tuple(actions), details or ReleaseDetails()
        names = [action.name for action in actions if action.kind != "delete"]
        files = details.files or describe_files(dist, names)
        _require_possible(files)
        releases = self._releases(tag)
        if not releases:
            self._create(tag, details)
            releases = self._releases(tag)
        with _settled():
            for draft in releases[1:]:
                self._discard(draft)
            self._complete(releases[0], dist, actions, files, details)

    def _complete(
        self,
        release: GitRelease,
        dist: Path,
        actions: tuple[Action, ...],
        files: Sequence[FileEntry],
        details: ReleaseDetails,
    ) -> None:
        """Brings a release to what is wanted, then shows it."""
        assets = self._files(release)
        # A plan is carried out only on what it was made for.
        if plan_release(files, self._state(release, assets), replace=True) != actions:
            raise TransientError(_ELSEWHERE)
        entries = {entry.name: entry for entry in files}
        changes = sorted((action for action in actions if action.kind != "keep"), key=_order)
        if changes and not release.draft and details.notes not in ("", release.body):
            # First, so that a release with all its files has its notes too, wherever a run was killed.
            release.update_release(
                release.tag_name, details.notes, draft=False, prerelease=release.prerelease, tag_name=release.tag_name
            )
        for action in changes:
            if action.kind in ("delete", "replace"):
                self._remove(release, assets[action.name])
            if action.kind in ("upload", "replace"):
                self._attempted.add(action.name)
                self._assets.upload(release, dist / action.name, entries[action.name])
        if changes:
            left = plan_release(files, self._state(release, self._files(release)), replace=True)
            wrong = [action for action in left if action.kind != "keep"]
            if wrong:
                raise TransientError(f"{wrong[0].name} must be as wanted before anyone sees it: {wrong[0].reason}")
        if release.draft:
            self._publish(release, details)

    def _create(self, tag: str, details: ReleaseDetails) -> None:
        """A new draft."""
        self._progress(f"Making a draft of {tag}")
        with self._tagging(tag) as target:
            made = self._repository.create_git_release(
                tag,
                tag,
                details.notes,
                draft=True,
                prerelease=details.prerelease,
                make_latest="false",
                target_commitish=target,
            )
        self._made[tag] = made.id

    @contextmanager
    def _tagging(self, tag: str) -> Iterator[Opt[str]]:
        """What a request says of the commit that GitHub tags with a release: nothing where there is a tag.

        A branch in place of a commit as far as possible: a workflow's token may name no commit whose workflow files
        are new (https://github.com/cli/cli/issues/9514), as those of a first release often are.

        Raises:
            HostError: The commit must be named, and the token may not.
        """
        if not self._commit or self._tagged(tag):
            yield NotSet
            return
        branch = self._repository.default_branch
        if self._repository.get_branch(branch).commit.sha == self._commit:
            yield branch
            return
        try:
            yield self._commit
        except github.GithubException as failure:
            if failure.status == 403 and NO_PERMISSION in words_of(failure.data):
                raise HostError(
                    f"{tag} must stand for this run's commit {self._commit[:10]}, but {branch} has moved on and "
                    "GITHUB_TOKEN may tag no other commit. Push the tag (git push origin "
                    f"{self._commit}:refs/tags/{tag}), and run this again."
                ) from failure
            raise

    def _tagged(self, tag: str) -> bool:
        """Whether git has the tag."""
        wanted = f"refs/tags/{tag}"
        return any(ref.ref == wanted for ref in self._repository.get_git_matching_refs(f"tags/{tag}"))

    def _discard(self, draft: GitRelease) -> None:
        """Removes a surplus draft; a list can lag behind, so it is asked once more whether it is one."""
        if self._repository.get_release(draft.id).draft:
            self._progress(f"Removing a surplus draft of {draft.tag_name}")
            draft.delete_release()

    def _remove(self, release: GitRelease, asset: GitReleaseAsset) -> None:
        """Removes a file. One that is not complete may be on its way from another publisher: looked at twice."""
        if asset.state != "uploaded" and asset.name not in self._attempted and asset.id not in self._sighted:
            self._sighted.add(asset.id)
            raise TransientError(f"{asset.name} is unfinished, perhaps on its way from elsewhere", _SECOND_LOOK_S)
        now = self._repository.get_release(release.id)
        if now.draft != release.draft or now.immutable:
            raise TransientError(_ELSEWHERE)
        self._progress(f"Removing {asset.name}")
        asset.delete_asset()

    def _publish(self, release: GitRelease, details: ReleaseDetails) -> None:
        """Shows a draft to everyone."""
        tag = release.tag_name
        self._progress(f"Publishing {tag}")
        try:
            with self._tagging(tag) as target:
                release.update_release(
                    tag,
                    details.notes,
                    draft=False,
                    prerelease=details.prerelease,
                    tag_name=tag,
                    make_latest="true" if details.latest else "false",
                    target_commitish=target,
                )
        except github.GithubException as failure:
            if failure.status == 422 and BURNED_TAG in str(failure.data):
                release.delete_release()
                raise HostError(
                    f"{tag} must be a tag that no immutable release had, and one had it: it can never be used again. "
                    "Use the next version."
                ) from failure
            raise
        for other in self._releases(tag):
            if other.id != release.id:  # Of a publisher that has not seen ours yet.
                self._discard(other)

    # What is there

    @property
    def _repository(self) -> Repository:
        if self._opened is None:  # Opened once: PyGithub paces the writes of one object's family.
            self._opened = self._client.get_repo(self._name)
        return self._opened

    def _releases(self, tag: str) -> list[GitRelease]:
        """The published release of a tag and then its drafts, oldest first."""
        self._listed = list(self._repository.get_releases())
        found = {release.id: release for release in self._listed if release.tag_name == tag}
        made = self._made.get(tag)
        if made is not None and made not in found:
            try:
                found[made] = self._repository.get_release(made)
            except github.UnknownObjectException:
                del self._made[tag]
        return sorted(found.values(), key=lambda release: (release.draft, release.id))

    @staticmethod
    def _files(release: GitRelease) -> dict[str, GitReleaseAsset]:
        return {asset.name: asset for asset in release.get_assets()}

    def _state(self, release: GitRelease, assets: dict[str, GitReleaseAsset], *, surplus: int = 0) -> ReleaseState:
        return ReleaseState(
            published=not release.draft,
            immutable=bool(release.immutable),
            surplus=surplus,
            files=tuple(
                RemoteFile(name=name, size_bytes=asset.size, sha256=self._assets.sha256(asset))
                for name, asset in assets.items()
            ),
        )

    def _published(self, tag: str, name: str) -> GitReleaseAsset | None:
        try:
            release = self._repository.get_release(tag)
        except github.UnknownObjectException:
            return None
        return next((asset for asset in release.assets if asset.name == name), None)


@contextmanager
def _settled() -> Iterator[None]:
    """What was listed a moment ago and is gone now calls for another look, not for an end."""
    try:
        yield
    except github.UnknownObjectException as failure:
        raise TransientError(_ELSEWHERE) from failure


def _order(action: Action) -> tuple[bool, str]:
    """What is missing first: what another publisher is uploading may have arrived by then."""
    return action.kind == "replace", action.name


def _require_possible(files: Sequence[FileEntry]) -> None:
    """Refuses, before any upload, what GitHub would refuse or rename."""
    for entry in files:
        if _REWRITTEN.search(entry.name):
            raise HostError(f"{entry.name!a} must keep its name, but GitHub rewrites dots like these. Rename the file.")
        if entry.size_bytes == 0:
            raise HostError(f"{entry.name} must not be empty to be a release asset. Remove it, or make it again.")
    if len(files) > MAX_ASSETS:
        raise HostError(f"a release must have at most {MAX_ASSETS} files, got {len(files)}. Leave some out.")
