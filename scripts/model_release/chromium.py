"""A headless Chromium of this machine, driven by Playwright, which is imported only here and only when asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from model_release.errors import MissingToolError, ReleaseError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_FLAGS = (
    # WebGPU without a GPU: Chromium's own software adapter.
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-precise-memory-info",
    "--disable-dev-shm-usage",  # A container's /dev/shm is small.
)


class Ask(Protocol):
    """See `opened`."""

    def __call__(self, function: str, argument: object = None) -> Any:  # noqa: ANN401 - whatever the function returns
        """Calls a function of the page."""


class PageCrashError(ReleaseError):
    """A page that has died, most often because the machine's memory or its own address space is full."""


def executable() -> str:
    """The path of Chromium: `CHROMIUM_PATH`, or the first of its usual names.

    Raises:
        MissingToolError: There is none.
    """
    path = os.environ.get("CHROMIUM_PATH") or next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None or shutil.which(path) is None:
        raise MissingToolError(
            "Chromium must be installed, or CHROMIUM_PATH name it; there is none. "
            "Install it: apt-get install chromium (Debian), or set CHROMIUM_PATH."
        )
    return path


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Starts it, and ends it with the block.

    Raises:
        MissingToolError: Chromium or Playwright is not installed, or Chromium does not start.
    """
    path = executable()
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as failure:
        raise MissingToolError(
            "driving Chromium needs Playwright. Install it: pip install playwright==1.65.2."
        ) from failure
    with sync_playwright() as playwright:
        try:
            # A container's root has no sandbox; only pages of our own are opened.
            browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS), chromium_sandbox=False)
        except Error as failure:
            raise MissingToolError(
                f"Chromium must start, {path} says: {failure.message[:300]}. Install a working one."
            ) from failure
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: "Browser", url: str) -> Iterator[Ask]:
    """A page with settings, caches and memory of its own, until the block ends.

    Yields:
        Calls a function of the page with plain data, and returns its answer. Raises PageCrashError
        when the page dies of it.
    """
    from playwright.sync_api import Error

    context = browser.new_context()
    page = context.new_page()

    def ask(function: str, argument: object = None) -> Any:  # noqa: ANN401 - whatever the function returns
        try:
            return page.evaluate(f"argument => {function}(argument)", argument)
        except Error as failure:
            if "crashed" not in failure.message:
                raise  # The page's own code is at fault.
            raise PageCrashError("the page must survive, it crashed. Give it more memory.") from failure

    try:
        page.goto(url)
        yield ask
    finally:
        context.close()
