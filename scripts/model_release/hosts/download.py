"""Gets a release's files onto this disk: with retries, going on where it broke off, and only with the right bytes."""

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from model_release.base.errors import ExportError, HostError, ManifestError, UnfinishedDownloadError
from model_release.base.files import is_file, make_parents, remove_made, sha256_of
from model_release.base.lock import locked
from model_release.base.progress import Progress
from model_release.base.retry import (
    RetriesExhaustedError,
    RetryPolicy,
    TransientError,
    retry,
)
from model_release.contract.manifest import FileEntry
from model_release.hosts.host import Source

_T = TypeVar("_T")
_STEP_BYTES = 1 << 20  # Attempts that together bring this much may start counting anew.
_REPORT_EVERY_S = 5.0


class Downloader:
    """Downloads files of one release.

    Args:
        source: The release.
        retry_policy: Bounds on waiting.
        progress: Told one line at a time.
    """

    def __init__(self, source: Source, retry_policy: RetryPolicy, progress: Progress) -> None:
        self._source = source
        self._retry_policy = retry_policy
        self._progress = progress
        self._deadline = retry_policy.deadline()

    def small(self, name: str, limit_bytes: int) -> bytes:
        """A file that is read at once.

        Raises:
            HostError: It cannot be had.
            ManifestError: It is too long to be what it says.
        """

        def read() -> bytes:
            content = bytearray()
            with self._source.open(name, start=0, etag="", deadline=self._deadline) as opened:
                for piece in opened.pieces:
                    content += piece
                    if len(content) > limit_bytes:
                        raise ManifestError(
                            f"{name} of {self._source.describe()} must have at most {limit_bytes / 1e6:.0f} MB. "
                            "Do not use this release; make it again."
                        )
            return bytes(content)

        return self._patiently(name, read)

    def files(self, places: Mapping[FileEntry, Path]) -> dict[FileEntry, Path]:
        """Files of the release beside their places, each as `file` gives it; all of them or, after a final no, none.

        Raises:
            UnfinishedDownloadError: One could not be had yet; what has arrived stays for the next run.
            HostError: The release does not hold one of them.
            ManifestError: See `file`.
            ExportError: See `file`; what has arrived stays.
        """
        try:
            return {entry: self.file(entry, path.parent) for entry, path in places.items()}
        except UnfinishedDownloadError:
            raise
        except (HostError, ManifestError):
            for entry, path in places.items():
                (path.parent / _partial_name(entry)).unlink(missing_ok=True)
            raise

    def file(self, entry: FileEntry, folder: Path) -> Path:
        """A file of the release as a partial file of `folder`, complete and verified; the caller renames it.

        What an interrupted run left is gone on with. Its name holds the sha256 it must get, so nothing of
        another release is. Wrong bytes are removed and fetched once more, from the start.

        Raises:
            UnfinishedDownloadError: It cannot be had yet; what has arrived stays for the next run.
            HostError: The release does not hold it.
            ManifestError: It has other bytes than promised, twice.
            ExportError: It cannot be written.
        """
        partial = folder / _partial_name(entry)
        with _explained(partial):
            if os.path.lexists(partial) and not stat.S_ISREG(partial.lstat().st_mode):
                partial.unlink()  # A link would be written through, a pipe waited for.
        for again in (False, True):
            self._fill(entry, partial)
            if not _differs(partial, entry):
                _forget_others(entry, partial)
                return partial
            partial.unlink(missing_ok=True)
            if not again:
                self._progress(f"{entry.name}: other bytes than promised; once more from the start")
        raise ManifestError(
            f"{entry.name} of {self._source.describe()} must have {entry.size_bytes} bytes and the sha256 "
            f"{entry.sha256}, got others twice. Do not use it; publish the release again."
        )

    def _fill(self, entry: FileEntry, partial: Path) -> None:
        """Appends to the partial file until it is as long as the file is, or cannot become the file."""
        etag = ""
        report = _Reporter(entry, self._progress)

        def go_on() -> None:
            nonlocal etag
            have = _size(partial)
            if have > entry.size_bytes:
                partial.unlink()
                have = 0
            if have == entry.size_bytes:
                _touch(partial)
                return
            report.starts(have)
            with self._source.open(entry.name, start=have, etag=etag, deadline=self._deadline) as opened:
                if opened.size_bytes is not None and opened.size_bytes != entry.size_bytes:
                    partial.unlink(missing_ok=True)
                    return
                if opened.start not in (0, have):
                    partial.unlink(missing_ok=True)
                    raise TransientError("another part than the wanted one")
                if opened.start != have:
                    report.starts(0)
                etag = opened.etag
                _append(partial, opened.start or 0, opened.pieces, entry.size_bytes, report)
            if _size(partial) < entry.size_bytes:
                raise TransientError("an answer that broke off")

        self._patiently(entry.name, go_on, lambda: _size(partial))

    def _patiently(self, what: str, request: Callable[[], _T], arrived: Callable[[], int] = lambda: 0) -> _T:
        """Tries a request until it works, fails for good, or has had its attempts."""
        while True:
            before = arrived()
            try:
                return retry(
                    request, self._retry_policy, lambda text: self._progress(f"{what}: {text}"), deadline=self._deadline
                )
            except RetriesExhaustedError as failure:
                if arrived() - before >= _STEP_BYTES and time.monotonic() < self._deadline:
                    continue  # Slow, but progressing: start counting attempts again.
                raise UnfinishedDownloadError(
                    f"{what} of {self._source.describe()} must arrive, got: {failure.reason[:200]} "
                    f"(attempts: {failure.attempts}). Check the network and run it again; it goes on where it stopped."
                ) from failure


