"""The stand-in as tests hold it: its repositories, tokens, faults, log, and its two servers."""

import hashlib
import hmac
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from . import openapi
from .calls import Response
from .connection import Handler
from .downloads import AssetHandler
from .faults import Fault
from .models import Asset, Clock, Token
from .repository import Repository
from .server import MainHandler


@dataclass
class Request:
    """A request that arrived, and what became of it; never the token itself.

    Attributes:
        number: Counted from 1.
        origin: `api`, `uploads`, `web` or `assets`.
        path: Decoded, without `/api/v3` and `/api`.
        token: The token's name, `unknown`, or empty.
        status: 0 if nothing was answered.
        changed: Whether it changed anything.
        fault: The kind of the fault it met.
    """

    number: int
    origin: str
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    token: str = ""
    status: int = 0
    changed: bool = False
    fault: str = ""


class StandInGitHub:
    """GitHub on 127.0.0.1; a context manager that starts it and stops it.

    Attributes:
        url: The API, the uploads and the web pages; `/api/v3` before an API path works as well.
        assets_url: The second origin, where downloads are redirected to.
        repositories: By full name in lower case.
        tokens: By their text.
        hook: Called before each request is handled; a fault it returns is the request's.
        requests: The log.
        violations: Answers that are not what GitHub's official description says.
        leaks: Requests that brought a token to the second origin.
        streams_downloads: The API sends a file's bytes itself, in place of a redirect.

    Args:
        folder: Where uploaded bytes go; a temporary folder by default.
        port: 0 takes a free one.
        tokens: Text -> what its holder may do. By default `write-token` and `read-token`.
        validate: Whether every JSON answer is held against the official description.
        rate_limit: Requests an hour.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        assets_port: int = 0,
        tokens: Mapping[str, Token] | None = None,
        validate: bool = True,
        rate_limit: int = 5000,
    ) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="standin-github-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.tokens = dict(tokens or {"write-token": Token(), "read-token": Token(name="reader", write=frozenset())})
        self.validate = validate
        self.rate_limit = self.rate_remaining = rate_limit
        self.rate_reset_s = int(time.time()) + 3600
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.hook: Callable[[Request], Fault | None] = lambda _: None
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.leaks: list[str] = []
        self.streams_downloads = False
        self.clock = Clock()
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self._arrived = threading.Condition()
        self._secret = secrets.token_bytes(16)
        self._main = self._server(MainHandler, port)
        self._assets = self._server(AssetHandler, assets_port)
        self.url = f"http://127.0.0.1:{self._main.server_address[1]}"
        self.assets_url = f"http://127.0.0.1:{self._assets.server_address[1]}"

    def _server(self, handler: type[Handler], port: int) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", port), type(handler.__name__, (handler,), {"site": self}))
        server.daemon_threads = True
        return server

    def __enter__(self) -> Self:
        for server in (self._main, self._assets):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for server in (self._main, self._assets):
            server.shutdown()
            server.server_close()
        if self._temporary:
            self._temporary.cleanup()

    @property
    def ghes_url(self) -> str:
        """The API as a GitHub Enterprise Server has it."""
        return f"{self.url}/api/v3"

    # State

    def add_repository(
        self, full_name: str, files: Mapping[str, str | bytes] | None = None, **switches: Any
    ) -> Repository:
        """A new repository, its default branch holding the files in one commit."""
        owner, _, name = full_name.partition("/")
        repository = Repository(owner, name, self.clock, self.folder, **switches)
        repository.commit(files or {"README.md": f"# {name}\n"}, message="Initial commit")
        self.repositories[full_name.lower()] = repository
        return repository

    def repository(self, full_name: str) -> Repository | None:
        """A repository, however its name is capitalised."""
        return self.repositories.get(full_name.lower())

    def snapshot(self) -> dict[str, Any]:
        """Everything that counts in every repository, as plain data; equal for equal end states."""
        with self.lock:
            return {repository.full_name: repository.snapshot() for repository in self.repositories.values()}

    # Requests

    def arrive(self, origin: str, method: str, path: str, query: Mapping[str, str], token: str) -> Request:
        """Notes a request."""
        with self._arrived:
            request = Request(
                number=len(self.requests) + 1,
                origin=origin,
                method=method,
                path=self.redacted(path),
                query={key: self.redacted(value) for key, value in query.items()},
                token=token,
            )
            self.requests.append(request)
            self._arrived.notify_all()
        return request

    def wait_for(self, count: int, *, timeout_s: float = 10.0) -> None:
        """Waits until so many requests have arrived.

        Raises:
            TimeoutError: They did not.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests arrived in {timeout_s} s")

    def next_fault(self, request: Request) -> Fault | None:
        """The fault meant for a request: the hook's, else the first that hits."""
        fault = self.hook(request)
        if fault is None:
            with self.lock:
                hits = [each for each in self.faults if each.hits(request.number, request.method, request.path)]
            fault = hits[0] if hits else None
        request.fault = fault.kind if fault else ""
        return fault

    def writes(self) -> list[Request]:
        """The requests that changed something."""
        return [request for request in self.requests if request.changed]

    def redacted(self, text: str) -> str:
        """Text without any token in it."""
        for token in self.tokens:
            text = text.replace(token, "***")
        return text

    # Limits, links, judgement

    def rate(self) -> dict[str, int]:
        """What is left of the hourly limit."""
        remaining = max(0, self.rate_remaining)
        used = self.rate_limit - remaining
        return {"limit": self.rate_limit, "remaining": remaining, "reset": self.rate_reset_s, "used": used}

    def download_link(self, repository: Repository, asset: Asset, *, lifetime_s: int = 300) -> str:
        """A signed address on the second origin that needs no token."""
        path = f"/release-assets/{repository.id}/{asset.id}"
        expires = str(int(time.time()) + lifetime_s)
        query = {"se": expires, "sig": self.signature(path, expires), "rscd": f"attachment; filename={asset.name}"}
        return f"{self.assets_url}{path}?{urlencode(query)}"

    def signature(self, path: str, expires: str) -> str:
        """What makes an address on the second origin valid."""
        return hmac.new(self._secret, f"{path} {expires}".encode(), hashlib.sha256).hexdigest()

    def judge(self, template: str, method: str, answer: Response) -> None:
        """Notes what is wrong with a JSON answer."""
        if self.validate and answer.raw is None and answer.file is None and openapi.is_described(template, method):
            self.violations += openapi.violations(template, method, answer.status, answer.json)
