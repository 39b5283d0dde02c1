"""Files of a GitHub release: read, hashed and sent, each checked against what GitHub says of it."""

import hashlib
import io
import time
from pathlib import Path
from typing import BinaryIO, cast

from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset

from model_release.base.errors import HostError, ManifestError
from model_release.base.files import atomic_path, open_file
from model_release.base.github_client import Client, download, transfer_s
from model_release.base.progress import Progress
from model_release.base.retry import TransientError
from model_release.contract.manifest import FileEntry

_MAX_READ_BYTES = 1 << 24
_PROGRESS_S = 10.0


class Assets:
    """The bytes of a repository's release assets, out and in.

    Args:
        client: From `github_client.connect`.
        progress: Told one sentence at a time.
    """

    def __init__(self, client: Client, progress: Progress) -> None:
        self._client, self._progress = client, progress
        self._digests: dict[int, str] = {}  # asset -> sha256; an asset's bytes never change

    def read(self, asset: GitReleaseAsset, what: str) -> bytes:
        """A small file's content.

        Args:
            asset: The file; its upload has ended.
            what: The file and its release, for messages.

        Raises:
            HostError: The file is not small.
            TransientError: Other bytes arrived than GitHub has.
        """
        if asset.size > _MAX_READ_BYTES:
            raise HostError(f"{what} must be small, got {asset.size} bytes. Remove that release.")
        content = b"".join(download(self._client, asset.url))
        known = asset.digest
        if known and known != f"sha256:{hashlib.sha256(content).hexdigest()}":
            raise TransientError(f"{what} arrived with other bytes")
        return content

    def copy(self, asset: GitReleaseAsset, target: Path) -> None:
        """Downloads a file; `target` is there once all of it is."""
        self._progress(f"Reading {asset.name} of the release ({asset.size / 1e6:.1f} MB)")
        with atomic_path(target, error=HostError, durable=False) as temporary, temporary.open("wb") as file:
            for piece in download(self._client, asset.url):
                file.write(piece)

    def sha256(self, asset: GitReleaseAsset) -> str:
        """An asset's hash; empty if its upload did not finish. GitHub knows it since June 2025."""
        if asset.state != "uploaded":
            return ""
        if asset.digest and asset.digest.startswith("sha256:"):
            return asset.digest.removeprefix("sha256:")
        if asset.id not in self._digests:
            self._progress(f"Hashing {asset.name}, whose sha256 GitHub does not know ({asset.size / 1e6:.1f} MB)")
            digest = hashlib.sha256()
            for piece in download(self._client, asset.url):
                digest.update(piece)
            self._digests[asset.id] = digest.hexdigest()
        return self._digests[asset.id]

    def upload(self, release: GitRelease, path: Path, entry: FileEntry) -> None:
        """Sends a file, and checks what GitHub says it got.

        Raises:
            HostError: GitHub gave it another name.
            ManifestError: The file is not readable, or changed meanwhile.
        """
        self._progress(f"Uploading {entry.name} ({entry.size_bytes / 1e6:.1f} MB)")
        try:
            with open_file(path) as file:
                body = _Body(file, entry, self._progress)
                asset = release.upload_asset_from_memory(
                    cast(BinaryIO, body), entry.size_bytes, entry.name, "application/octet-stream"
                )
        except OSError as failure:
            if isinstance(failure, FileNotFoundError | PermissionError | IsADirectoryError):
                raise ManifestError(f"{path} must be readable, got: {failure.strerror}. Restore it.") from failure
            raise  # requests' errors are OSErrors too.
        if asset.name != entry.name:
            asset.delete_asset()
            raise HostError(f"GitHub must keep the name {entry.name}, got {asset.name[:80]!a}. Rename the file.")
        if body.sha256 != entry.sha256:
            asset.delete_asset()
            raise ManifestError(f"{path} must not change while it is uploaded. Make the release again.")


class _Body(io.RawIOBase):
    """A file on its way out: hashed, bounded in time, with progress. requests takes its length for the header."""

    def __init__(self, file: io.BufferedReader, entry: FileEntry, progress: Progress) -> None:
        self._file, self._entry, self._progress = file, entry, progress
        self._hash, self._sent_bytes = hashlib.sha256(), 0
        self._deadline = time.monotonic() + transfer_s(entry.size_bytes)
        self._tell_at = time.monotonic() + _PROGRESS_S

    def __len__(self) -> int:
        return self._entry.size_bytes

    def __bool__(self) -> bool:
        return True

    @property
    def sha256(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`; requests subtracts it from the length."""
        return self._sent_bytes

    def read(self, size: int = -1) -> bytes:
        """The next bytes, never more than were promised."""
        now = time.monotonic()
        if now > self._deadline:
            raise TransientError(f"the upload of {self._entry.name} did not end in time")
        left = self._entry.size_bytes - self._sent_bytes
        piece = self._file.read(min(size, left) if size >= 0 else left)
        if left and size and not piece:
            raise ManifestError(f"{self._entry.name} must not shrink while it is uploaded. Make the release again.")
        self._hash.update(piece)
        self._sent_bytes += len(piece)
        if now > self._tell_at:
            self._tell_at = now + _PROGRESS_S
            self._progress(f"  {self._entry.name}: {self._sent_bytes / max(1, self._entry.size_bytes):.0%} sent")
        return piece
