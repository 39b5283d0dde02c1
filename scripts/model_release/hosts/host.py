"""Where a release goes. Every host answers the same few questions; `plan.py` decides in between."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from model_release.contract.manifest import FileEntry
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

    All but `patiently` is to be called within it: a host far away can fail in passing.
    """

    def patiently(self, attempt: Callable[[], T]) -> T:
        """Runs a pass that reads before it writes; again, from the start, after a failure that may pass."""

    def state(self, tag: str) -> ReleaseState | None:
        """What is there under a tag; None for nothing."""

    def tags(self) -> Iterable[str]:
        """The tags that are taken."""

    def released(self) -> Iterable[str]:
        """The tags under which people see a release."""

    def read(self, tag: str, name: str) -> bytes | None:
        """A small file of a release that people see; None if there is no such release or file."""

    def apply(self, tag: str, dist: Path, actions: Iterable[Action], details: ReleaseDetails | None = None) -> None:
        """Carries actions out with the files of `dist`, so that people see all or nothing."""

    def asset_url(self, tag: str, name: str) -> str:
        """Where a published file is found."""
