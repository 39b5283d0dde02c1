"""A request as the handlers see it, what they answer, and the table of routes."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlencode

from .models import Token
from .repository import Repository

if TYPE_CHECKING:
    from .site import StandInGitHub

DOCS = "https://docs.github.com/rest"
CHUNK_BYTES = 1 << 20


@dataclass
class Response:
    """What is sent back: JSON, raw bytes, or a file."""

    status: int
    json: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    file: Path | None = None
    media_type: str = ""


class Refusal(Exception):  # noqa: N818 - it is GitHub's answer, not a failure of the stand-in
    """An error answer, in GitHub's words."""

    def __init__(
        self,
        status: int,
        message: str,
        *errors: Mapping[str, str] | str,
        headers: Mapping[str, str] | None = None,
        documentation: str = DOCS,
    ) -> None:
        super().__init__(message)
        body: dict[str, Any] = {"message": message, "documentation_url": documentation, "status": str(status)}
        if errors:
            body["errors"] = list(errors)
        self.answer = Response(status, body, dict(headers or {}))


def not_found() -> Refusal:
    """404: there is no such thing, or you may not know of it."""
    return Refusal(404, "Not Found")


def invalid(resource: str, *errors: tuple[str, str] | str) -> Refusal:
    """422: each error is a code with its field, or a sentence of its own."""
    return Refusal(
        422,
        "Validation Failed",
        *(
            {"resource": resource, "code": "custom", "message": error}
            if isinstance(error, str)
            else {"resource": resource, "code": error[0], "field": error[1]}
            for error in errors
        ),
    )


def missing(name: str) -> Refusal:
    """422: a field of the body is missing."""
    return Refusal(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')


class Body:
    """The body of a request, read when it is asked for."""

    def __init__(self, stream: IO[bytes] | BufferedIOBase, length: int) -> None:
        self.length = length
        self.remaining = length
        self._stream = stream

    def chunks(self, stop_after: int | None = None) -> Iterator[bytes]:
        """The bytes that are left, piece by piece; `stop_after` leaves the rest unread.

        Raises:
            ConnectionError: The client hung up before it had sent everything.
        """
        end = 0 if stop_after is None else max(0, self.remaining - stop_after)
        while self.remaining > end:
            chunk = self._stream.read(min(CHUNK_BYTES, self.remaining - end))
            if not chunk:
                raise ConnectionError("the client hung up in the middle of a request")
            self.remaining -= len(chunk)
            yield chunk

    def drain(self) -> None:
        """Reads and forgets what is left."""
        for _ in self.chunks():
            pass


@dataclass
class Call:
    """A request to the API.

    Attributes:
        host: `http://127.0.0.1:PORT`, as the client called it.
        prefix: `/api/v3` or nothing; addresses in answers repeat it.
        token: None for an anonymous request.
        data: The JSON body; empty for an upload, whose bytes stay in `body`.
    """

    site: "StandInGitHub"
    host: str
    prefix: str
    token: Token | None
    params: dict[str, str]
    query: dict[str, str]
    path: str
    accept: str
    content_type: str
    body: Body
    data: dict[str, Any] = field(default_factory=dict)
    found: Repository | None = None

    @property
    def repository(self) -> Repository:
        """The repository it is about."""
        if self.found is None:
            raise not_found()
        return self.found

    @property
    def api(self) -> str:
        """Where the API's addresses begin."""
        return self.host + self.prefix

    @property
    def may_push(self) -> bool:
        """Whether drafts are visible to this client."""
        return self.token is not None and self.token.may_write("contents", self.repository.full_name)

    def text(self, name: str, default: str | None = None) -> str:
        """A field of the body that must be text."""
        value = self.data.get(name, default)
        if value is None:
            raise missing(name)
        if not isinstance(value, str):
            raise Refusal(422, f"Invalid request.\n\nFor 'properties/{name}', {value!r} is not a string.")
        return value

    def page(self, items: Sequence[Any], view: Callable[[Any], Any], *, key: str = "") -> Response:
        """One page of a list, with the Link header that leads to the others."""
        size = min(100, max(1, _number(self.query.get("per_page"), 30)))
        page = max(1, _number(self.query.get("page"), 1))
        last = max(1, -(-len(items) // size))
        targets = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        if page >= last:
            targets.pop("next")
            targets.pop("last")
        if page == 1:
            targets.pop("prev")
            targets.pop("first")
        links = [
            f'<{self.host}{self.path}?{urlencode(self.query | {"page": str(number)})}>; rel="{name}"'
            for name, number in targets.items()
        ]
        shown = [view(item) for item in items[(page - 1) * size : page * size]]
        body = {"total_count": len(items), key: shown} if key else shown
        return Response(200, body, {"Link": ", ".join(links)} if links else {})


Handler = Callable[[Call], Response]


@dataclass(frozen=True)
class Route:
    """A line of the table of routes.

    Attributes:
        template: The path as the official description writes it.
        writes: What a token must be able to write, or empty.
        streams: Whether the handler reads the body itself, and locks the state itself.
    """

    method: str
    template: str
    handler: Handler
    writes: str
    streams: bool
    pattern: re.Pattern[str]


ROUTES: list[Route] = []
_PATTERNS = dict.fromkeys(("ref", "tag", "branch"), ".+") | {"path": ".*"}
_PATTERNS |= dict.fromkeys(("release_id", "asset_id", "pull_number"), r"\d+")
REPOSITORY = "/repos/{owner}/{repo}"


def route(method: str, template: str, *, writes: str = "", streams: bool = False) -> Callable[[Handler], Handler]:
    """Puts a handler into the table; more exact templates come first."""

    def part(match: re.Match[str]) -> str:
        return f"(?P<{match[1]}>{_PATTERNS.get(match[1], '[^/]+')})"

    def add(handler: Handler) -> Handler:
        text = re.sub(r"\{(\w+)\}", part, template).replace("/(?P<path>.*)", "(?:/(?P<path>.*))?")
        pattern = re.compile(text)
        ROUTES.append(Route(method, template, handler, writes, streams, pattern))
        return handler

    return add


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route for a decoded path, and what stands at its placeholders."""
    for candidate in ROUTES:
        if candidate.method == method and (match := candidate.pattern.fullmatch(path)):
            return candidate, match.groupdict()
    return None


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default
