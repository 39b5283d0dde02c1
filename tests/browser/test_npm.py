"""npm's packages are installed once, however many ask for them at a time."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_release.base.errors import MissingToolError
from model_release.base.lock import locked
from model_release.base.progress import silent
from model_release.browser import npm

NPM = """#!/bin/sh
# Empties the folder first, as `npm ci` does.
echo begins >>calls
rm -rf node_modules
sleep 0.5
mkdir node_modules
echo whole >node_modules/package
echo ends >>calls
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to install in, and an npm that notes its calls."""
    (tmp_path / "package.json").write_text('{"dependencies": {"left": "1.0.0"}}')
    (tmp_path / "package-lock.json").write_text("{}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/npm").write_text(NPM)
    (tmp_path / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


def test_of_several_at_a_time_one_installs_and_all_have_the_packages(folder: Path) -> None:
    said: list[str] = []

    def install(_: int) -> str:
        return (npm.install(folder, progress=said.append) / "package").read_text()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(install, range(3))) == ["whole\n"] * 3
    assert calls(folder) == ["begins", "ends"]
    assert sorted(said) == [f"{folder}: waiting for another run"] * 2 + ["npm ci: left@1.0.0"]


def test_another_lock_file_is_installed_anew(folder: Path) -> None:
    npm.install(folder)
    npm.install(folder)
    (folder / "package-lock.json").write_text('{"name": "other"}')
    npm.install(folder)
    assert calls(folder) == ["begins", "ends"] * 2


def test_a_run_that_does_not_end_is_not_waited_for_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "_TIMEOUT_S", 0)
    with (
        locked(folder, silent, deadline=time.monotonic(), error=MissingToolError),
        pytest.raises(MissingToolError, match=r"must be free, but another run holds it\. Wait for it to end\."),
    ):
        npm.install(folder)
    assert not (folder / "calls").exists()
