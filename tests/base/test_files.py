"""Files are written whole or not at all."""

import os
from pathlib import Path

import pytest

from model_release.base.errors import ExportError
from model_release.base.files import atomic_path, write_bytes


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x", error=ExportError) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_folders_made_for_a_failed_write_go_with_it(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="No space"), atomic_path(tmp_path / "a" / "b" / "x", error=ExportError):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_write_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(tmp_path / "link", b"new", error=ExportError)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_write_keeps_the_files_permissions(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "x").chmod(0o640)
    write_bytes(tmp_path / "x", b"new", error=ExportError)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640
