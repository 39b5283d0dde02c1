"""Manifest, plan, the local host and files: what makes a release whole or not at all."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_release.base.errors import ExportError, HostError, ManifestError
from model_release.base.files import atomic_path, write_bytes
from model_release.contract import manifest
from model_release.contract.manifest import FileEntry, checksums, describe_files
from model_release.hosts.local import LocalHost
from model_release.hosts.reconcile import ReleaseState, RemoteFile, plan_release


def write(folder: Path, files: dict[str, bytes]) -> tuple[FileEntry, ...]:
    """Files in a folder, described."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return describe_files(folder, files)


# -- plan


NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTENTS = st.binary(max_size=2)


def entry(name: str, content: bytes) -> FileEntry:
    return FileEntry(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def remote(name: str, content: bytes | None) -> RemoteFile:
    """None is an upload that did not finish."""
    if content is None:
        return RemoteFile(name=name, size_bytes=1, sha256="")
    return RemoteFile(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@settings(derandomize=True)
@given(
    st.dictionaries(NAMES, CONTENTS),
    st.none() | st.dictionaries(NAMES, st.none() | CONTENTS),
    st.booleans(),
    st.booleans(),
)
def test_applying_a_plan_reaches_the_wanted_state_and_a_second_plan_is_empty(
    wanted: dict[str, bytes], there: dict[str, bytes | None] | None, published: bool, replace: bool
) -> None:
    entries = [entry(name, content) for name, content in wanted.items()]
    state = (
        None
        if there is None
        else ReleaseState(published=published, files=tuple(remote(*item) for item in there.items()))
    )
    actions = plan_release(entries, state, replace=replace)
    if any(action.kind == "refuse" for action in actions):
        assert published
        assert not replace
        assert there != wanted
        return
    after = dict(there or {})
    for action in actions:
        if action.kind == "delete":
            del after[action.name]
        elif action.kind != "keep":
            after[action.name] = wanted[action.name]
    assert after == wanted
    again = plan_release(
        entries, ReleaseState(published=published, files=tuple(remote(*item) for item in after.items()))
    )
    assert {action.kind for action in again} <= {"keep"}


# -- manifest


def test_checksums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    entries = write(tmp_path, {"b.txt": b"two", "a.txt": b"one"})
    assert checksums(entries).decode().splitlines() == [
        f"{hashlib.sha256(b'one').hexdigest()}  a.txt",
        f"{hashlib.sha256(b'two').hexdigest()}  b.txt",
    ]


@pytest.mark.parametrize("name", ["a b", "../x", "-rf", ".hidden", "x\ny", "ü", "a" * 201, "a:b", "", "a/b"])
def test_a_name_that_no_asset_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="name must match"):
        describe_files(tmp_path, [name])


def test_a_file_of_two_gibibytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_ASSET_BYTES", 3)
    with pytest.raises(HostError, match="smaller than 2 GiB"):
        write(tmp_path, {"model.onnx": b"four"})


# -- files


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


# -- local host


def publish(host: LocalHost, dist: Path, entries: tuple[FileEntry, ...], *, replace: bool = False) -> set[str]:
    actions = plan_release(entries, host.state("model-v1.0.0"), replace=replace)
    if not any(action.kind == "refuse" for action in actions):
        host.apply("model-v1.0.0", dist, actions)
    return {action.kind for action in actions}


def test_a_release_appears_complete_and_a_second_one_changes_nothing(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    entries = write(dist, {"a": b"1", "b": b"2"})
    assert publish(host, dist, entries) == {"upload"}
    before = (tmp_path / "releases" / "model-v1.0.0").stat().st_mtime_ns
    assert publish(host, dist, entries) == {"keep"}
    assert (tmp_path / "releases" / "model-v1.0.0").stat().st_mtime_ns == before
    assert host.tags() == ["model-v1.0.0"]


def test_other_content_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    publish(host, dist, write(dist, {"a": b"1", "b": b"2"}))
    entries = write(tmp_path / "other", {"a": b"1", "c": b"3"})
    assert publish(host, tmp_path / "other", entries) == {"keep", "refuse"}
    assert publish(host, tmp_path / "other", entries, replace=True) == {"keep", "delete", "upload"}
    assert {path.name: path.read_bytes() for path in (tmp_path / "releases" / "model-v1.0.0").iterdir()} == {
        "a": b"1",
        "c": b"3",
    }
    assert os.listdir(tmp_path / "releases") == ["model-v1.0.0"]


def test_a_copy_that_fails_leaves_no_half_release(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    entries = write(dist, {"a": b"1", "b": b"2"})
    (dist / "b").unlink()
    with pytest.raises(HostError):
        publish(host, dist, entries)
    assert host.state("model-v1.0.0") is None
    assert not (tmp_path / "releases").exists()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    for leftover in (".model-v1.0.0.abc.partial", ".model-v1.0.0-rc.1.abc.partial"):
        write(tmp_path / "releases" / leftover, {"a": b"half"})
    publish(host, dist, write(dist, {"a": b"1"}))
    assert sorted(os.listdir(tmp_path / "releases")) == [".model-v1.0.0-rc.1.abc.partial", "model-v1.0.0"]
    assert host.tags() == ["model-v1.0.0"]


def test_a_release_that_was_being_replaced_when_the_run_was_killed_is_still_there(tmp_path: Path) -> None:
    host, dist = LocalHost(tmp_path / "releases"), tmp_path / "dist"
    entries = write(dist, {"a": b"1"})
    publish(host, dist, entries)
    (tmp_path / "releases" / "model-v1.0.0").rename(tmp_path / "releases" / ".model-v1.0.0.old")
    assert publish(host, dist, entries) == {"keep"}
    assert os.listdir(tmp_path / "releases") == ["model-v1.0.0"]
    assert publish(host, tmp_path / "new", write(tmp_path / "new", {"a": b"2"}), replace=True) == {"replace"}
    assert os.listdir(tmp_path / "releases") == ["model-v1.0.0"]


def test_an_asset_url_is_where_the_folder_is_served(tmp_path: Path) -> None:
    assert (
        LocalHost(tmp_path, base_url="https://x.example/r/").asset_url("t", "m.onnx") == "https://x.example/r/t/m.onnx"
    )
    assert LocalHost(tmp_path).asset_url("t", "m.onnx") == (tmp_path / "t" / "m.onnx").as_uri()
