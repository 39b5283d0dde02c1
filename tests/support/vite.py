"""Vite's own servers, for tests."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

_SAID = re.compile(r"http://127\.0\.0\.1:\d+")


@contextlib.contextmanager
def vite_server(command: list[Path | str], app: Path) -> Iterator[str]:
    """A server of Vite's, on a port of its choice: it takes the next one as long as one is taken."""
    arguments = [*command, "--host=127.0.0.1"]
    with subprocess.Popen(arguments, cwd=app, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            lines = (re.sub(r"\x1b\[[0-9;]*m", "", line) for line in process.stdout)
            yield next(said[0] for line in lines if (said := _SAID.search(line)))
        finally:
            process.terminate()
