"""A release that is public is the truth about itself: a rebuild on another machine keeps and uses it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dists import REPOSITORY, TAG, built_by, github_host
from model_release.base.errors import HostError, ManifestError
from model_release.base.files import sha256_of_bytes
from model_release.contract import manifest
from model_release.contract.identity import asked_of
from model_release.contract.manifest import FileEntry, Manifest
from model_release.contract.tag import parse_tag
from model_release.hosts.host import Host
from model_release.hosts.local import LocalHost
from model_release.release.kept import find_public, read_public
from model_release.release.publish import PublishResult, hand_over, publish
from standins.github import StandInGitHub

Opener = Callable[[], Host]


@pytest.fixture(params=["local", "github"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens a host as a new run does."""
    if request.param == "local":
        yield lambda: LocalHost(tmp_path / "releases")
        return
    with StandInGitHub() as site:
        site.add_repository(REPOSITORY).create_tag(TAG)
        yield lambda: github_host(site)
        assert (site.violations, site.leaks) == ([], [])


def run(host: Opener, dist: Path, **options: Any) -> PublishResult:
    return publish(dist, parse_tag(TAG), host(), **options)


@pytest.mark.network
def test_a_rebuild_on_another_machine_keeps_the_public_release(host: Opener, tmp_path: Path) -> None:
    first, again = built_by(tmp_path, 1), built_by(tmp_path, 2)
    run(host, first)
    before = host().state(TAG)
    result = run(host, again)
    assert {action.kind for action in result.actions} == {"keep"}
    assert host().state(TAG) == before
    assert result.kept is not None
    assert result.kept.document == manifest.read(first)
    (tmp_path / "scratch").mkdir()
    released = hand_over(result, host(), tmp_path / "scratch")
    assert released.files  # The app's tree gets them.
    assert {path: file.read_bytes() for path, file in released.files.items()} == {
        path: (first / file.name).read_bytes() for path, file in released.files.items()
    }


@pytest.mark.network
def test_the_mirror_gets_the_public_releases_own_files(host: Opener, tmp_path: Path) -> None:
    first = built_by(tmp_path, 1)
    run(host, first)
    seen = {}

    def mirror(document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool) -> str:
        assert was_public
        seen.update({entry.name: (dist / entry.name).read_bytes() for entry in entries})
        return f"https://mirror.example/{document.delivery.file}"

    result = run(host, built_by(tmp_path, 2), mirror=mirror)
    assert seen == {path.name: path.read_bytes() for path in first.iterdir()}
    assert result.mirror_url == "https://mirror.example/model_small.onnx"


@pytest.mark.network
def test_a_release_that_another_machine_finishes_first_is_what_the_mirror_gets(tmp_path: Path) -> None:
    first = built_by(tmp_path, 1)
    mirrored: list[dict[str, bytes]] = []
    with StandInGitHub() as site:
        site.add_repository(REPOSITORY).create_tag(TAG)

        def mirror(document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool) -> str:
            assert document.tag == TAG
            assert was_public == bool(mirrored)
            if not mirrored:
                publish(first, parse_tag(TAG), github_host(site))  # Meanwhile, on its machine.
            mirrored.append({entry.name: (dist / entry.name).read_bytes() for entry in entries})
            return f"https://mirror.example/{len(mirrored)}"

        result = publish(built_by(tmp_path, 2), parse_tag(TAG), github_host(site), mirror=mirror)
        assert mirrored[-1] == {path.name: path.read_bytes() for path in first.iterdir()}
        assert result.mirror_url == f"https://mirror.example/{len(mirrored)}"
        assert result.document == manifest.read(first)
        assert site.violations == []


