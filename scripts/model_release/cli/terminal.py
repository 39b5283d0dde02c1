"""What a command says reaches whoever reads it, and libraries say nothing beside it."""

import io
import logging
import sys
import warnings
from typing import IO, Any


def prepare() -> None:
    """Readies a process: its output, and libraries' remarks, which are for their developers."""
    sys.stdout, sys.stderr = (_lasting(stream) for stream in (sys.stdout, sys.stderr))
    logging.getLogger().addHandler(logging.NullHandler())  # Without any, Python prints what libraries log.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _lasting(stream: IO[str]) -> IO[str]:
    """A stream that shows in other letters what its encoding has not, and that may lose its reader."""
    if not isinstance(stream, io.TextIOWrapper):  # None, where it was closed before we began.
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
    )


class _Output(io.FileIO):
    """Where output goes: a reader who has gone stops no work, and what cannot be written is said once."""

    _failed = False

    def write(self, content: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Writes, unless that has failed before."""
        if not self._failed:
            try:
                return super().write(content)
            except BrokenPipeError:
                self._failed = True
            except OSError:
                self._failed = True
                raise
        return len(content)
