"""A Hugging Face Hub on 127.0.0.1: the endpoints of downloads and commits, real bytes, and faults on request.

As a program, from tests/: `python -m standins.hub --root DIR --port 8000 --fault '*.safetensors=503*2'`,
then `HF_ENDPOINT=http://127.0.0.1:8000`. `DIR/<org>/<name>/` holds a model's files.
"""

import argparse
import fnmatch
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from standins.hub_uploads import History, RefusedError, StoredFile

FOREVER = 1_000_000
_ERROR_CODES = {401: "RepoNotFound", 403: "GatedRepo", 404: "RepoNotFound"}


@dataclass
class Fault:
    """What goes wrong, where, and how often.

    Attributes:
        path: A shell pattern over the request's path, such as `*/config.json` or `/api/*`.
        kind: A status such as `503`, or `reset` (the connection is torn down), `truncate` (half a
            body, then the end), `corrupt` (other bytes of the same size), `drip` (a byte now and
            then), `hang` (silence) or `lost` (it is done, but the answer is torn down). All but a
            status, `reset`, `hang` and `lost` touch bodies only.
        times: How many requests it hits.
        method: `GET`, `HEAD`, `POST` or `PUT`, or empty for all.
        retry_after: The Retry-After header that goes with a status.
    """

    path: str
    kind: str
    times: int = FOREVER
    method: str = ""
    retry_after: str = ""

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Reads `PATTERN=KIND` or `PATTERN=KIND*TIMES`."""
        path, _, rest = text.rpartition("=")
        kind, _, times = rest.partition("*")
        return cls(path=path, kind=kind, times=int(times or FOREVER))


@dataclass(frozen=True)
class Request:
    """A request that arrived; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)


