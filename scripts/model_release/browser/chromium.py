"""A headless Chromium of this machine, driven by Playwright, which is imported only here and only when asked for."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from model_release.base.errors import MissingToolError, ReleaseError

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


_DONE = "answered"

_BEGIN = f"""argument => {{
    setTimeout(() => {{
        window.answer = (async () => %s(argument))();
        answer.catch(() => {{}}).finally(() => console.debug("{_DONE}"));
    }});
}}"""

ANSWER_S = 300
"""How long a page may take for one answer. The slowest that is known to come takes 40: a 124M model, run for two rows
of 28 tokens on WebGPU without a GPU, on two cores. A page that hangs, as in an endless shader, takes for ever."""


class Ask(Protocol):
    """See `opened`."""

    def __call__(self, function: str, argument: object = None) -> Any:  # noqa: ANN401 - whatever the function returns
        """Calls a function of the page."""


class PageLostError(ReleaseError):
    """A page that answers no more: it hangs, or has died, most often because memory or its address space is full."""


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
            "driving Chromium needs Playwright. Install it: pip install -r requirements.txt."
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
def opened(browser: "Browser", url: str, *, limit_s: float = ANSWER_S) -> Iterator[Ask]:
    """A page with settings, caches and memory of its own, until the block ends.

    Args:
        browser: From `chromium`.
        url: The page's.
        limit_s: For it to load, and for each answer.

    Yields:
        Calls a function of the page with plain data, and returns its answer. Raises PageLostError
        when none comes.
    """
    context = browser.new_context()
    context.set_default_timeout(limit_s * 1e3)
    page = context.new_page()

    def ask(function: str, argument: object = None) -> Any:  # noqa: ANN401 - whatever the function returns
        with _answered(limit_s):
            # `evaluate` waits for ever, and what waits within the page hangs with a page that is busy. So the page
            # only begins, on its next turn, and tells when it is done; how long we listen for that is ours to say.
            with page.expect_console_message(lambda message: message.text == _DONE):
                page.evaluate(_BEGIN % function, argument)
            return page.evaluate("answer")

    try:
        with _answered(limit_s):
            page.goto(url)
        yield ask
    finally:
        context.close()


@contextmanager
def _answered(limit_s: float) -> Iterator[None]:
    """Explains why no answer came; any other error is the page's own code at fault."""
    from playwright.sync_api import Error, TimeoutError

    try:
        yield
    except TimeoutError as failure:
        raise PageLostError(
            f"the page must answer within {limit_s:g} s, it does not. Choose another model."
        ) from failure
    except Error as failure:
        if "crashed" not in failure.message:
            raise
        raise PageLostError("the page must survive, it crashed. Give it more memory.") from failure
