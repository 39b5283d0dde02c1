"""A release folder, served with the page that runs it in a browser."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from model_release.browser import npm
from model_release.browser.pages.render import render_live
from model_release.browser.pages.sample import PROMPT
from model_release.browser.server import serve
from model_release.contract import manifest

PAGE = "try.html"
PACKAGES = "packages"
"""Where the page finds what npm installed; `loading.js` names it too."""


@contextmanager
def serve_release(folder: Path, *, port: int = 0, progress: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """Serves a release on 127.0.0.1 until the block ends, with its live page beside it.

    Args:
        folder: A release, its manifest in it. Nothing is written there.
        port: Where to listen; 0 lets the system choose.
        progress: Told when npm installs the page's packages, which happens once.

    Yields:
        The page's URL.

    Raises:
        ManifestError: The folder holds no release.
        UsageError: The port is taken, or npm cannot install the packages.
    """
    manifest.read(folder)
    packages = npm.install(progress=progress)
    with tempfile.TemporaryDirectory(prefix="model-release-") as place:
        page = Path(place) / PAGE
        page.write_bytes(render_live(PROMPT))
        with serve(folder, mounts={PACKAGES: packages, PAGE: page}, home=PAGE, port=port) as origin:
            yield f"{origin}/{PAGE}"