class StandInHub:
    """The server; a context manager that stops it.

    Args:
        root: Holds `<org>/<name>/<file>`. A file `.commit` there sets the repository's commit, which
            is made from the content otherwise.
        port: 0 takes a free one.
    """

    def __init__(self, root: Path, *, port: int = 0) -> None:
        self.root = root
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self.histories: dict[str, History] = {}
        self.lock = threading.RLock()
        self.meanwhile: Callable[[Request], None] = lambda _: None  # What others do while a request is on its way.
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        """Runs until interrupted."""
        self._server.serve_forever()

    def history(self, repository: str) -> History | None:
        """A repository's commits, the first of which is its folder; None if there is no such repository."""
        with self.lock:
            files = self.files(repository)
            if repository not in self.histories and files is not None:
                first = self.commit(repository)
                named = {name: StoredFile(file.path, first) for name, file in files.items()}
                self.histories[repository] = History(self.root / ".commits", {first: named})
            return self.histories.get(repository)

    def files(self, repository: str) -> dict[str, StoredFile] | None:
        """A repository's files by name, or None if there is no such repository."""
        if repository in self.histories:
            return self.histories[repository].at("main")
        folder = self.root / repository
        if not (folder.is_dir() and any(path.is_file() for path in folder.iterdir())):
            return None
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".commit")
        return {path.relative_to(folder).as_posix(): StoredFile(path) for path in paths}

    def commit(self, repository: str) -> str:
        """The repository's newest commit; its only one unless something was committed."""
        if repository in self.histories:
            return self.histories[repository].head
        given = self.root / repository / ".commit"
        if given.exists():
            return given.read_text().strip()
        lines = "".join(f"{name} {file.etag}\n" for name, file in (self.files(repository) or {}).items())
        return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()

    def paths(self, method: str) -> list[str]:
        """The paths that were asked for by a method, in order."""
        return [request.path for request in self.requests if request.method == method]

    def next_fault(self, request: Request, *, body: bool) -> Fault | None:
        """Notes a request, and uses up one of the faults meant for it."""
        with self.lock:
            self.requests.append(request)
            self.meanwhile(request)
            for fault in self.faults:
                touches_body = fault.kind in {"truncate", "corrupt", "drip"}
                if (
                    fault.times > 0
                    and fault.method in ("", request.method)
                    and fnmatch.fnmatchcase(request.path, fault.path)
                    and (body or not touches_body)
                ):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    hub: StandInHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Headers and body are two writes; without this each answer waits 40 ms.
    _API = re.compile(
        r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)(?:/(?P<what>revision|tree)/(?P<revision>[^/]+)(?:/(?P<folder>.+))?)?"
    )
    _WRITE = re.compile(
        r"/(?:api/models/)?(?P<id>[^/]+/[^/.]+)"
        r"(?:/(?P<what>preupload|commit|paths-info|tag)/(?P<revision>[^/]+)|\.git/info/(?P<lfs>lfs)/objects/batch)"
    )
    _REFS = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/refs")
    _LARGE = re.compile(r"/(?P<id>[^/]+/[^/]+)/lfs/(?P<oid>[0-9a-f]{64})")
    _RESOLVE = re.compile(r"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """The request log of the hub replaces the lines on stderr."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = Request(method=self.command, path=path, headers={k.lower(): v for k, v in self.headers.items()})
        fault = self.hub.next_fault(request, body=self.command != "HEAD")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault and fault.kind == "reset":
            self._tear_down()
        elif fault and fault.kind == "hang":
            self.hub.stopping.wait()
            self.close_connection = True
        elif fault and fault.kind.isdecimal():
            self._refuse(int(fault.kind), retry_after=fault.retry_after)
        elif self.command in {"POST", "PUT", "DELETE"}:
            self._write(path, body, fault)
        elif (match := self._REFS.fullmatch(path)) and (history := self.hub.history(match["id"])):
            self._send(200, {"Content-Type": "application/json"}, json.dumps(history.refs()).encode(), fault)
        elif match := self._API.fullmatch(path):
            self._api(match["id"], match["what"], match["revision"] or "main", match["folder"] or "", fault)
        elif match := self._RESOLVE.fullmatch(path):
            self._resolve(match["id"], match["revision"], match["name"], fault)
        else:
            self._refuse(404)

    def _tear_down(self) -> None:
        """Closing with a linger of zero sends RST in place of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()  # It holds the connection open otherwise.
        self.connection.close()

    def _write(self, path: str, body: bytes, fault: Fault | None) -> None:
        match = self._WRITE.fullmatch(path) or self._LARGE.fullmatch(path)
        history = self.hub.history(match["id"]) if match else None
        large = self.command == "PUT"
        if match is None or history is None or not (large or "Authorization" in self.headers):
            self._refuse(401 if match and "Authorization" not in self.headers else 404)
            return
        try:
            with self.hub.lock:
                if large:
                    history.put(match["oid"], body)
                    answer = None
                elif self.command == "DELETE":
                    answer = history.tags.pop(match["revision"], None)
                else:
                    what, revision = match["lfs"] or match["what"], match["revision"] or "main"
                    answer = history.answer(
                        what,
                        revision,
                        body,
                        parse_qs(body.decode()) if what == "paths-info" else {},
                        f"{self.hub.url}/{match['id']}",
                    )
        except RefusedError as refusal:
            self._refuse(refusal.status, code=str(refusal))
            return
        if fault and fault.kind == "lost":
            self._tear_down()
        else:
            self._send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode(), fault)

    def _api(self, repository: str, what: str | None, revision: str, folder: str, fault: Fault | None) -> None:
        files = self._files_at(repository, revision)
        if files is None:
            return
        entries = [
            file.as_json(name) for name, file in files.items() if what != "tree" or name.rpartition("/")[0] == folder
        ]
        if folder and not entries:
            self._refuse(404, code="EntryNotFound")
            return
        commit = self.hub.commit(repository)
        info = {"id": repository, "modelId": repository, "sha": commit, "private": False, "siblings": entries}
        body = json.dumps(entries if what == "tree" else info).encode()
        self._send(200, {"Content-Type": "application/json"}, body, fault)

    def _resolve(self, repository: str, revision: str, name: str, fault: Fault | None) -> None:
        files = self._files_at(repository, revision)
        if files is None:
            return
        commit = {"X-Repo-Commit": self.hub.commit(repository)}
        if name not in files:
            self._refuse(404, code="EntryNotFound", **commit)
            return
        content = files[name].path.read_bytes()
        headers = commit | {"ETag": f'"{files[name].etag}"', "Accept-Ranges": "bytes"}
        headers["Access-Control-Allow-Origin"] = self.headers.get("Origin", "")
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and int(asked[1]) < len(content):
            start = int(asked[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(206, headers, content[start:], fault)
        else:
            self._send(200, headers, content, fault)

    def _files_at(self, repository: str, revision: str) -> dict[str, StoredFile] | None:
        """The files, or None after a refusal."""
        history = self.hub.histories.get(repository)
        files = history.at(revision) if history else self.hub.files(repository)
        if files is None and history is None:
            self._refuse(404 if "Authorization" in self.headers else 401)  # The Hub hides what is private.
        elif files is None or (
            not history
            and revision != "main"
            and not (len(revision) >= 7 and self.hub.commit(repository).startswith(revision))
        ):
            self._refuse(404, code="RevisionNotFound")
            return None
        return files

    def _refuse(self, status: int, *, code: str = "", retry_after: str = "", **headers: str) -> None:
        headers |= {"X-Error-Code": code or _ERROR_CODES.get(status, "")}
        if retry_after:
            headers["Retry-After"] = retry_after
        self._send(status, headers, b"{}", None)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "corrupt":
            body = bytes([body[0] ^ 0xFF]) + body[1:]
        if kind == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.hub.stopping.wait(0.05):
                    break
        else:
            self.wfile.write(body[: len(body) // 2] if kind == "truncate" else body)
        self.close_connection = self.close_connection or kind in {"truncate", "drip"}

    def handle(self) -> None:
        """A client that hangs up, or a connection torn down on purpose, is no news."""
        try:
            super().handle()
        except (ConnectionError, ValueError, OSError):
            self.close_connection = True


def main() -> None:
    """Serves a folder of models until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of <org>/<name>/<files>")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port; the address is printed")
    parser.add_argument("--fault", action="append", default=[], type=Fault.parse, help="PATTERN=KIND[*TIMES]")
    options = parser.parse_args()
    hub = StandInHub(options.root, port=options.port)
    hub.faults = options.fault
    print(hub.url, flush=True)
    try:
        hub.serve_forever()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
