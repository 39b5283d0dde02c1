"""Where a release goes. Every host answers the same few questions; `plan.py` decides in between."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from model_release.plan import Action, ReleaseState


class Host(Protocol):
    """A place that holds releases by tag."""

    def state(self, tag: str) -> ReleaseState | None:
        """What is there under a tag; None for nothing."""

    def tags(self) -> Iterable[str]:
        """The tags that are taken."""

    def apply(self, tag: str, dist: Path, actions: Iterable[Action]) -> None:
        """Carries actions out with the files of `dist`, so that people see all or nothing."""

    def asset_url(self, tag: str, name: str) -> str:
        """Where a published file is found."""
