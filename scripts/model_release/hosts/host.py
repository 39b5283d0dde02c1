"""Where a release goes. Every host answers the same few questions; `reconcile` decides in between."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from model_release.contract.manifest import FileEntry, Manifest
from model_release.hosts.reconcile import Action, ReleaseState

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReleaseDetails:
    """What a release is besides its files.

    Attributes:
        files: The wanted files, against which a host checks what it holds before people see it.
        notes: Text for people, in Markdown.
        prerelease: Whether it is offered as one.
        latest: Whether it becomes the repository's latest release.
    """

    files: tuple[FileEntry, ...] = ()
    notes: str = ""
    prerelease: bool = False
    latest: bool = False


class Host(Protocol):
    """A place that holds releases by tag.

    All but `with_retries` is to be called within it: a host far away can fail in passing.
    """

    def with_retries(self, attempt: Callable[[], T]) -> T:
        """Runs a pass that reads before it writes; again, from the start, after a failure that may pass."""

    def state(self, tag: str) -> ReleaseState | None:
        """What is there under a tag; None for nothing."""

    def tags(self) -> Iterable[str]:
        """The tags that are taken."""

    def released(self) -> Iterable[str]:
        """The tags under which people see a release."""

    def read(self, tag: str, name: str) -> bytes | None:
        """A small file of a release that people see; None if there is no such release or file."""

    def copy(self, tag: str, name: str, target: Path) -> None:
        """Copies a file of a release that people see, of any size, to `target`; the caller judges its bytes."""

    def apply(self, tag: str, dist: Path, actions: Iterable[Action], details: ReleaseDetails | None = None) -> None:
        """Carries actions out with the files of `dist`, so that people see all or nothing."""

    def asset_url(self, tag: str, name: str) -> str:
        """Where a published file is found."""


class Mirror(Protocol):
    """A place that serves files to any origin."""

    def upload(
        self, document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool
    ) -> tuple[str, tuple[str, ...]]:
        """Uploads what is missing; returns the folder's URL and the names that were uploaded.

        What tries left that never became public goes. `was_public`: whether a release under the tag has been public,
        so that pages may use what else lies under it.
        """


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A file being read.

    Attributes:
        start: Offset of the first byte in `pieces`; None if the wanted offset cannot be had.
        size_bytes: Of the whole file, where the source says so.
        etag: A strong one, or empty.
        pieces: The bytes as they arrive; reading them raises `TransientError`.
    """

    start: int | None
    size_bytes: int | None
    etag: str
    pieces: Iterator[bytes]


class Source(Protocol):
    """A release, file by file."""

    def describe(self) -> str:
        """What it is, for a message."""

    def open(self, name: str, *, start: int, etag: str, deadline: float) -> AbstractContextManager[Opened]:
        """Opens a file at an offset.

        Args:
            name: A name that `app.files` has accepted.
            start: Where to go on.
            etag: Of the bytes before; empty if unknown.
            deadline: Of `time.monotonic`.

        Raises:
            TransientError: It may go better later.
            HostError: It will not.
        """
