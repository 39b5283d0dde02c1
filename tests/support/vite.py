"""Vite's own servers, for tests."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def vite_server(command: list[Path | str], app: Path) -> Iterator[str]:
    """A server of Vite's, on a port of its choice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [*command, "--host=127.0.0.1", f"--port={port}", "--strictPort"]
    with subprocess.Popen(arguments, cwd=app, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if f":{port}" in re.sub(r"\x1b\[[0-9;]*m", "", line):
                    break
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