@contextmanager
def alone_in(folder: Path, progress: Progress, *, timeout_s: float = 3600.0) -> Iterator[None]:
    """Keeps two runs from writing into one folder at a time, where the system can; it ends with the process.

    The folder is made. One that the block leaves empty is removed again, with those above that were made.

    Raises:
        HostError: Another run does not end.
        ExportError: The folder cannot be made.
    """
    made: list[Path] = []
    deadline = time.monotonic() + timeout_s
    try:
        with ExitStack() as held:
            while True:
                with _explained(folder):
                    made = make_parents(folder) or made
                    there = held.enter_context(locked(folder, progress, deadline=deadline, error=HostError))
                if there:
                    break
            yield
    except BaseException:
        remove_made(made)
        raise


def place(partial: Path, target: Path) -> None:
    """Gives a complete file its name, in one step.

    Raises:
        ExportError: The file system refuses.
    """
    with _explained(target):
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(target)


def is_there(path: Path, entry: FileEntry) -> bool:
    """Whether a file is the promised one."""
    return is_file(path) and not _differs(path, entry)


class _Reporter:
    """Lines of MB while a file arrives: at its start, now and then, and at its end."""

    def __init__(self, entry: FileEntry, progress: Progress) -> None:
        self._entry, self._progress = entry, progress
        self._next_s = 0.0
        self._started: int | None = None

    def starts(self, offset: int) -> None:
        """Bytes arrive from here on."""
        if self._started != offset:
            going_on = f", going on at {offset / 1e6:.1f}" if offset else ""
            self._progress(f"{self._entry.name}: {self._entry.size_bytes / 1e6:.1f} MB{going_on}")
        self._started = offset
        self._next_s = time.monotonic() + _REPORT_EVERY_S

    def has(self, size_bytes: int) -> None:
        """So much has arrived."""
        if time.monotonic() >= self._next_s:
            self._progress(f"{self._entry.name}: {size_bytes / 1e6:.1f} of {self._entry.size_bytes / 1e6:.1f} MB")
            self._next_s = time.monotonic() + _REPORT_EVERY_S


def _append(partial: Path, start: int, pieces: Iterator[bytes], limit_bytes: int, report: _Reporter) -> None:
    """Writes what arrives, at most a byte more than the file has; what was written stays if it breaks off."""
    with _explained(partial), partial.open("ab" if start else "wb") as file:
        size = start
        for piece in pieces:
            size += file.write(piece[: limit_bytes + 1 - size])
            report.has(size)
            if size > limit_bytes:
                return


def _partial_name(entry: FileEntry) -> str:
    return f".{entry.name}.{entry.sha256[:16]}.partial"


def _forget_others(entry: FileEntry, partial: Path) -> None:
    """Removes what interrupted runs left of other releases of this file."""
    name = re.compile(rf"\.{re.escape(entry.name)}\.[0-9a-f]{{16}}\.partial")
    for path in partial.parent.iterdir():
        if name.fullmatch(path.name) and path != partial:
            with contextlib.suppress(OSError):
                path.unlink()


def _differs(path: Path, entry: FileEntry) -> bool:
    return _size(path) != entry.size_bytes or sha256_of(path, error=ExportError) != entry.sha256


def _size(path: Path) -> int:
    """A file's size; 0 if it is not there."""
    with _explained(path):
        return path.stat().st_size if path.exists() else 0


def _touch(path: Path) -> None:
    """An empty file arrives without a request."""
    with _explained(path):
        path.touch()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the file system refuses into a sentence."""
    try:
        yield
    except OSError as failure:
        raise ExportError(
            f"{path} must be writable, got: {failure.strerror or failure}. "
            "Choose another --static-dir, or free the space and the permissions it needs."
        ) from failure
