"""Serves folders on 127.0.0.1 as a web app's host should: right MIME types, cross-origin isolation, no caching."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from model_release.base.errors import UsageError
from model_release.base.http import CONTENT_TYPES

_HEADERS = {
    # Both isolate the page, and only isolated pages get threads and exact clocks
    # (https://developer.mozilla.org/docs/Web/API/Window/crossOriginIsolated).
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",  # A model that is made again must not come from a cache.
    "X-Content-Type-Options": "nosniff",
}


@contextmanager
def serve(
    root: Path, *, mounts: Mapping[str, Path] = MappingProxyType({}), home: str | None = None, port: int = 0
) -> Iterator[str]:
    """Serves until the block ends.

    Args:
        root: The folder behind `/`.
        mounts: First part of a URL's path -> another folder, served below that name.
        home: The path that `/` leads to, such as `page.html`; without one it is a folder like others.
        port: Where to listen; 0 lets the system choose.

    Yields:
        The origin, such as `http://127.0.0.1:8000`.

    Raises:
        UsageError: The port is taken or not allowed.
    """
    try:
        server = _Server(("127.0.0.1", port), partial(_Handler, root.resolve(), dict(mounts), home))
    except (OSError, OverflowError) as failure:
        raise UsageError(f"port {port} of 127.0.0.1 must be free, got: {failure}. Choose another one.") from failure
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class
        """A browser hangs up as it likes, which is no error of ours."""


class _Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files; a folder answers with its index.html or not at all."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Headers and body are two writes; without this many answers wait 40 ms.
    extensions_map = {".onnx": "application/octet-stream", "": "application/octet-stream", **CONTENT_TYPES}  # noqa: RUF012

    def __init__(self, root: Path, mounts: Mapping[str, Path], home: str | None, *arguments: Any) -> None:  # noqa: ANN401 - the server's
        self._root, self._mounts, self._home = root, mounts, home
        super().__init__(*arguments, directory=str(root))

    def send_head(self) -> Any:  # noqa: ANN401 - as the base class
        """Leads from `/` to the home."""
        if self._home is None or urlsplit(self.path).path != "/":
            return super().send_head()
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", f"/{self._home}")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def translate_path(self, path: str) -> str:
        """URL -> file; the base class has taken out `..` and escapes."""
        parts = Path(super().translate_path(path)).relative_to(self._root).parts
        if parts and parts[0] in self._mounts:
            return str(self._mounts[parts[0]].joinpath(*parts[1:]))
        return str(self._root.joinpath(*parts))

    def list_directory(self, path: Any) -> None:  # noqa: ANN401, ARG002 - as the base class
        """Folders are not listed."""
        self.send_error(404)

    def end_headers(self) -> None:
        """Adds what every answer has."""
        for name, text in _HEADERS.items():
            self.send_header(name, text)
        super().end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: ANN401 - as the base class
        """Nothing on stderr."""
