"""A headless Chromium of this machine, driven by Playwright, which is imported only here and only when asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from model_release.errors import MissingToolError, ReleaseError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

_FLAGS = (
    # WebGPU without a GPU: Chromium's own software adapter.
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-precise-memory-info",
    "--disable-dev-shm-usage",  # A container's /dev/shm is small.
)


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


def ask(page: "Page", function: str, argument: object) -> Any:  # noqa: ANN401 - whatever the function returns
    """What a function of a page returns for plain data.

    Raises:
        PageCrashError: The page has died of it.
    """
    from playwright.sync_api import Error

    try:
        return page.evaluate(f"argument => {function}(argument)", argument)
    except Error as failure:
        if "crashed" not in failure.message:
            raise  # The page's own code is at fault.
        raise PageCrashError("the page must survive, it crashed. Give it more memory.") from failure
