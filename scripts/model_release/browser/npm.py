"""Installs locked npm packages beside their package.json, once."""

import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path

from model_release.base.errors import MissingToolError
from model_release.base.files import write_bytes
from model_release.base.lock import locked
from model_release.base.progress import Progress, silent

BROWSER = Path(__file__).resolve().parent / "gate_page"
"""What a page needs: its packages are served to it, never bundled."""

_STAMP = "installed.sha256"
_TIMEOUT_S = 600


def install(folder: Path = BROWSER, *, progress: Progress = silent) -> Path:
    """Installs what `package-lock.json` of a folder names; nothing to do if that is installed already.

    Of runs at the same time one installs, and the others wait for it.

    Returns:
        Its `node_modules`.

    Raises:
        MissingToolError: There is no npm, it cannot install the packages, or another run does not end.
    """
    modules = folder / "node_modules"
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if _has(modules, wanted):
        return modules
    with locked(folder, progress, deadline=time.monotonic() + _TIMEOUT_S, error=MissingToolError):
        if not _has(modules, wanted):  # Another run may just have installed it.
            _install(folder, progress)
            write_bytes(modules / _STAMP, wanted.encode(), error=MissingToolError)
    return modules


def _has(modules: Path, wanted: str) -> bool:
    stamp = modules / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == wanted


def _install(folder: Path, progress: Progress) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingToolError(
            "npm must be installed to get the browser's packages, there is none. Install Node.js 20."
        )
    progress(f"npm ci: {', '.join(packages_of(folder))}")
    # No package may run code of its own while it is installed.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as failure:
        raise MissingToolError(
            f"npm ci must end within {_TIMEOUT_S} s. Run it again with a better network."
        ) from failure
    if done.returncode != 0:
        raise MissingToolError(
            f"npm ci must install {folder / 'package-lock.json'}, it says: {done.stderr[-400:] or done.stdout[-400:]}. "
            "Check the network and run it again."
        )


def packages_of(folder: Path) -> list[str]:
    """The packages a folder asks for, as name@version."""
    document = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    wanted = {**document.get("dependencies", {}), **document.get("devDependencies", {})}
    return [f"{name}@{version}" for name, version in sorted(wanted.items())]