@pytest.mark.network
@pytest.mark.parametrize("uploaded", [1, 3, 6])
def test_a_draft_half_uploaded_by_another_machine_is_finished_with_files_of_one_build(
    tmp_path: Path, uploaded: int
) -> None:
    first, again = built_by(tmp_path, 1), built_by(tmp_path, 2)
    with StandInGitHub() as site:
        repository = site.add_repository(REPOSITORY)
        repository.create_tag(TAG)
        files = {path.name: path.read_bytes() for path in sorted(first.iterdir(), reverse=True)[:uploaded]}
        draft = repository.add_release(TAG, {**files, "model_int4.onnx": b"of another request"}, draft=True)
        draft.assets[0].state = "starter"
        mirrored: list[str] = []

        def mirror(document: Manifest, dist: Path, entries: Iterable[FileEntry], *, was_public: bool) -> str:
            mirrored.extend(manifest.checksums([*entries]).decode().splitlines())
            assert (document.tag, dist, was_public) == (TAG, again, False)
            return "https://mirror.example/model_small.onnx"

        result = publish(again, parse_tag(TAG), github_host(site), mirror=mirror)
        (release,) = repository.snapshot()["releases"]
        wanted = {path.name: sha256_of_bytes(path.read_bytes()) for path in again.iterdir()}
        assert {name: asset["sha256"] for name, asset in release["assets"].items()} == wanted
        assert mirrored == [f"{digest}  {name}" for name, digest in sorted(wanted.items())]
        assert (release["draft"], result.kept, result.document) == (False, None, manifest.read(again))
        assert read_public(github_host(site), parse_tag(TAG)).document == result.document
        assert site.violations == []


@pytest.mark.network
def test_a_public_release_from_before_bills_of_materials_is_kept_as_it_is(host: Opener, tmp_path: Path) -> None:
    run(host, built_by(tmp_path, 1))
    before = host().state(TAG)
    result = run(host, built_by(tmp_path, 2, **{"bom.cdx.json": b"{}"}))
    assert {action.kind for action in result.actions} == {"keep"}
    assert host().state(TAG) == before


@pytest.mark.network
def test_another_request_is_refused_by_its_first_real_difference(host: Opener, tmp_path: Path) -> None:
    run(host, built_by(tmp_path, 1))
    other = built_by(tmp_path, 2, **{"model.onnx": b"other" * 400})
    with pytest.raises(HostError, match=r"with other content \(model\.onnx: sha256 .* here\)") as refused:
        run(host, other)
    assert "SHA256SUMS" not in str(refused.value)


@pytest.mark.network
def test_replace_still_replaces(host: Opener, tmp_path: Path) -> None:
    run(host, built_by(tmp_path, 1))
    again = built_by(tmp_path, 2)
    result = run(host, again, replace=True)
    assert {action.name for action in result.actions if action.kind == "replace"} == {
        "SHA256SUMS",
        "manifest.json",
        "measured.json",
        "model_small.onnx",
        "report.html",
    }
    state = host().state(TAG)
    assert state is not None
    assert {file.name: file.sha256 for file in state.files} == {
        entry.name: entry.sha256 for entry in result.details.files
    }


def test_a_damaged_public_release_is_not_used(tmp_path: Path) -> None:
    local: Opener = lambda: LocalHost(tmp_path / "releases")  # noqa: E731
    run(local, built_by(tmp_path, 1))
    (tmp_path / "releases" / TAG / "model.onnx").write_bytes(b"bitrot")
    with pytest.raises(ManifestError, match=r"must hold what its own SHA256SUMS says, model\.onnx has other bytes"):
        run(local, built_by(tmp_path, 2))


def test_a_dry_run_says_that_the_release_is_kept(tmp_path: Path) -> None:
    local: Opener = lambda: LocalHost(tmp_path / "releases")  # noqa: E731
    run(local, built_by(tmp_path, 1))
    result = run(local, built_by(tmp_path, 2), dry_run=True)
    assert {action.kind for action in result.actions} == {"keep"}


@pytest.mark.network
def test_another_request_under_a_public_tag_is_refused_before_anything_is_built(host: Opener, tmp_path: Path) -> None:
    first = built_by(tmp_path, 1)
    asked = asked_of(manifest.read(first))
    assert find_public(host(), asked) is None
    run(host, first)
    public = find_public(host(), asked)
    assert public is not None
    assert public.document == manifest.read(first)
    with pytest.raises(
        HostError, match=r"with other content \(opset: 20 in the release, 21 here\)\. Use the next free tag"
    ):
        find_public(host(), replace(asked, selection=replace(asked.selection, opset=21)))
