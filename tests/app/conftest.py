"""What the tests of an app on GitHub begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app_repository import FILES, FOLDER, NAME, START
from standins.github import Repository, StandInGitHub


@pytest.fixture
def site() -> Iterator[StandInGitHub]:
    with StandInGitHub() as started:
        yield started
    assert started.violations == []


@pytest.fixture
def app(site: StandInGitHub) -> Repository:
    return site.add_repository(NAME, START)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The model's files, by their place in the app's repository."""
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return {f"{FOLDER}/{name}": tmp_path / name for name in FILES}
