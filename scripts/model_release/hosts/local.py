"""A folder as a release host: `DIR/<tag>/`, flat. Also the in-memory twin's grown-up: same rules, real files."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from model_release.base.errors import HostError
from model_release.base.files import (
    copy_file,
    is_file,
    is_writable,
    make_parents,
    open_file,
    read_bytes,
    remove_made,
    sha256_of,
)
from model_release.base.github_limits import MAX_ASSET_BYTES
from model_release.contract.manifest import MAX_MANIFEST_BYTES
from model_release.hosts.host import ReleaseDetails, T
from model_release.hosts.reconcile import Action, ReleaseState, RemoteFile

_LONGEST_NAME_BYTES = 255  # of common file systems


class LocalHost:
    """Releases in a folder. A release appears under its tag in one rename, complete.

    Args:
        root: The folder that holds one folder a tag.
        base_url: Where `root` is served, if it is; asset URLs then start with it.
    """

    def __init__(self, root: Path, *, base_url: str = "") -> None:
        self._root = root
        self._base_url = base_url.rstrip("/")

    def with_retries(self, attempt: Callable[[], T]) -> T:
        """See `Host`. A folder that fails once fails again."""
        return attempt()

    def state(self, tag: str) -> ReleaseState | None:
        """See `Host`. A folder under its tag is always a published release."""
        folder = self._root / tag
        if not os.path.lexists(folder):
            folder = self._root / f".{tag}.old"  # A run was killed while it replaced the release.
        if not os.path.lexists(folder):
            return None
        try:
            files = tuple(_describe(path) for path in sorted(folder.iterdir()))
        except OSError as failure:
            raise HostError(
                f"{folder} must be a readable folder, got: {failure.strerror}. Move it away or choose another tag."
            ) from failure
        return ReleaseState(published=True, files=files)

    def tags(self) -> Iterable[str]:
        """See `Host`."""
        return sorted(path.name for path in self._root.glob("[!.]*")) if self._root.is_dir() else ()

    def released(self) -> Iterable[str]:
        """See `Host`."""
        return self.tags()

    def read(self, tag: str, name: str) -> bytes | None:
        """See `Host`."""
        path = self._root / tag / name
        try:
            return read_bytes(path, limit_bytes=MAX_MANIFEST_BYTES) if is_file(path) else None
        except OSError as failure:
            raise HostError(
                f"{path} must be readable, got: {failure.strerror}. Give it back its permissions."
            ) from failure

    def copy(self, tag: str, name: str, target: Path) -> None:
        """See `Host`."""
        copy_file(self._root / tag / name, target, error=HostError)

    def apply(
        self,
        tag: str,
        dist: Path,
        actions: Iterable[Action],
        details: ReleaseDetails | None = None,  # noqa: ARG002 - a folder has files and nothing else
    ) -> None:
        """See `Host`. The new folder is complete on disk before it takes the old one's place.

        Raises:
            HostError: The folder cannot be written; what was there stays.
        """
        actions = tuple(actions)
        target, old = self._root / tag, self._root / f".{tag}.old"
        staging: Path | None = None
        made: list[Path] = []
        try:
            made = make_parents(self._root)
            self._repair(tag)
            if all(action.kind == "keep" for action in actions):
                return
            staging = Path(tempfile.mkdtemp(prefix=f".{tag}.", suffix=".partial", dir=self._root))
            for action in actions:
                if action.kind != "delete":
                    _copy(dist / action.name, staging / action.name)
            staging.chmod(0o755)
            if target.exists():
                target.rename(old)  # Until the next line `state` finds the release here.
            staging.rename(target)
            shutil.rmtree(old, ignore_errors=True)
            made = []
        except OSError as failure:
            raise HostError(
                f"{target} must be writable, got: {failure.strerror or failure}. Choose another folder or free space."
            ) from failure
        finally:
            if staging is not None and staging.exists():
                shutil.rmtree(staging)
            if old.exists() and not target.exists():
                old.rename(target)
            remove_made(made)

    def check(self) -> None:
        """Whether releases can be written here, before any is made.

        Raises:
            HostError: The folder is a file, a broken link, or not writable.
        """
        if any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in self._root.parts):
            raise HostError(f"{self._root.name[:40]}... is too long for a folder's name. Choose another one.")
        place = next(path for path in (self._root.absolute(), *self._root.absolute().parents) if os.path.lexists(path))
        if not place.is_dir() or not is_writable(place):
            raise HostError(f"{self._root} must be a folder that can be written, {place} is not. Choose another one.")

    def _repair(self, tag: str) -> None:
        """Puts right what a run left that was killed half way: its copy goes, the release it moved comes back."""
        for folder in self._root.iterdir():
            if re.fullmatch(rf"\.{re.escape(tag)}\.[^.]+\.partial", folder.name):
                shutil.rmtree(folder)
        old, target = self._root / f".{tag}.old", self._root / tag
        if old.exists():
            if target.exists():
                shutil.rmtree(old)
            else:
                old.rename(target)

    def asset_url(self, tag: str, name: str) -> str:
        """See `Host`."""
        return f"{self._base_url}/{tag}/{name}" if self._base_url else (self._root / tag / name).resolve().as_uri()


def _describe(path: Path) -> RemoteFile:
    """A file of a release. What no release of ours holds has no sha256: a folder, a pipe, a sparse giant."""
    size_bytes = path.stat().st_size
    ours = is_file(path) and size_bytes <= MAX_ASSET_BYTES
    return RemoteFile(name=path.name, size_bytes=size_bytes, sha256=sha256_of(path, error=HostError) if ours else "")


def _copy(source: Path, target: Path) -> None:
    """Copies a file and waits until it is on disk."""
    with open_file(source) as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 2**20)
        writer.flush()
        os.fsync(writer.fileno())
