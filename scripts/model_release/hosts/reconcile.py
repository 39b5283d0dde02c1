"""Wanted files x what is there -> actions. Publishing, repairing, a re-run and a dry run are this one function."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from model_release.contract.manifest import FileEntry

ActionKind = Literal["keep", "upload", "replace", "delete", "refuse"]


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as a host holds it.

    Attributes:
        sha256: Empty when the upload did not finish.
    """

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ReleaseState:
    """What a host holds under a tag.

    Attributes:
        published: Whether people can see it.
        immutable: Whether nobody can change it any more, `replace` or not.
        surplus: Unfinished releases of the same tag besides this one; carrying a plan out removes them.
    """

    published: bool
    files: tuple[RemoteFile, ...]
    immutable: bool = False
    surplus: int = 0


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing to do with one file."""

    kind: ActionKind
    name: str
    reason: str


def plan_release(
    wanted: Iterable[FileEntry], state: ReleaseState | None, *, replace: bool = False
) -> tuple[Action, ...]:
    """What turns a host's state into the wanted release.

    Args:
        wanted: Every file of the release.
        state: What is there under the tag; None for nothing.
        replace: Whether a published release may change.

    Returns:
        An action a file, ordered by name. A published release with other content gives `refuse`
        actions in place of changes unless `replace` is set and it is not immutable. Planning again
        after applying gives only `keep`.
    """
    there = {file.name: file for file in state.files} if state else {}
    frozen = state is not None and (state.immutable or (state.published and not replace))
    actions: list[Action] = []
    entries = {entry.name: entry for entry in wanted}
    for name in sorted(entries.keys() | there.keys()):
        entry, file = entries.get(name), there.get(name)
        if entry is None:
            change: ActionKind = "delete"
            reason = "not part of this release"
        elif file is None:
            change, reason = "upload", "not there yet"
        elif file.sha256 == entry.sha256 and file.size_bytes == entry.size_bytes:
            actions.append(Action(kind="keep", name=name, reason="same sha256"))
            continue
        else:
            change, reason = "replace", "upload did not finish" if not file.sha256 else "another sha256"
        actions.append(Action(kind="refuse" if frozen else change, name=name, reason=reason))
    return tuple(actions)
