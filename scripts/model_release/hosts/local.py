"""A folder as a release host: `DIR/<tag>/`, flat. Also the in-memory twin's grown-up: same rules, real files."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from model_release.errors import HostError
from model_release.files import sha256_of
from model_release.plan import Action, ReleaseState, RemoteFile


class LocalHost:
    """Releases in a folder. A release appears under its tag in one rename, complete.

    Args:
        root: The folder that holds one folder a tag.
        base_url: Where `root` is served, if it is; asset URLs then start with it.
    """

    def __init__(self, root: Path, *, base_url: str = "") -> None:
        self._root = root
        self._base_url = base_url.rstrip("/")

    def state(self, tag: str) -> ReleaseState | None:
        """See `Host`. A folder under its tag is always a published release."""
        folder = self._root / tag
        if not folder.exists():
            return None
        try:
            files = tuple(
                RemoteFile(
                    name=path.name,
                    size_bytes=path.stat().st_size,
                    sha256=sha256_of(path, error=HostError) if path.is_file() else "",
                )
                for path in sorted(folder.iterdir())
            )
        except OSError as failure:
            raise HostError(
                f"{folder} must be a readable folder, got: {failure.strerror}. Move it away or choose another tag."
            ) from failure
        return ReleaseState(published=True, files=files)

    def tags(self) -> Iterable[str]:
        """See `Host`."""
        return sorted(path.name for path in self._root.glob("[!.]*")) if self._root.is_dir() else ()

    def apply(self, tag: str, dist: Path, actions: Iterable[Action]) -> None:
        """See `Host`. The new folder is complete on disk before it takes the old one's place.

        Raises:
            HostError: The folder cannot be written; what was there stays.
        """
        actions = tuple(actions)
        if all(action.kind == "keep" for action in actions):
            return
        target = self._root / tag
        staging: Path | None = None
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers(tag)
            staging = Path(tempfile.mkdtemp(prefix=f".{tag}.", suffix=".partial", dir=self._root))
            for action in actions:
                if action.kind != "delete":
                    _copy(dist / action.name, staging / action.name)
            staging.chmod(0o755)
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{tag}.", suffix=".old", dir=self._root))
                target.rename(old / tag)
                staging.rename(target)
                shutil.rmtree(old)
            else:
                staging.rename(target)
        except OSError as failure:
            raise HostError(
                f"{target} must be writable, got: {failure.strerror or failure}. Choose another folder or free space."
            ) from failure
        finally:
            if staging is not None and staging.exists():
                shutil.rmtree(staging)

    def _remove_leftovers(self, tag: str) -> None:
        """Folders of an earlier run that was killed half way."""
        for pattern in (f".{tag}.*.partial", f".{tag}.*.old"):
            for folder in self._root.glob(pattern):
                shutil.rmtree(folder)

    def asset_url(self, tag: str, name: str) -> str:
        """See `Host`."""
        return f"{self._base_url}/{tag}/{name}" if self._base_url else (self._root / tag / name).resolve().as_uri()


def _sha256(path: Path) -> str:
    """A file's hash; a folder has none, and no release holds one."""
    return sha256_of(path, error=HostError) if path.is_file() else ""


def _copy(source: Path, target: Path) -> None:
    """Copies a file and waits until it is on disk."""
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 2**20)
        writer.flush()
        os.fsync(writer.fileno())
