"""The main origin: API, uploads, web pages, and a door for the tests themselves."""

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from . import assets, contents, git, pulls, releases, repos, settings  # noqa: F401 - they fill the table of routes
from .assets import begin_upload, receive
from .calls import Call, Refusal, Response, Route, find_route, not_found
from .connection import PRIMARY, RATE_DOCS, Handler, Torn
from .faults import Fault
from .models import Asset, Token
from .repository import Repository

if TYPE_CHECKING:
    from .site import Request

EXPOSED = "ETag, Link, Location, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"


class MainHandler(Handler):
    """The API, the uploads, the web pages, and a door for the tests themselves."""

    _DOWNLOAD = re.compile(r"/(?P<repository>[^/]+/[^/]+)/releases/download/(?P<tag>.+)/(?P<name>[^/]+)")
    _LATEST = re.compile(r"/(?P<repository>[^/]+/[^/]+)/releases/latest/download/(?P<name>[^/]+)")
    _PAGE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/releases/tag/(?P<tag>.+)")

    def _respond(self) -> None:
        if self.decoded.startswith("/_control/"):
            answer = self._control(self.decoded.removeprefix("/_control/"))
            self._send(answer, *self._extent(answer))
            return
        token, label = self._token()
        prefix = next((each for each in ("/api/v3", "/api") if self.decoded.startswith(f"{each}/")), "")
        path = self.decoded.removeprefix(prefix)
        match path.split("/")[1]:
            case "uploads":
                origin = "uploads"
            case "repos" | "rate_limit" | "user":
                origin = "api"
            case _:
                origin = "api" if prefix else "web"
        request = self.site.arrive(origin, self.command, path, self.query, label)
        if origin == "web":
            self._carry_out(request, lambda: self._web(path, token), lambda fault: self._spoil(fault, request))
            return
        call = Call(
            site=self.site,
            host=f"http://{self.headers.get('Host', '')}",
            prefix="/api/v3" if prefix else "",
            token=token,
            params={},
            query=self.query,
            path=quote(self.decoded),
            accept=self.headers.get("Accept", ""),
            content_type=self.headers.get("Content-Type", "application/octet-stream"),
            body=self.body,
        )
        self._carry_out(
            request,
            lambda: self._api(call, path, request, known=label != "unknown"),
            lambda fault: self._spoil(fault, request, call if origin == "uploads" else None),
        )

    def _token(self) -> tuple[Token | None, str]:
        """The token, and how the log calls it."""
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return None, ""
        token = self.site.tokens.get(text) if scheme.lower() in ("token", "bearer") else None
        return token, token.name if token else "unknown"

    # The API

    def _api(self, call: Call, path: str, request: "Request", *, known: bool) -> Response:
        method = "GET" if self.command == "HEAD" else self.command
        found = find_route(method, path)
        template = found[0].template if found else ""
        try:
            self._admit(path, known=known)
            if method == "OPTIONS":
                return self._as_api(Response(204))
            if found is None:
                raise not_found()
            answer = self._handle(call, *found)
            request.changed = method != "GET"
        except Refusal as refusal:
            answer = refusal.answer
        self.site.judge(template.removeprefix("/uploads"), method, answer)
        return self._as_api(answer)

    def _admit(self, path: str, *, known: bool) -> None:
        """Lets in who sends a good token or none, names itself, and is within the limit.

        Raises:
            Refusal: 401 or 403.
        """
        if not known:
            raise Refusal(401, "Bad credentials")
        if "User-Agent" not in self.headers:
            raise Refusal(403, "Request forbidden by administrative rules. Send a User-Agent header.")
        with self.site.lock:
            if path != "/rate_limit" and self.site.rate_remaining <= 0:
                raise Refusal(403, PRIMARY, documentation=RATE_DOCS)
            self.site.rate_remaining -= path != "/rate_limit"

    def _handle(self, call: Call, route: Route, params: dict[str, str]) -> Response:
        site, call.params = self.site, params
        self._authorize(call, route)
        if route.streams:
            if "Content-Length" not in self.headers:
                self.close_connection = True
                raise Refusal(400, "Bad Content-Length: ")
            return route.handler(call)
        call.data = self._json() if route.method != "GET" else {}
        with site.lock:
            return route.handler(call)

    def _authorize(self, call: Call, route: Route) -> None:
        """Finds the repository, and asks whether the token may do this.

        Raises:
            Refusal: 401, 403 or 404.
        """
        if "owner" not in call.params:
            return
        repository = self.site.repository(f"{call.params['owner']}/{call.params['repo']}")
        hidden = repository is not None and repository.private and not self._may_read(call.token, repository)
        if repository is None or hidden:
            raise not_found()
        call.found = repository
        if route.writes and call.token is None:
            raise Refusal(401, "Requires authentication")
        if route.writes and call.token and not call.token.may_write(route.writes, repository.full_name):
            raise Refusal(403, "Resource not accessible by integration")

    @staticmethod
    def _may_read(token: Token | None, repository: Repository) -> bool:
        return token is not None and (not token.repositories or repository.full_name in token.repositories)

    def _json(self) -> dict[str, Any]:
        content = b"".join(self.body.chunks())
        try:
            data = json.loads(content) if content else {}
        except ValueError:
            raise Refusal(400, "Problems parsing JSON") from None
        if not isinstance(data, dict):
            raise Refusal(400, "Body should be a JSON object")
        return data

    def _as_api(self, answer: Response) -> Response:
        """Adds what every answer of the API carries."""
        rate = {f"X-RateLimit-{key.title()}": str(value) for key, value in self.site.rate().items()}
        common = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": EXPOSED,
            "X-GitHub-Media-Type": "github.v3; format=json",
            "X-GitHub-Request-Id": "0000:0000",
            "X-RateLimit-Resource": "core",
        }
        answer.headers = common | rate | answer.headers
        return answer

    def _in_place_of_answer(self, fault: Fault) -> Response:
        return self._as_api(super()._in_place_of_answer(fault))

    def _spoil(self, fault: Fault, request: "Request", upload: Call | None = None) -> None:
        """Reads as much of the body as the fault lets through; what an upload leaves stays."""
        if fault.kind == "refuse":
            raise Torn
        half = max(1, self.body.length // 2)
        if upload and fault.kind in {"cut", "502"}:
            request.changed = self._leave_starter(upload, half)
        if fault.kind == "cut":
            for _ in self.body.chunks(stop_after=half - (self.body.length - self.body.remaining)):
                pass
            raise Torn
        self.body.drain()

    def _leave_starter(self, call: Call, half: int) -> bool:
        """An upload that breaks off: its name is taken, its bytes are not all there."""
        found = find_route("POST", self.decoded.removeprefix(call.prefix).removeprefix("/api"))
        if found is None:
            return False
        call.params = found[1]
        try:
            self._authorize(call, found[0])
            with self.site.lock:
                _, asset = begin_upload(call)
        except Refusal:
            return False
        receive(call, asset, stop_after=half)
        return True

    # The web

    def _web(self, path: str, token: Token | None) -> Response:
        """Pages and downloads; neither they nor the redirects carry Access-Control-Allow-Origin."""
        with self.site.lock:
            if match := self._LATEST.fullmatch(path):
                repository = self._readable(match["repository"], token)
                release = repository.latest() if repository else None
                if repository and release:
                    where = f"/{repository.full_name}/releases/download/{quote(release.tag, safe='')}/{match['name']}"
                    return Response(302, headers={"Location": f"http://{self.headers.get('Host', '')}{where}"})
            elif match := self._DOWNLOAD.fullmatch(path):
                repository = self._readable(match["repository"], token)
                asset = repository and self._asset(repository, match["tag"], match["name"], token)
                if repository and asset:
                    return Response(302, headers={"Location": self.site.download_link(repository, asset)})
            elif (match := self._PAGE.fullmatch(path)) and (repository := self._readable(match["repository"], token)):
                release = repository.published(match["tag"])
                if release:
                    return Response(200, raw=f"<h1>{release.tag}</h1>".encode(), media_type="text/html; charset=utf-8")
        return Response(404, raw=b"Not Found", media_type="text/plain; charset=utf-8")

    def _readable(self, full_name: str, token: Token | None) -> Repository | None:
        repository = self.site.repository(full_name)
        if repository and repository.private and not self._may_read(token, repository):
            return None
        return repository

    @staticmethod
    def _asset(repository: Repository, tag: str, name: str, token: Token | None) -> Asset | None:
        """A public file; a draft's only for those who may push, and only as long as it is one."""
        for release in repository.releases.values():
            visible = not release.draft or (token and token.may_write("contents", repository.full_name))
            if visible and release.web_tag == tag:
                return next((a for a in release.assets if a.name == name and a.state == "uploaded"), None)
        return None

    # The tests' own door

    def _control(self, what: str) -> Response:
        """`GET state`, `log`, `violations`, `leaks`; `POST faults` with a list, each as Fault takes it."""
        site = self.site
        if self.command == "POST" and what == "faults":
            given = json.loads(b"".join(self.body.chunks()))
            with site.lock:
                site.faults[:] = [Fault(**each) for each in given]
            return Response(204)
        shown: dict[str, Callable[[], Any]] = {
            "state": site.snapshot,
            "log": lambda: [vars(request) for request in site.requests],
            "violations": lambda: site.violations,
            "leaks": lambda: site.leaks,
        }
        if self.command != "GET" or what not in shown:
            return Response(404, {"message": "Not Found"})
        return Response(200, shown[what]())
