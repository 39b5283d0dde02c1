"""A web server on 127.0.0.1 whose every answer a test writes down; for tests."""

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass
class Asked:
    """A request that came."""

    path: str
    headers: Mapping[str, str]


@dataclass
class Reply:
    """What is answered.

    Attributes:
        cut: The connection is reset after so many bytes of the body.
        pause_s: Silence before the answer, or before each `drip` bytes of it.
        several: Headers that are sent more than once.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    several: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    pause_s: float = 0.0
    drip: int = 0
    no_length: bool = False


class Server:
    """Answers with what `reply` says; a context manager.

    Attributes:
        url: Its origin.
        asked: The requests, in order.
    """

    def __init__(self, reply: Callable[[Asked], Reply], *, host: str = "127.0.0.1") -> None:
        self.asked: list[Asked] = []
        self.stopping = threading.Event()
        self._server = ThreadingHTTPServer((host, 0), _handler(self, reply))
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()


class Endless:
    """Answers every connection with a beginning, and then with the same bytes as long as anybody takes them.

    Attributes:
        url: Its origin.
        sent_bytes: What was taken so far.
        hung_up: Set when a client has closed its end.
    """

    def __init__(self, beginning: bytes, again: bytes, *, pause_s: float = 0.0) -> None:
        self._beginning, self._again, self._pause_s = beginning, again, pause_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.sent_bytes = 0
        self.hung_up = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=[self._socket.accept()[0]], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(self._beginning)
            while not self._stopping.wait(self._pause_s):
                connection.sendall(self._again)
                self.sent_bytes += len(self._again)
        if not self._stopping.is_set():
            self.hung_up.set()


def ranged(asked: Asked, content: bytes, *, etag: str = '"one"', cut: int | None = None) -> Reply:
    """A file as a good server sends it, ranges and If-Range included."""
    wanted = asked.headers.get("Range", "")
    headers = {"ETag": etag} if etag else {}
    if not wanted.startswith("bytes=") or asked.headers.get("If-Range", etag) != etag:
        return Reply(200, content, headers, cut=cut)
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    if start >= len(content):
        return Reply(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Reply(206, content[start:], headers, cut=cut)


def _handler(server: Server, reply: Callable[[Asked], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            asked = Asked(self.path, dict(self.headers.items()))
            server.asked.append(asked)
            answer = reply(asked)
            if answer.pause_s and not answer.drip and server.stopping.wait(answer.pause_s):
                return
            self.send_response(answer.status)
            for name, text in (*answer.headers.items(), *answer.several):
                self.send_header(name, text)
            if answer.no_length:
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if answer.drip:
                for first in range(0, len(answer.body), answer.drip):
                    if server.stopping.wait(answer.pause_s):
                        return
                    self.wfile.write(answer.body[first : first + answer.drip])
                return
            self.wfile.write(answer.body[: answer.cut])
            if answer.cut is not None:
                self.wfile.flush()
                self.close_connection = True
                if not answer.no_length:
                    self.connection.shutdown(socket.SHUT_WR)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1))

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True  # The client hung up.

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on stderr."""

    return Handler
