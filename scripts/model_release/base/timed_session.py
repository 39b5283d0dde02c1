"""`requests` with an end: no byte is sent or read after a deadline, and a redirect is an answer like any other.

The library's timeouts bound one wait for a socket. A server that never stops sending passes all of them: headers
byte by byte, interim answers, chunk trailers. And it reads the body of every redirect, even of one it does not follow.
"""

import io
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from model_release.base.background import in_background

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool


class TimedSession(requests.Session):
    """A session for one request at a time.

    Attributes:
        deadline: Of `time.monotonic`; the socket is closed to what comes later. It may change from request to
            request, and while an answer is read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deadline = math.inf
        self.auth = _nobody  # Otherwise a login of ~/.netrc goes to whoever we are sent to.
        for scheme in ("https://", "http://"):
            self.mount(scheme, _TimedAdapter(lambda: self.deadline - time.monotonic()))

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Nowhere: whoever asks reads `Location`, and nobody the body."""
        return


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Adds no login."""
    return request


class _TimedAdapter(HTTPAdapter):
    """Makes connections that know how long there is left, in seconds."""

    def __init__(self, left_s: Callable[[], float]) -> None:
        self._left_s = left_s
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> "HTTPConnectionPool":  # noqa: ANN401
        pool = super().get_connection_with_tls_context(*args, **options)
        if not issubclass(pool.ConnectionCls, _TimedConnection):
            pool.ConnectionCls = type(
                "TimedConnection", (_TimedConnection, pool.ConnectionCls), {"left_s": staticmethod(self._left_s)}
            )
        return pool


class _TimedConnection(HTTPConnection):
    """A connection that is made, sends and reads in the time that is left."""

    left_s: Callable[[], float]
    _given_up = False

    def connect(self) -> None:
        """Connects in a thread: a name server cannot be told to stop, and a name may have many addresses."""

        def work() -> None:
            super(_TimedConnection, self).connect()
            if self._given_up:
                self.close()

        try:
            in_background(work)(max(self.left_s(), 0.0))
        except TimeoutError:
            self._given_up = True
            raise
        self.sock = _TimedSocket(self.sock, self.left_s)


class _TimedSocket:
    """A connected socket, for as long as there is time; what it does not say itself, the socket does."""

    def __init__(self, sock: Any, left_s: Callable[[], float]) -> None:  # noqa: ANN401 - plain, TLS, or a proxy's
        self._sock, self._left_s = sock, left_s
        self._silence_s: float | None = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._sock, name)

    def settimeout(self, silence_s: float | None) -> None:
        """The longest that one call may wait."""
        self._silence_s = silence_s

    def sendall(self, content: bytes) -> None:
        """Sends all of it."""
        self.hurry()
        self._sock.sendall(content)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What answers are read from."""
        return io.BufferedReader(_TimedReader(self, self._sock.makefile(mode, buffering=0)))

    def hurry(self) -> None:
        """Gives the next call the time that is left.

        Raises:
            TimeoutError: There is none.
        """
        left_s = self._left_s()
        if left_s <= 0:
            raise TimeoutError("no answer in time")
        self._sock.settimeout(left_s if self._silence_s is None else min(left_s, self._silence_s))


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: _TimedSocket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._sock, self._raw = sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401 - any buffer
        self._sock.hurry()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
