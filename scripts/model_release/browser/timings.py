"""What a release needed in a browser: times and memory, told in its notes.

They differ from run to run, so they are in no manifest and no asset: `browser.json` lies beside a release's files and
stays behind when they are published. Equal releases keep equal bytes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from model_release.base.errors import ManifestError

FIGURES_NAME = "browser.json"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one file needed on one backend; None for what could not be had.

    Attributes:
        load_s: Download and creation of the session.
        session_s: Creation of the session alone.
        js_bytes: JavaScript's heap after the runs, without array buffers.
        wasm_bytes: WebAssembly's memory after the runs.
    """

    load_s: float | None = None
    session_s: float | None = None
    first_run_ms: float | None = None
    median_run_ms: float | None = None
    js_bytes: float | None = None
    wasm_bytes: float | None = None


Measured = Mapping[tuple[str, str], Figures]
"""By file and backend."""


def render(measured: Measured) -> bytes:
    """Figures as the bytes of `browser.json`."""
    rows = [{"file": file, "backend": backend, **asdict(of)} for (file, backend), of in measured.items()]
    return f"{json.dumps(rows, indent=2, allow_nan=False)}\n".encode()


def read(path: Path) -> Measured:
    """Figures from a `browser.json`, which may come from anywhere.

    Raises:
        ManifestError: It cannot be read, or holds something else.
    """
    try:
        return {(str(row.pop("file")), str(row.pop("backend"))): _figures(row) for row in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as failure:
        raise ManifestError(f"{path} must hold a browser's figures, got: {failure!r:.100}. Remove it.") from failure


def _figures(row: Mapping[str, float | None]) -> Figures:
    """A row without its file and backend.

    Raises:
        ValueError: A value is no figure.
        TypeError: It has other keys.
    """
    for value in row.values():
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(value)
    return Figures(**row)
