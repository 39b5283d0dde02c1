"""Work that goes on in a thread beside the program."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(work: Callable[[], Result]) -> Callable[..., Result]:
    """Begins work in a thread that ends with the program.

    Returns:
        What waits for the result, for so many seconds if it is told any, and raises the work's error or `TimeoutError`.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as failure:  # noqa: BLE001 - raised again by who waits
            future.set_exception(failure)

    threading.Thread(target=run, daemon=True).start()
    return future.result
