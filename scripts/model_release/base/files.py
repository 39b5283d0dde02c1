"""Files: reads of what is a file and of a sane size, writes that happen whole or not at all, and hashes."""

import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_release.base.errors import ReleaseError

_LONGEST_NAME_BYTES = 255 - len(".12345678.partial")  # of common file systems, with room for the temporary file's


_LARGEST_BYTES = 1 << 40
"""Larger files than any that is meant: a sparse one may claim to be so large, and would be read for days."""


_DIGESTED_BYTES = 1 << 22
"""Of a file, in one step."""


_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
_POINTER_BYTES = 1024  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md: a pointer has fewer.

LFS_POINTER = "a Git LFS pointer in place of the file (run `git lfs pull`, or give actions/checkout `lfs: true`)"


def open_file(path: Path, *, limit_bytes: int = _LARGEST_BYTES) -> io.BufferedReader:
    """Opens a file to read it: every file that somebody else may have put there is opened here.

    Args:
        path: Perhaps a pipe that nobody writes to, a device without end, or a sparse file of terabytes.
        limit_bytes: The largest that is sane for what the file is.

    Raises:
        OSError: It cannot be read, is no regular file, is larger, or is a pointer to where Git LFS keeps the file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as failure:  # A zero byte in the path.
        raise FileNotFoundError(errno.ENOENT, str(failure)) from failure
    try:
        _require_sane(handle, limit_bytes)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _require_sane(handle: int, limit_bytes: int) -> None:
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "a pipe, a socket or a device")
    if found.st_size > limit_bytes:
        raise OSError(errno.EFBIG, f"{found.st_size} bytes, which must be at most {limit_bytes} bytes")
    if found.st_size < _POINTER_BYTES:
        start = os.read(handle, len(_POINTER))
        os.lseek(handle, 0, os.SEEK_SET)
        if start == _POINTER:
            raise OSError(errno.EINVAL, LFS_POINTER)


def read_bytes(path: Path, *, limit_bytes: int) -> bytes:
    """A small file's content; see `open_file`.

    Raises:
        OSError: See `open_file`.
    """
    with open_file(path, limit_bytes=limit_bytes) as file:
        expected_bytes = os.fstat(file.fileno()).st_size  # Memory for the limit would be many times as much.
        content = file.read(expected_bytes + 1)
        if len(content) > expected_bytes:  # It grows, or the system makes it up as it is read.
            content += file.read(limit_bytes + 1 - len(content))
    if len(content) > limit_bytes:
        raise OSError(errno.EFBIG, f"more than {limit_bytes} bytes")
    return content


def is_pointer(path: Path) -> bool:
    """Whether Git LFS keeps the file elsewhere, and has put a pointer here."""
    try:
        open_file(path, limit_bytes=_POINTER_BYTES).close()
    except OSError as failure:
        return failure.strerror == LFS_POINTER
    return False


def is_file(path: Path) -> bool:
    """Whether a path names a regular file; a path that nothing can be at names none."""
    try:
        return path.is_file()
    except OSError:
        return False


@contextmanager
def atomic_path(target: Path, *, error: type[ReleaseError], durable: bool = True) -> Iterator[Path]:
    """Gives a temporary path beside `target` that becomes `target` when the block ends well.

    The temporary file is removed on any failure, Ctrl-C included; `target` then is what it was
    before. Parent folders are made, and those made here are removed again on failure.

    Args:
        target: The file to write. A symbolic link is followed, so the link stays a link.
        error: The class to raise for a path that cannot be written; it decides the exit code.
        durable: Whether it must outlive a power failure, for which the disk is waited for.

    Yields:
        A path in the same folder, so that the final rename stays within one file system.

    Raises:
        ReleaseError: `error`, when the operating system refuses (permissions, a full disk, a
            folder in the file's place).
    """
    target = Path(os.path.realpath(target))
    check_replaceable(target, error=error)
    made: list[Path] = []
    temporary: Path | None = None
    try:
        made = make_parents(target.parent)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        if durable:
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except BaseException as failure:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        remove_made(made)
        if isinstance(failure, OSError):
            raise error(
                f"{target} must be writable, got: {failure.strerror or failure}. "
                "Choose another path, or free the space and the permissions it needs."
            ) from failure
        raise


def write_bytes(target: Path, content: bytes, *, error: type[ReleaseError]) -> None:
    """Writes `content` to `target` whole or not at all; see `atomic_path`."""
    with atomic_path(target, error=error) as temporary:
        temporary.write_bytes(content)


def copy_file(source: Path, target: Path, *, error: type[ReleaseError]) -> None:
    """Copies a file whole or not at all; see `atomic_path`."""
    with atomic_path(target, error=error) as temporary, open_file(source):
        shutil.copyfile(source, temporary)


def sha256_of(path: Path, *, error: type[ReleaseError]) -> str:
    """The sha256 of a file, in hex; it is read in chunks.

    Raises:
        ReleaseError: `error`, when the file cannot be read.
    """
    try:
        with open_file(path) as file:
            return _digest(file, hashlib.sha256())
    except OSError as failure:
        raise error(f"{path} must be readable, got: {failure.strerror or failure}. Make it readable.") from failure


def sha256_of_bytes(content: bytes) -> str:
    """The sha256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def git_blob_digest(size_bytes: int) -> "hashlib._Hash":
    """What hashes a blob: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects, "Object Storage"."""
    return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)


def git_blob_id(path: Path, *, error: type[ReleaseError]) -> str:
    """Git's id of a file's content, in hex; it is read in chunks.

    Raises:
        ReleaseError: `error`, when the file cannot be read.
    """
    try:
        with open_file(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            return _digest(file, git_blob_digest(size_bytes))
    except OSError as failure:
        raise error(f"{path} must be readable, got: {failure.strerror or failure}. Make it readable.") from failure


def _digest(file: io.BufferedReader, digest: "hashlib._Hash") -> str:
    """The digest of a file's bytes, in hex.

    Parts are larger than those of `hashlib.file_digest`: beside a busy thread, Python makes each wait its turn.
    """
    part = memoryview(bytearray(min(_DIGESTED_BYTES, os.fstat(file.fileno()).st_size + 1)))
    while length := file.readinto(part):
        digest.update(part[:length])
    return digest.hexdigest()


def check_replaceable(target: Path, *, error: type[ReleaseError]) -> None:
    """Only a file may be replaced: not a folder, not a device or a pipe, and not what cannot have a name.

    Raises:
        ReleaseError: `error`.
    """
    longest = max(target.parts, key=lambda part: len(os.fsencode(part)))
    if len(os.fsencode(longest)) > _LONGEST_NAME_BYTES:
        raise error(f"{longest[:40]}... is too long for a file's name. Choose another path.")
    if os.path.lexists(target) and not is_file(target):
        what = "a directory" if target.is_dir() else "no file"
        raise error(f"{target} must be a file to write, it is {what}. Choose another path.")


def is_writable(path: Path) -> bool:
    """Whether permissions and the file system allow writing; root, whom they do not stop, keeps them too."""
    return bool(path.stat().st_mode & 0o222) and os.access(path, os.W_OK)


def remove_made(folders: list[Path]) -> None:
    """Removes folders that `make_parents` made, as far as they are empty."""
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            break  # Something else was put there meanwhile; it is not ours to remove.


def make_parents(folder: Path) -> list[Path]:
    """Makes `folder` and what is missing above it; returns the made ones, topmost first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    missing.reverse()
    for path in missing:
        path.mkdir(exist_ok=True)
    return missing


def _umask() -> int:
    """The process's umask; reading it means setting it, so it is put back at once."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
