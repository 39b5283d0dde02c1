"""Pointing the web app at a release that is public: recovery and the way back, without a build."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cli
from commands import assert_refused, call
from dists import REPOSITORY, TOKEN, make_dist, publish_to
from model_release.contract.tag import parse_tag
from model_release.hosts.local import LocalHost
from model_release.release.publish import publish
from standins.github import Repository, StandInGitHub

OLD, NEW = "model-v1.0.0", "model-v1.1.0"
ENV = "apps/web/.env.production"


def by_git(document: dict[str, Any]) -> None:
    document["delivery"]["mode"] = "git"


def released(folder: Path, tag: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    """A release's files; each tag has another model."""
    files = {"model.onnx": f"onnx {tag} ".encode() * 40, "config.json": b"{}"}
    return make_dist(folder / tag, tag, files, change=change)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder with two releases for an app that has its model in its tree, and that app's env file."""
    for tag in (OLD, NEW):
        publish(released(tmp_path / "dist", tag, by_git), parse_tag(tag), LocalHost(tmp_path / "releases"))
    (tmp_path / ".env").write_text("# ours\nAPI=https://api.example\n")
    return tmp_path


def point(folder: Path, tag: str, *options: str) -> Any:
    return call(
        cli.point, "--tag", tag, "--host", f"local:{folder / 'releases'}", "--env-file", folder / ".env", *options
    )


def test_the_app_goes_forward_and_back_between_public_releases(local: Path) -> None:
    for tag, version in ((NEW, "1.1.0"), (OLD, "1.0.0"), (NEW, "1.1.0")):
        outcome = point(local, tag)
        assert outcome.code == 0, outcome.err
        text = (local / ".env").read_text()
        assert text.startswith("# ours\nAPI=https://api.example\n")
        assert f"VITE_MODEL_URL=models/gpt2/model.onnx?v={version}-" in text
        model = local / "static" / "models" / "gpt2" / "model.onnx"
        assert model.read_bytes() == (local / "releases" / tag / "model.onnx").read_bytes()


def test_a_dry_run_changes_nothing(local: Path) -> None:
    outcome = point(local, NEW, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "model-v1.1.0 is whole: model.onnx, delivered by git" in outcome.out
    assert (local / ".env").read_text() == "# ours\nAPI=https://api.example\n"
    assert not (local / "static").exists()


@pytest.mark.parametrize(
    ("tag", "damage", "code", "sentence"),
    [
        ("model-v9.0.0", None, 8, "model-v9.0.0 must be a public release, there is none. "),
        ("v1.0.0", None, 2, "tag must be model-vMAJOR.MINOR.PATCH"),
        (NEW, "model.onnx", 7, "model-v1.1.0 must hold what its own SHA256SUMS says, model.onnx has other bytes. "),
        (NEW, "manifest.json", 7, "manifest.json must have the sha256 that SHA256SUMS gives"),
        (NEW, "SHA256SUMS", 7, "SHA256SUMS must hold a sha256 and a name a line"),
    ],
)
def test_what_is_no_whole_public_release_is_refused(
    local: Path, tag: str, damage: str | None, code: int, sentence: str
) -> None:
    if damage is not None:
        (local / "releases" / tag / damage).write_bytes(b"bitrot")
    outcome = point(local, tag)
    assert_refused(outcome, code)
    assert sentence in outcome.error
    assert (local / ".env").read_text() == "# ours\nAPI=https://api.example\n"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGitHub]:
    with StandInGitHub() as running:
        monkeypatch.setenv("GITHUB_API_URL", running.url)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
        yield running
        assert (running.violations, running.leaks) == ([], [])


@pytest.fixture
def repository(site: StandInGitHub) -> Repository:
    return site.add_repository(REPOSITORY, {ENV: "VITE_MODEL_URL=old\n"})


@pytest.mark.network
def test_on_github_one_commit_points_the_app_at_the_releases_own_address(
    site: StandInGitHub, repository: Repository, tmp_path: Path
) -> None:
    for tag in (OLD, NEW):
        repository.create_tag(tag)
        publish_to(site, released(tmp_path, tag), tag)
    before = repository.snapshot()["releases"]
    outcome = call(cli.point, "--tag", OLD)
    assert outcome.code == 0, outcome.err
    text = repository.files()[ENV].decode()
    assert f"/{REPOSITORY}/releases/download/{OLD}/model.onnx?v=1.0.0-" in text
    assert repository.snapshot()["releases"] == before
    again = call(cli.point, "--tag", OLD)
    assert f"{ENV}: unchanged" in again.out


@pytest.mark.network
def test_a_draft_is_no_release_to_point_at(repository: Repository) -> None:
    repository.add_release(OLD, draft=True)
    outcome = call(cli.point, "--tag", OLD)
    assert_refused(outcome, 8)
    assert "it is a draft" in outcome.error
    assert repository.files()[ENV] == b"VITE_MODEL_URL=old\n"
