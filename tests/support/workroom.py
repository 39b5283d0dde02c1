"""A working directory in which commands must refuse what is wrong, and leave everything as it was; for tests."""

import contextlib
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from commands import Outcome, assert_refused, call, tree

TAG = "model-v1.0.0"


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A working directory with a model, an exported file, an app, and all temporary files."""

    root: Path

    def refuses(
        self, command: click.Command, *arguments: object, code: int, says: tuple[str, ...] = (), silent: bool = True
    ) -> Outcome:
        """Runs a command that must be refused and leave everything as it was."""
        before = tree(self.root)
        outcome = call(command, *arguments)
        assert tree(self.root) == before, "nothing may be left behind or touched"
        assert_refused(outcome, code, says, silent=silent)
        return outcome

    def release(self, *arguments: object) -> tuple[object, ...]:
        """The options of a release that would work; later ones win."""
        return ("--tag", TAG, "--model-path", "model", "--host", "local:releases", "--env-file", "app/env", *arguments)


class TooLong(BaseException):
    """The time of `at_most` is over."""


@contextlib.contextmanager
def at_most(*, seconds: int, memory_bytes: int = 2**40) -> Iterator[None]:
    """Ends what takes longer or asks for more memory; both then look like the crash they are."""

    def too_long(*_: object) -> None:
        raise TooLong(f"more than {seconds} s")

    used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, too_long)
    resource.setrlimit(resource.RLIMIT_AS, (used_bytes + memory_bytes, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, handler)
