"""The web app in a working tree and in a repository on GitHub: one vocabulary, and the same promises kept by both."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from dists import FILES, TAG, make_dist
from model_release.app.app import Released, WebApp, model_in_tree
from model_release.app.repository import AppPlace, RepositoryApp
from model_release.app.tree import TreeApp
from model_release.base.errors import EnvFileError, HostError
from model_release.base.github_access import GitHubAccess
from model_release.base.github_client import connect
from model_release.contract import manifest
from standins.github import StandInGitHub

pytestmark = pytest.mark.network
ENV, STATIC = "web/.env.production", "web/static"
OLD_ENV = "# the app\nVITE_API=https://api.example\nVITE_MODEL_URL=old\n"
ASSET = f"https://github.example/releases/download/{TAG}/model.onnx"
VERSION = f"1.0.0-{hashlib.sha256(FILES['model.onnx']).hexdigest()[:8]}"
DELIVERED = {**FILES, "tokenizer.json": b"{}"}


class World(Protocol):
    """A web app and what is in it."""

    lines: list[str]

    def app(self, *, env_file: str = ENV) -> WebApp:
        """The app, as a command has it."""

    def files(self) -> dict[str, bytes]:
        """Path -> content of all there is."""

    def put(self, path: str, content: bytes) -> None:
        """What the app's people have there."""


