"""What can go wrong with a request, and where."""

import fnmatch
from dataclasses import dataclass, field, replace
from typing import Any

FOREVER = 1_000_000


@dataclass
class Fault:
    """What goes wrong, where, and how often.

    Attributes:
        kind: `refuse` (reset before the body is read), `cut` (reset in the middle of the body; an
            upload leaves a `starter` asset), `reset` (after the whole body), `hang` (silence for
            `seconds`, then a reset), `truncate` (half an answer), `corrupt` (other bytes of the same
            size), `slow` (an answer in ten pieces over `seconds`), `primary` (the hourly limit), or a
            status: `500`, `502` (an upload leaves a `starter` asset), `403` and `429` (a secondary
            limit), `409`, `422`, or any other.
        method: The request's method, or empty for any.
        path: A shell pattern over the path, without `/api/v3`, such as `/repos/*/releases`.
        nth: The first matching request it hits, counted from 1.
        times: How many matching requests it hits from there on.
        number: If set, it hits the request of this number instead, counted from 1 over all requests.
        acts: Whether the server does what was asked before it fails. Always so for `truncate`,
            `corrupt` and `slow`, never for `refuse` and `cut`.
        retry_after: The Retry-After header that goes with a status.
        seconds: How long `hang` and `slow` last.
        message: The message in the answer, in place of the usual one.
    """

    kind: str
    method: str = ""
    path: str = "*"
    nth: int = 1
    times: int = 1
    number: int = 0
    acts: bool = False
    retry_after: str = ""
    seconds: float = 0.5
    message: str = ""
    seen: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        known = {"refuse", "cut", "reset", "hang", "truncate", "corrupt", "slow", "primary"}
        if not (self.kind in known or self.kind.isdecimal()):
            raise ValueError(f"a fault must be a status or one of {sorted(known)}, got {self.kind!r}")
        self.acts = self.acts or self.kind in {"truncate", "corrupt", "slow"}

    @property
    def status(self) -> int:
        """The status it answers with; 0 if it is not about one."""
        if self.kind == "primary":
            return 403
        return int(self.kind) if self.kind.isdecimal() else 0

    def hits(self, number: int, method: str, path: str) -> bool:
        """Whether it is this request's turn; counts the requests it is asked about."""
        if self.number:
            return self.number == number
        if self.method in ("", method) and fnmatch.fnmatchcase(path, self.path):
            self.seen += 1
            return self.nth <= self.seen < self.nth + self.times
        return False

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Reads `[METHOD ]PATTERN=KIND[*TIMES][@NTH]`, such as `POST /uploads/*=502@2`.

        >>> fault = Fault.parse("POST /uploads/*=502@2")
        >>> fault.method, fault.path, fault.kind, fault.nth, fault.times
        ('POST', '/uploads/*', '502', 2, 1)
        """
        where, _, what = text.rpartition("=")
        method, _, path = where.rpartition(" ")
        what, _, nth = what.partition("@")
        kind, _, times = what.partition("*")
        return cls(kind, method=method, path=path or "*", nth=int(nth or 1), times=int(times or 1))


EVERY_FAULT = {
    "connection refused": Fault("refuse"),
    "reset in the middle of the request": Fault("cut"),
    "reset before the server acts": Fault("reset"),
    "reset after the server acted": Fault("reset", acts=True),
    "500": Fault("500"),
    "502": Fault("502"),
    "502 after the server acted": Fault("502", acts=True),
    "403 secondary limit": Fault("403"),
    "403 secondary limit with retry-after": Fault("403", retry_after="1"),
    "429 secondary limit with retry-after": Fault("429", retry_after="1"),
    "409": Fault("409"),
    "422": Fault("422"),
    "truncated answer": Fault("truncate"),
    "hang before the server acts": Fault("hang"),
    "hang after the server acted": Fault("hang", acts=True),
    "slow answer": Fault("slow"),
}


def fault(name: str, **changes: Any) -> Fault:
    """A fresh copy of one of EVERY_FAULT, aimed with `number`, or `method`, `path` and `nth`."""
    return replace(EVERY_FAULT[name], **changes)
