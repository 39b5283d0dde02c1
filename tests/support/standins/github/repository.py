"""A repository, and what tests do to it without asking over HTTP."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .models import Asset, Clock, Dispatch, Pull, Release
from .objects import BLOB, FILE_MODE, Commit, Entry, ObjectStore, Person

MAX_INLINE_BYTES = 1 << 16
UNPROTECTED, RULESET, CLASSIC, RESTRICTED = "", "ruleset", "classic", "restricted"


@dataclass
class Repository:
    """A repository, with the switches tests need.

    Attributes:
        protected: Branch -> how: `ruleset` and `classic` want pull requests, `restricted` lets
            nobody push; they differ in their answers.
        immutable_releases: Whether releases are immutable from their publication on.
        digests: Whether assets get a digest, as they do since June 2025.
        actions_may_open_pulls: The setting "Allow GitHub Actions to create and approve pull requests";
            another account's token is not bound by it.
        environments: Name -> logins of its required reviewers.
        tags_may_not_deploy: Whether environments are for protected branches alone.
        may_deploy: Else the kind and the pattern of each ref that may; None for all.
        variables: Those of workflows.
        caches: Key -> the ref whose run has kept it.
        burned_tags: Tags of immutable releases; they can never be used again.
    """

    owner: str
    name: str
    clock: Clock
    folder: Path
    default_branch: str = "main"
    private: bool = False
    protected: dict[str, str] = field(default_factory=dict)
    immutable_releases: bool = False
    digests: bool = True
    actions_may_open_pulls: bool = True
    environments: dict[str, list[str]] = field(default_factory=dict)
    tags_may_not_deploy: bool = False
    may_deploy: list[tuple[str, str]] | None = None
    variables: dict[str, str] = field(default_factory=dict)
    caches: dict[str, str] = field(default_factory=dict)
    id: int = 0
    created_at: str = ""
    objects: ObjectStore = field(default_factory=ObjectStore)
    refs: dict[str, str] = field(default_factory=dict)
    releases: dict[int, Release] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    dispatches: list[Dispatch] = field(default_factory=list)
    burned_tags: set[str] = field(default_factory=set)
    latest_id: int | None = None

    def __post_init__(self) -> None:
        self.id = self.clock.next_id()
        self.created_at = self.clock.now()

    @property
    def full_name(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"

    # Git

    def resolve(self, name: str) -> str | None:
        """The commit a branch, tag, full ref or commit id stands for."""
        for ref in (name, f"refs/{name}", f"refs/heads/{name}", f"refs/tags/{name}"):
            if ref in self.refs:
                return self.peeled(self.refs[ref])
        return name if name in self.objects.commits else None

    def peeled(self, sha: str) -> str:
        """The commit behind an annotated tag."""
        while sha in self.objects.tags:
            sha = self.objects.tags[sha].target
        return sha

    def branch_head(self, branch: str) -> str | None:
        """The commit a branch points at."""
        return self.refs.get(f"refs/heads/{branch}")

    def person(self, login: str = "github-actions[bot]") -> Person:
        """An author, now."""
        return Person(login, f"{login}@users.noreply.github.com", self.clock.now())

    def commit(
        self,
        files: Mapping[str, str | bytes | None],
        *,
        branch: str = "",
        message: str = "A commit",
        author: Person | None = None,
    ) -> str:
        """Commits files onto a branch (which it creates); None removes a file. Returns the commit."""
        ref = f"refs/heads/{branch or self.default_branch}"
        parent = self.refs.get(ref)
        changes = {
            path: None if text is None else Entry(FILE_MODE, BLOB, self.objects.put_blob(_as_bytes(text)))
            for path, text in files.items()
        }
        base = self.objects.commits[parent].tree if parent else None
        author = author or self.person()
        commit = Commit(self.objects.tree_with(base, changes), (parent,) if parent else (), author, author, message)
        self.move(ref, self.objects.put_commit(commit))
        return self.refs[ref]

    def move(self, ref: str, sha: str | None) -> None:
        """Points a ref at a commit, or removes it; pull requests follow."""
        if sha is None:
            del self.refs[ref]
        else:
            self.refs[ref] = sha
        if ref.startswith("refs/heads/"):
            for pull in self.open_pulls():
                self._follow(pull, ref.removeprefix("refs/heads/"), sha)

    def _follow(self, pull: Pull, branch: str, sha: str | None) -> None:
        """A pull request closes with its branch, and is merged when its base has all of it."""
        if pull.head == branch and sha is None:
            pull.state, pull.closed_at = "closed", self.clock.now()
        elif pull.head == branch and sha:
            pull.head_sha = sha
        elif pull.base == branch and sha and pull.head_sha in self.objects.history(sha):
            pull.state, pull.merge_commit = "closed", sha
            pull.merged_at = pull.closed_at = self.clock.now()

    def create_branch(self, branch: str, *, start: str = "") -> None:
        """A new branch."""
        sha = self.resolve(start or self.default_branch)
        if sha is None:
            raise ValueError(f"{start!r} must be a branch, tag or commit")
        self.move(f"refs/heads/{branch}", sha)

    def create_tag(self, tag: str, *, target: str = "") -> None:
        """A new lightweight tag."""
        sha = self.resolve(target or self.default_branch)
        if sha is None:
            raise ValueError(f"{target!r} must be a branch, tag or commit")
        self.move(f"refs/tags/{tag}", sha)

    def files(self, ref: str = "") -> dict[str, bytes]:
        """Path -> content, at a branch, tag or commit."""
        sha = self.resolve(ref or self.default_branch)
        tree = self.objects.commits[sha].tree if sha else self.objects.put_tree({})
        return {path: self.objects.blobs[entry.sha] for path, entry in self.objects.files(tree).items()}

    # Releases

    def published(self, tag: str) -> Release | None:
        """The release that is public under a tag."""
        return next((r for r in self.releases.values() if r.tag == tag and not r.draft), None)

    def latest(self) -> Release | None:
        """The release marked as latest, else the newest full one."""
        full = [r for r in self.releases.values() if not (r.draft or r.prerelease)]
        marked = [r for r in full if r.id == self.latest_id]
        return marked[0] if marked else max(full, key=lambda r: (r.created_at, r.id), default=None)

    def add_release(
        self,
        tag: str,
        assets: Mapping[str, bytes] | None = None,
        *,
        draft: bool = False,
        prerelease: bool = False,
        immutable: bool = False,
        body: str = "",
        latest: bool = False,
    ) -> Release:
        """A release that is there from the start."""
        if not draft and f"refs/tags/{tag}" not in self.refs:
            self.create_tag(tag)
        now = self.clock.now()
        made = self.release_date(tag, self.default_branch)
        release = Release(
            self.clock.next_id(), tag, self.default_branch, tag, body, draft, prerelease, made, self.untagged_name(tag)
        )
        release.updated_at, release.published_at, release.immutable = now, None if draft else now, immutable
        for name, content in (assets or {}).items():
            asset = self.new_asset(name, "application/octet-stream", None)
            asset.file.write_bytes(content)
            asset.size_bytes, asset.sha256 = len(content), hashlib.sha256(content).hexdigest()
            asset.state = "uploaded"
            release.assets.append(asset)
        self.releases[release.id] = release
        if immutable:
            self.burned_tags.add(tag)
        if latest:
            self.latest_id = release.id
        return release

    def new_asset(self, name: str, content_type: str, label: str | None) -> Asset:
        """An asset without bytes."""
        number = self.clock.next_id()
        file = self.folder / f"{number}.bin"
        file.touch()
        return Asset(number, name, label, content_type, file, self.clock.now(), has_digest=self.digests)

    def release_date(self, tag: str, target: str) -> str:
        """A release's `created_at`: the date of the commit it is made from."""
        sha = self.resolve(f"refs/tags/{tag}") or self.resolve(target)
        return self.objects.commits[sha].committer.date if sha else self.created_at

    def untagged_name(self, tag: str) -> str:
        """The temporary name in a draft's addresses."""
        return "untagged-" + hashlib.sha256(f"{tag} {self.clock.next_id()}".encode()).hexdigest()[:20]

    def find_asset(self, asset_id: int) -> tuple[Release, Asset] | None:
        """An asset and its release."""
        pairs = ((release, asset) for release in self.releases.values() for asset in release.assets)
        return next((pair for pair in pairs if pair[1].id == asset_id), None)

    def publish(self, release: Release, *, make_latest: str) -> None:
        """Makes a draft public; its tag is made if there is none."""
        if f"refs/tags/{release.tag}" not in self.refs:
            self.create_tag(release.tag, target=release.target)
        release.draft = False
        release.published_at = self.clock.now()
        release.immutable = self.immutable_releases
        if release.immutable:
            self.burned_tags.add(release.tag)
        self.mark_latest(release, make_latest)

    def mark_latest(self, release: Release, make_latest: str) -> None:
        """Drafts and prereleases cannot be the latest, whatever is asked."""
        if make_latest == "true" and not (release.draft or release.prerelease):
            self.latest_id = release.id
        elif make_latest in {"false", "legacy"} and self.latest_id == release.id:
            self.latest_id = None

    # What tests compare

    def open_pulls(self) -> list[Pull]:
        """The pull requests that are open."""
        return [pull for pull in self.pulls if pull.state == "open"]

    def merge(self, pull: Pull) -> None:
        """Merges a pull request, as a person would with the button."""
        head, base = pull.head_sha, self.refs[f"refs/heads/{pull.base}"]
        author = self.person()
        message = f"Merge pull request #{pull.number} from {self.owner}/{pull.head}"
        old, new = self._files_of(pull.base_sha), self._files_of(head)
        changes = {path: new.get(path) for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        tree = self.objects.tree_with(self.objects.commits[base].tree, changes)
        merged = Commit(tree, (base, head), author, author, message)
        self.move(f"refs/heads/{pull.base}", self.objects.put_commit(merged))

    def _files_of(self, commit: str) -> dict[str, Entry]:
        return self.objects.files(self.objects.commits[commit].tree)

    def branches(self) -> Iterator[tuple[str, str]]:
        """Branch and commit, by name."""
        return ((ref[11:], sha) for ref, sha in sorted(self.refs.items()) if ref.startswith("refs/heads/"))

    def tags(self) -> Iterator[tuple[str, str]]:
        """Tag and object, by name."""
        return ((ref[10:], sha) for ref, sha in sorted(self.refs.items()) if ref.startswith("refs/tags/"))

    def snapshot(self) -> dict[str, Any]:
        """Everything that counts, as plain data without ids and times: equal for equal end states."""
        latest = self.latest()
        releases = [
            {
                "tag": release.tag,
                "name": release.name,
                "body": release.body,
                "draft": release.draft,
                "prerelease": release.prerelease,
                "immutable": release.immutable,
                "latest": release is latest,
                "assets": {
                    asset.name: {
                        "sha256": asset.sha256,
                        "size_bytes": asset.size_bytes,
                        "state": asset.state,
                        "label": asset.label,
                        "content_type": asset.content_type,
                    }
                    for asset in sorted(release.assets, key=lambda asset: asset.name)
                },
            }
            for release in self.releases.values()
        ]
        return {
            "releases": sorted(releases, key=lambda release: (release["tag"], release["draft"], str(release))),
            "branches": {
                branch: {
                    "files": {path: _shown(content) for path, content in sorted(self.files(sha).items())},
                    "messages": [self.objects.commits[commit].message for commit in self.objects.history(sha)],
                }
                for branch, sha in self.branches()
            },
            "tags": {tag: self.objects.commits[self.peeled(sha)].tree for tag, sha in self.tags()},
            "pulls": [
                {"head": p.head, "base": p.base, "title": p.title, "body": p.body, "state": p.state} for p in self.pulls
            ],
            "dispatches": [{"workflow": d.workflow, "ref": d.ref, "inputs": dict(d.inputs)} for d in self.dispatches],
        }


def _as_bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _shown(content: bytes) -> str:
    """A file's text, or its hash if it is long or no text."""
    if len(content) <= MAX_INLINE_BYTES:
        try:
            return content.decode()
        except UnicodeDecodeError:
            pass
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
