"""HTTP/1.1 connections: bodies, ranges, and faults; what both origins have in common."""

import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from .calls import CHUNK_BYTES, Body, Refusal, Response
from .faults import Fault

if TYPE_CHECKING:
    from .site import Request, StandInGitHub

RATE_DOCS = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID 0000:0000."
)
PRIMARY = "API rate limit exceeded for installation ID 1. See the documentation for more details."
MESSAGES = {
    403: SECONDARY,
    409: "Conflict",
    422: "Validation Failed",
    429: SECONDARY,
    500: "Server Error",
    502: "Server Error",
    503: "Service Unavailable",
    504: "We couldn't respond to your request in time. Sorry about that.",
}
MAX_DRAINED_BYTES = 1 << 31
_SLOW_PIECES = 10


class Torn(Exception):  # noqa: N818 - it is the way out of a handler
    """The connection is to be reset without an answer."""


class Handler(BaseHTTPRequestHandler):
    """What both origins have in common."""

    site: "StandInGitHub"
    protocol_version = "HTTP/1.1"
    server_version = "github.com"
    sys_version = ""
    disable_nagle_algorithm = True  # Headers and body are two writes; without this each answer waits 40 ms.
    rbufsize = CHUNK_BYTES

    def do_GET(self) -> None:
        """Every method goes the same way."""
        try:
            parts = urlsplit(self.path)
            self.decoded = unquote(parts.path)
            self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
            length = self.headers.get("Content-Length", "0")
            self.body = Body(self.rfile, int(length) if length.isdecimal() else 0)
            self._respond()
        except Torn:
            self._tear()
        except OSError:
            raise  # The client hung up.
        except Exception as error:  # noqa: BLE001 - a mistake of the stand-in must not pass for a fault
            self.site.violations.append(f"{self.command} {self.decoded}: the stand-in failed: {error!r}")
            self._tear()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """The site's request log replaces the lines on stderr."""

    def handle(self) -> None:
        """A client that hangs up, or a connection torn down on purpose, is no news."""
        try:
            super().handle()
        except (ConnectionError, ValueError, OSError):
            self.close_connection = True

    def _respond(self) -> None:
        raise NotImplementedError

    def _carry_out(self, request: "Request", act: Callable[[], Response], spoil: Callable[[Fault], None]) -> None:
        """Acts and answers, unless a fault comes first.

        Args:
            request: Its entry in the log.
            act: Does what was asked.
            spoil: What a fault does to a request that is not acted upon.
        """
        fault = self.site.next_fault(request)
        if fault and not fault.acts:
            spoil(fault)
            answer = self._in_place_of_answer(fault)
        else:
            answer = act()
            if fault and (fault.status or fault.kind in {"reset", "hang"}):
                answer = self._in_place_of_answer(fault)
        first, length = self._extent(answer)
        request.status = answer.status  # Before the client can know it.
        self._send(answer, first, length, fault)

    def _in_place_of_answer(self, fault: Fault) -> Response:
        """What a client gets to see of a fault.

        Raises:
            Torn: Nothing.
        """
        if fault.status == 0:
            if fault.kind == "hang":
                self.site.stopping.wait(fault.seconds)
            raise Torn
        documentation = RATE_DOCS if fault.status in (403, 429) else "https://docs.github.com/rest"
        message = fault.message or (PRIMARY if fault.kind == "primary" else MESSAGES.get(fault.status, "Error"))
        headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
        if fault.kind == "primary":
            headers["X-RateLimit-Remaining"] = "0"
        return Refusal(fault.status, message, headers=headers, documentation=documentation).answer

    def _tear(self) -> None:
        """Resets the connection: closing with a linger of zero sends RST in place of FIN."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # It holds the connection open otherwise.
        self.connection.close()

    def _send(self, answer: Response, first: int, length: int, fault: Fault | None = None) -> None:
        kind = fault.kind if fault else ""
        if kind == "truncate" and length < 2:
            self.wfile.write(b"HTTP/1.1 ")  # There is no body to cut.
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.media_type:
            self.send_header("Content-Type", answer.media_type)
        if answer.status != 204:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            pieces = self._pieces(answer.file, first, length) if answer.file else iter([answer.raw or b""])
            self._send_body(pieces, length, fault)
        if self.body.length > MAX_DRAINED_BYTES:
            self.close_connection = True
        else:
            self.body.drain()

    def _extent(self, answer: Response) -> tuple[int, int]:
        """The first byte of the body to send and how many; makes a ranged answer of it if one is wanted."""
        if answer.json is not None:
            answer.raw, answer.media_type = json.dumps(answer.json).encode(), "application/json; charset=utf-8"
        if answer.file is None or answer.status != 200:
            return 0, len(answer.raw or b"")
        size = answer.file.stat().st_size
        answer.headers["Accept-Ranges"] = "bytes"
        wanted = self._range(size, answer.headers.get("ETag", ""))
        if wanted is None:
            return 0, size
        first, last = wanted
        if first > last:
            answer.status, answer.file = 416, None
            answer.headers["Content-Range"] = f"bytes */{size}"
            return 0, 0
        answer.status = 206
        answer.headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return first, last - first + 1

    def _send_body(self, pieces: Iterator[bytes], length: int, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        left = length // 2 if kind == "truncate" else length
        for number, piece in enumerate(pieces):
            part = piece[:left]
            left -= len(part)
            if kind == "corrupt" and part and number == 0:
                part = bytes([part[0] ^ 0xFF]) + part[1:]
            step = max(1, length // _SLOW_PIECES) if kind == "slow" else len(part) or 1
            for start in range(0, len(part), step):
                if fault and kind == "slow" and self.site.stopping.wait(fault.seconds / _SLOW_PIECES):
                    raise Torn
                self.wfile.write(part[start : start + step])
            if not left:
                break
        self.close_connection = self.close_connection or kind == "truncate"

    @staticmethod
    def _pieces(file: Path, first: int, length: int) -> Iterator[bytes]:
        with file.open("rb") as stream:
            stream.seek(first)
            while length > 0:
                piece = stream.read(min(CHUNK_BYTES, length))
                length -= len(piece)
                yield piece

    def _range(self, size: int, etag: str) -> tuple[int, int] | None:
        """First and last byte wanted; None for all of them."""
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not match or match.groups() == ("", "") or self.headers.get("If-Range", etag) != etag:
            return None
        if not match[1]:
            return max(0, size - int(match[2])), size - 1
        return int(match[1]), min(int(match[2] or size - 1), size - 1)
