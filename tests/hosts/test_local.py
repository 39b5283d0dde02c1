"""A folder as a release host: a release is whole there or not at all."""

import os
from pathlib import Path

import pytest

from dists import write_files
from model_release.base.errors import HostError
from model_release.contract.manifest import FileEntry
from model_release.hosts.local import LocalHost
from model_release.hosts.reconcile import plan_release


def publish(host: LocalHost, dist: Path, entries: tuple[FileEntry, ...], *, replace: bool = False) -> set[str]:
    actions = plan_release(entries, host.state("model-v1.0.0"), replace=replace)
    if not any(action.kind == "refuse" for action in actions):
        host.apply("model-v1.0.0", dist, actions)
    return {action.kind for action in actions}


def test_a_release_appears_complete_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    entries = write_files(dist, {"a": b"1", "b": b"2"})
    assert publish(host, dist, entries) == {"upload"}
    before = (tmp_path / "releases" / "model-v1.0.0").stat().st_mtime_ns
    assert publish(host, dist, entries) == {"keep"}
    assert (tmp_path / "releases" / "model-v1.0.0").stat().st_mtime_ns == before
    assert host.tags() == ["model-v1.0.0"]


def test_other_content_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    publish(host, dist, write_files(dist, {"a": b"1", "b": b"2"}))
    entries = write_files(tmp_path / "other", {"a": b"1", "c": b"3"})
    assert publish(host, tmp_path / "other", entries) == {"keep", "refuse"}
    assert publish(host, tmp_path / "other", entries, replace=True) == {"keep", "delete", "upload"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "releases" / "model-v1.0.0").iterdir()} == {
        "a": b"1",
        "c": b"3",
    }
    assert os.listdir(tmp_path / "releases") == ["model-v1.0.0"]


def test_a_copy_that_fails_leaves_no_half_release(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    entries = write_files(dist, {"a": b"1", "b": b"2"})
    (dist / "b").unlink()
    with pytest.raises(HostError):
        publish(host, dist, entries)
    assert host.state("model-v1.0.0") is None
    assert not (tmp_path / "releases").exists()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    for leftover in (".model-v1.0.0.abc.partial", ".model-v1.0.0-rc.1.abc.partial"):
        write_files(tmp_path / "releases" / leftover, {"a": b"half"})
    publish(host, dist, write_files(dist, {"a": b"1"}))
    assert sorted(os.listdir(tmp_path / "releases")) == [".model-v1.0.0-rc.1.abc.partial", "model-v1.0.0"]
    assert host.tags() == ["model-v1.0.0"]


def test_a_release_that_was_being_replaced_when_the_run_was_killed_is_still_there(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    entries = write_files(dist, {"a": b"1"})
    publish(host, dist, entries)
    (tmp_path / "releases" / "model-v1.0.0").rename(tmp_path / "releases" / ".model-v1.0.0.old")
    assert publish(host, dist, entries) == {"keep"}
    assert os.listdir(tmp_path / "releases") == ["model-v1.0.0"]
    assert publish(host, tmp_path / "new", write_files(tmp_path / "new", {"a": b"2"}), replace=True) == {"replace"}
    assert os.listdir(tmp_path / "releases") == ["model-v1.0.0"]


def test_an_asset_url_is_where_the_folder_is_served(tmp_path: Path) -> None:
    assert (
        LocalHost(tmp_path, base_url="https://x.example/r/").asset_url("t", "m.onnx") == "https://x.example/r/t/m.onnx"
    )
    assert LocalHost(tmp_path).asset_url("t", "m.onnx") == (tmp_path / "t" / "m.onnx").as_uri()
