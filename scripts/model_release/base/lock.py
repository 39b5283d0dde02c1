"""One run at a time in a folder, where the system can."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from model_release.base.errors import ReleaseError
from model_release.base.progress import Progress


@contextmanager
def locked(folder: Path, progress: Progress, *, deadline: float, error: type[ReleaseError]) -> Iterator[bool]:
    """Keeps other runs that ask for the same folder waiting until the block ends, or the process.

    Args:
        folder: Must be there. Nothing is written into it.
        progress: Told when another run is waited for.
        deadline: Until when, by `time.monotonic`.
        error: The class to raise then.

    Yields:
        Whether the folder is still there: the run before may have removed it.

    Raises:
        ReleaseError: `error`, when another run does not end.
        OSError: The folder cannot be opened.
    """
    if sys.platform == "win32":
        yield True
        return
    import fcntl

    with ExitStack() as held:
        handle = os.open(folder, os.O_RDONLY)
        held.callback(os.close, handle)
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise error(f"{folder} must be free, but another run holds it. Wait for it to end.") from None
                if not told:
                    progress(f"{folder}: waiting for another run")
                    told = True
                time.sleep(0.2)
            except OSError:
                break  # A file system without locks.
        yield folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())
