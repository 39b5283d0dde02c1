"""How long work tells of its steps."""

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """No progress."""


Step = Callable[[str, str], None]


def numbered(progress: Progress, total: int) -> Step:
    """Progress lines that count the steps."""
    count = iter(range(1, total + 1))
    return lambda name, detail: progress(f"[{next(count)}/{total}] {name:<10} {detail}")
