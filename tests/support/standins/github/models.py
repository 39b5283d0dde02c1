"""What a repository is made of: tokens, releases, assets, pull requests."""

import itertools
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any


class Clock:
    """Ids, and a time that moves a second whenever it is asked: equal runs give equal states."""

    def __init__(self) -> None:
        self._ids = itertools.count(1001)
        self._seconds = itertools.count(1)

    def next_id(self) -> int:
        """A number no other thing has."""
        return next(self._ids)

    def now(self) -> str:
        """The time, as GitHub writes it."""
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(self._seconds))
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Token:
    """What the holder of a token may do.

    Attributes:
        name: How the request log calls it.
        write: What it may write: `contents`, `pull_requests`, `actions`; `administration` it may at least read. Empty
            for a read-only token.
        repositories: The full names of the repositories it is for; empty for all.
        login: The account behind it.
    """

    name: str = "writer"
    write: frozenset[str] = frozenset({"contents", "pull_requests", "actions"})
    repositories: frozenset[str] = frozenset()
    login: str = "github-actions[bot]"

    @property
    def is_actions(self) -> bool:
        """Whether it is a workflow's own token."""
        return self.login == "github-actions[bot]"

    def may_write(self, what: str, repository: str) -> bool:
        """Whether it may write this to that repository."""
        return what in self.write and (not self.repositories or repository in self.repositories)


@dataclass
class Asset:
    """A file of a release; `file` holds the bytes that arrived."""

    id: int
    name: str
    label: str | None
    content_type: str
    file: Path
    created_at: str
    state: str = "starter"
    size_bytes: int = 0
    sha256: str = ""
    has_digest: bool = True
    download_count: int = 0

    @property
    def digest(self) -> str | None:
        """As the API shows it: none on an old asset, none on one that was not uploaded in full."""
        return f"sha256:{self.sha256}" if self.has_digest and self.state == "uploaded" else None


@dataclass
class Release:
    """A release; `untagged` is the name that stands in a draft's addresses."""

    id: int
    tag: str
    target: str
    name: str | None
    body: str | None
    draft: bool
    prerelease: bool
    created_at: str
    untagged: str
    immutable: bool = False
    published_at: str | None = None
    updated_at: str = ""
    assets: list[Asset] = field(default_factory=list)

    @property
    def web_tag(self) -> str:
        """The tag in its web addresses."""
        return self.untagged if self.draft else self.tag


@dataclass
class Pull:
    """A pull request between two branches of one repository."""

    id: int
    number: int
    title: str
    body: str | None
    head: str
    base: str
    head_sha: str
    base_sha: str
    created_at: str
    draft: bool = False
    state: str = "open"
    merged_at: str | None = None
    closed_at: str | None = None
    merge_commit: str | None = None


@dataclass
class Dispatch:
    """A workflow, or an event, that was asked to start, on what and when."""

    workflow: str
    ref: str
    inputs: dict[str, Any]
    head_sha: str = ""
    created_at: str = ""


def asset_name(name: str) -> str:
    """The name GitHub gives to an asset.

    >>> asset_name("my model~v1 (final).onnx"), asset_name(".env"), asset_name("a:b..c+d")
    ('my.model.v1.final.onnx', 'default.env', 'a.b.c+d')
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"\.{2,}", ".", re.sub(r"[^A-Za-z0-9._+-]+", ".", plain))
    if plain.startswith("."):
        plain = f"default{plain}"
    return f"{plain}default" if plain.endswith(".") else plain