@dataclass
class Tree:
    """A folder of this machine."""

    folder: Path
    lines: list[str] = field(default_factory=list)

    def app(self, *, env_file: str = ENV) -> WebApp:
        """See `World`."""
        return TreeApp(env_file=self.folder / env_file, static_dir=self.folder / STATIC, progress=self.lines.append)

    def files(self) -> dict[str, bytes]:
        """See `World`."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    def put(self, path: str, content: bytes) -> None:
        """See `World`."""
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_bytes(content)


@dataclass
class OnGitHub:
    """A repository on the stand-in."""

    site: StandInGitHub
    lines: list[str] = field(default_factory=list)

    def app(self, *, env_file: str = ENV) -> WebApp:
        """See `World`."""
        access = GitHubAccess(token="write-token", api_url=self.site.url)  # noqa: S106 - the stand-in's
        place = AppPlace(repository="someone/web", env_path=env_file, static_path=STATIC)
        api = connect(access, seconds_between_writes=0)
        return RepositoryApp(api=api, place=place, source=None, progress=self.lines.append)

    def files(self) -> dict[str, bytes]:
        """See `World`."""
        return dict(self.site.repositories["someone/web"].files())

    def put(self, path: str, content: bytes) -> None:
        """See `World`."""
        self.site.repositories["someone/web"].commit({path: content})


@pytest.fixture(params=["tree", "repository"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "tree":
        (tmp_path / "app" / ENV).parent.mkdir(parents=True)
        (tmp_path / "app" / ENV).write_text(OLD_ENV)
        yield Tree(tmp_path / "app")
    else:
        with StandInGitHub() as site:
            site.add_repository("someone/web", {ENV: OLD_ENV})
            yield OnGitHub(site)
        assert site.violations == []


def released(folder: Path, mode: str, *, mirror_url: str = "") -> Released:
    dist = make_dist(folder, files=DELIVERED, change=lambda document: document["delivery"].update(mode=mode))
    document = manifest.parse((dist / manifest.MANIFEST_NAME).read_bytes())
    return Released(document=document, dist=dist, asset_url=ASSET, mirror_url=mirror_url)


def test_the_app_learns_the_address_of_the_releases_model(world: World, tmp_path: Path) -> None:
    app = world.app()
    app.check()
    assert world.files() == {ENV: OLD_ENV.encode()}
    result = app.point(released(tmp_path / "dist", "release"))
    assert result.model_url == f"{ASSET}?v={VERSION}"
    expected = OLD_ENV.replace("old", result.model_url) + "VITE_MODEL_VERSION=1.0.0\n"
    assert world.files() == {ENV: expected.encode()}
    assert result.outcome in ("written", "committed")
    assert any(app.describe() in line for line in result.lines)
    assert f"VITE_MODEL_URL={result.model_url}" in result.lines[-1]
    assert "  - VITE_MODEL_URL=old" in world.lines


def test_by_git_the_app_gets_the_model_and_what_goes_with_it(world: World, tmp_path: Path) -> None:
    result = world.app().point(released(tmp_path / "dist", "git"))
    assert result.model_url == f"models/gpt2/model.onnx?v={VERSION}"
    delivered = {path: content for path, content in world.files().items() if path != ENV}
    names = {*DELIVERED, "manifest.json"}
    assert delivered == {f"{STATIC}/models/gpt2/{name}": (tmp_path / "dist" / name).read_bytes() for name in names}


def test_with_a_mirror_the_app_gets_its_address_and_no_files(world: World, tmp_path: Path) -> None:
    mirror_url = f"https://mirror.example/{TAG}/model.onnx?v={VERSION}"
    result = world.app().point(released(tmp_path / "dist", "git", mirror_url=mirror_url))
    assert result.model_url == mirror_url
    assert world.files().keys() == {ENV}


def test_a_second_time_changes_nothing_and_says_so(world: World, tmp_path: Path) -> None:
    release = released(tmp_path / "dist", "git")
    world.app().point(release)
    before = world.files()
    world.lines.clear()
    again = world.app().point(release)
    assert (again.outcome, world.files(), world.lines) == ("unchanged", before, [])
    assert "unchanged" in again.lines[0]


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (None, "must exist"),
        (f"{OLD_ENV}VITE_MODEL_URL=again\n".encode(), "must be assigned once"),
        (OLD_ENV.encode("utf-16"), f"{ENV} must be UTF-8, got the byte order mark of UTF-16"),
        (OLD_ENV.encode() + "A=1\n".encode("utf-16-le"), f"{ENV} must be UTF-8, got a zero byte on line 4"),
    ],
)
def test_an_env_file_that_cannot_be_edited_is_refused_before_the_work(
    world: World, env: bytes | None, says: str, tmp_path: Path
) -> None:
    app = world.app(env_file="web/none/.env") if env is None else world.app()
    if env is not None:
        world.put(ENV, env)
    before = world.files()
    with pytest.raises(EnvFileError, match=says):
        app.check()
    with pytest.raises(EnvFileError):
        app.point(released(tmp_path / "dist", "release"))
    assert world.files() == before


def test_a_model_for_git_lfs_is_refused_on_github_before_the_work_and_warned_of_in_a_tree(
    world: World, tmp_path: Path
) -> None:
    world.put(".gitattributes", b"# large files\n*.onnx filter=lfs diff=lfs merge=lfs -text\n")
    release = released(tmp_path / "dist", "git")
    app, before = world.app(), world.files()
    if isinstance(world, OnGitHub):
        for act in (lambda: app.check(model_in_tree(release.document)), lambda: app.point(release)):
            with pytest.raises(HostError, match=r"gpt2/model\.onnx must come out of git as it goes in") as caught:
                act()
            says = str(caught.value)
            assert ".gitattributes line 2 (*.onnx filter=lfs diff=lfs merge=lfs -text) passes it through Git" in says
            assert f"add the line '{STATIC}/models/gpt2/** -filter -diff -merge -text'" in says
        assert world.files() == before
    else:
        app.point(release)
        (warning,) = (line for line in world.lines if line.startswith("warning: "))
        assert f"{STATIC}/models/gpt2/model.onnx does not come out of git as it goes in" in warning
        assert "lfs: true at its checkout" in warning
    app.check()
    app.point(released(tmp_path / "other", "release"))  # The rule is not about the env file.


def test_the_line_that_a_refusal_gives_helps(world: World, tmp_path: Path) -> None:
    world.put(".gitattributes", b"*.onnx filter=lfs\n")
    world.put(f"{STATIC}/.gitattributes", b"models/gpt2/** -filter -diff -merge -text\n")
    release = released(tmp_path / "dist", "git")
    app = world.app()
    app.check(model_in_tree(release.document))
    app.point(release)
    assert [line for line in world.lines if line.startswith("warning: ")] == []


def test_an_env_file_that_is_filtered_is_refused_on_github(world: World, tmp_path: Path) -> None:
    world.put("web/.gitattributes", b".env* filter=git-crypt\n")
    app = world.app()
    if isinstance(world, OnGitHub):
        with pytest.raises(EnvFileError, match=r"web/\.gitattributes line 1 \(\.env\* filter=git-crypt\) passes it"):
            app.check()
    else:
        app.point(released(tmp_path / "dist", "release"))
        assert any("the filter 'git-crypt'" in line for line in world.lines)


def test_what_gitignore_hides_is_named(world: World, tmp_path: Path) -> None:
    world.put(".gitignore", b"*.local\n.env*\n")
    world.put("web/.gitignore", b"static/models/\n")
    world.app().point(released(tmp_path / "dist", "git"))
    warnings = [line for line in world.lines if line.startswith("warning: ")]
    assert any("web/.gitignore line 1 (static/models/)" in line for line in warnings)
    if isinstance(world, Tree):  # On GitHub the env file is part of the repository, so no rule hides it.
        assert any(f"{ENV} is left out by git add: .gitignore line 2 (.env*)" in line for line in warnings)
        git(world.folder, "init", "-q")
        git(world.folder, "add", "--force", ENV)
        world.lines.clear()
        world.app().point(released(tmp_path / "second", "release", mirror_url="https://m.example/m.onnx?v=1"))
        assert not any("left out by git add" in line for line in world.lines)


def git(folder: Path, *command: str) -> None:
    subprocess.run(["git", "-C", str(folder), *command], check=True)
