"""A release, then the app in a repository: it is pointed at what answers, by every command."""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import cli
from app_repository import (
    DEPLOY,
    ENV,
    FOLDER,
    OLD_ENV,
    RETRY_POLICY,
    START,
    TAG,
    access_to,
    messages,
)
from dists import FILES as DIST_FILES
from dists import REPOSITORY, make_dist, publish_to
from model_release.app.app import AppResult, Released
from model_release.app.repository import AppPlace, RepositoryApp
from model_release.base import github_client
from model_release.base.errors import EnvFileError, HostError, ReleaseError, UsageError
from model_release.base.github_access import GitHubAccess
from model_release.base.github_client import connect
from model_release.base.http import Web
from model_release.contract import manifest
from model_release.hosts.source import GitHubRelease
from standins.github import Repository, StandInGitHub


def released(dist: Path, asset_url: str) -> Released:
    document = manifest.parse((dist / manifest.MANIFEST_NAME).read_bytes())
    return Released(document=document, dist=dist, asset_url=asset_url)


def point(site: StandInGitHub, dist: Path, place: AppPlace, asset_url: str = "") -> AppResult:
    """Points the app at what the release `TAG` of `REPOSITORY` shows to people."""
    access = access_to(site)
    source = GitHubRelease(access, TAG, Web())
    api = connect(access, seconds_between_writes=0)
    app = RepositoryApp(api=api, place=place, source=source, retry_policy=RETRY_POLICY)
    asset_url = asset_url or f"{site.url}/{REPOSITORY}/releases/download/{TAG}/model.onnx"
    return app.point(released(dist, asset_url))


WEB_APP = AppPlace(repository="else/web", env_path=ENV, static_path="apps/web/static")


@pytest.fixture
def web(site: StandInGitHub) -> Repository:
    """A web app in another repository than the releases, which are in `someone/app`."""
    site.add_repository(REPOSITORY)
    return site.add_repository("else/web", START)


@pytest.mark.network
@pytest.mark.parametrize("private", [False, True])
def test_the_app_is_pointed_at_a_release_that_answers(
    site: StandInGitHub, web: Repository, tmp_path: Path, private: bool
) -> None:
    site.repositories[REPOSITORY].private = private
    dist = make_dist(tmp_path / "dist")
    published = publish_to(site, dist)
    count = len(site.requests)
    result = point(site, dist, WEB_APP, published.model_url)
    sha256 = hashlib.sha256(DIST_FILES["model.onnx"]).hexdigest()
    assert result.model_url == f"{published.model_url}?v=1.0.0-{sha256[:8]}"
    assert result.outcome == "committed"
    assert result.lines[-1] == f"VITE_MODEL_URL={result.model_url}"
    assert f"{result.lines[-1]}\nVITE_MODEL_VERSION=1.0.0\n" in web.files()[ENV].decode()
    paths = [each.path for each in site.requests[count:]]
    asked = [i for i, path in enumerate(paths) if "/releases/" in path or "/release-assets/" in path]
    assert max(asked) < min(i for i, path in enumerate(paths) if path.startswith("/repos/else/web"))
    assert site.leaks == []


@pytest.mark.network
def test_the_app_is_left_alone_while_the_release_is_a_draft_or_has_another_file(
    site: StandInGitHub, web: Repository, tmp_path: Path
) -> None:
    dist = make_dist(tmp_path / "dist")
    release = site.repositories[REPOSITORY].add_release(TAG, DIST_FILES, draft=True)
    with pytest.raises(HostError, match=f"model.onnx of {TAG} of {REPOSITORY}|{TAG} of {REPOSITORY} in GitHub's API"):
        point(site, dist, WEB_APP)
    release.draft = False
    release.assets[0].file.write_bytes(b"short")
    with pytest.raises(HostError, match="must have 2000 bytes, got 5"):
        point(site, dist, WEB_APP)
    assert site.writes() == []
    assert web.files()[ENV].decode() == OLD_ENV


@pytest.mark.network
def test_delivery_by_git_brings_model_tokenizer_config_and_manifest(
    site: StandInGitHub, web: Repository, tmp_path: Path
) -> None:
    files = {**DIST_FILES, "tokenizer.json": b"{}", "vocab.json": b"{}", "extra.onnx.txt": b"not for the app"}
    dist = make_dist(tmp_path / "dist", files=files, change=lambda document: document["delivery"].update(mode="git"))
    publish_to(site, dist)
    result = point(site, dist, WEB_APP)
    assert result.model_url.startswith("models/gpt2/model.onnx?v=1.0.0-")
    names = {path.removeprefix(f"{FOLDER}/") for path in web.files() if path.startswith(FOLDER)}
    assert names == {"model.onnx", "config.json", "tokenizer.json", "vocab.json", "manifest.json"}
    assert result.commit == web.branch_head("main")
    assert len(messages(web)) == 2


def test_an_address_that_no_browser_can_ask_for_is_refused(tmp_path: Path) -> None:
    dist = make_dist(tmp_path / "dist")
    api = connect(GitHubAccess(token="t"))  # noqa: S106 - no secret
    with pytest.raises(UsageError, match="--base-url"):
        RepositoryApp(api=api, place=WEB_APP, source=None).point(released(dist, "file:///releases/model.onnx"))
    with pytest.raises(UsageError, match="--static-dir"):
        replace(WEB_APP, static_path="../static")


@pytest.fixture
def run_publish(site: StandInGitHub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `publish` in the environment of a workflow of `REPOSITORY`, without waiting between writes."""
    for name, value in {
        "GITHUB_TOKEN": "write-token",
        "GITHUB_API_URL": site.url,
        "GITHUB_SERVER_URL": site.url,
        "GITHUB_REPOSITORY": REPOSITORY,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(github_client, "connect", functools.partial(connect, seconds_between_writes=0))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli.publish, [*map(str, arguments)], standalone_mode=False)

    return run


@pytest.mark.network
@pytest.mark.usefixtures("web")
def test_publish_points_the_app_of_another_repository_and_a_second_run_writes_nothing(
    site: StandInGitHub, tmp_path: Path, run_publish: Callable[..., Result]
) -> None:
    arguments = ["--dist", make_dist(tmp_path / "dist"), "--tag", TAG, "--env-repo", "else/web"]
    arguments += ["--deploy-workflow", DEPLOY]
    dry = run_publish(*arguments, "--dry-run")
    assert (dry.exception, site.writes()) == (None, [])
    assert f"then else/web, {ENV}: VITE_MODEL_URL" in dry.output
    done = run_publish(*arguments)
    assert done.exception is None
    assert f"else/web, {ENV}: committed" in done.output
    assert f"{DEPLOY}: started" in done.output
    assert f"VITE_MODEL_URL={site.url}/{REPOSITORY}/releases/download/{TAG}/model.onnx?v=1.0.0-" in done.output
    state, count = site.snapshot(), len(site.writes())
    again = run_publish(*arguments)
    assert f"else/web, {ENV}: unchanged" in again.output
    assert (again.exception, site.snapshot(), len(site.writes())) == (None, state, count)
    assert "write-token" not in dry.output + done.output + again.output


@pytest.mark.network
def test_publish_refuses_a_model_that_the_apps_git_lfs_would_spoil_before_anything_is_public(
    site: StandInGitHub, web: Repository, tmp_path: Path, run_publish: Callable[..., Result]
) -> None:
    web.commit({".gitattributes": "*.onnx filter=lfs diff=lfs merge=lfs -text\n"})
    dist = make_dist(tmp_path / "dist", change=lambda document: document["delivery"].update(mode="git"))
    done = run_publish("--dist", dist, "--tag", TAG, "--env-repo", "else/web")
    assert type(done.exception) is HostError
    assert "Use --delivery release, or add the line 'apps/web/static/models/gpt2/** -filter" in str(done.exception)
    assert site.writes() == []


@pytest.mark.network
def test_an_enterprise_server_is_found_by_its_api_alone_and_a_token_may_end_in_a_line_break(
    site: StandInGitHub,
    web: Repository,
    tmp_path: Path,
    run_publish: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GITHUB_SERVER_URL")
    monkeypatch.setenv("GITHUB_TOKEN", "write-token\n")
    site.repositories[REPOSITORY].private = web.private = True
    done = run_publish("--dist", make_dist(tmp_path / "dist"), "--tag", TAG, "--env-repo", "else/web")
    assert done.exception is None
    (tmp_path / ".env").write_bytes(web.files()[ENV])
    fetched = CliRunner().invoke(cli.fetch, ["--env-file", str(tmp_path / ".env")], standalone_mode=False)
    assert fetched.exception is None
    assert (tmp_path / "static/models/gpt2/model.onnx").read_bytes() == DIST_FILES["model.onnx"]
    assert site.leaks == []


@pytest.mark.network
def test_publish_without_a_word_about_the_app_leaves_it_alone(
    site: StandInGitHub, web: Repository, tmp_path: Path, run_publish: Callable[..., Result]
) -> None:
    before_it = web.snapshot()
    done = run_publish("--dist", make_dist(tmp_path / "dist"), "--tag", TAG)
    assert (done.exception, web.snapshot()) == (None, before_it)
    assert not [each for each in site.requests if "/else/web" in each.path]


@pytest.mark.network
@pytest.mark.usefixtures("web")
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--env-file", "apps/none/.env"], EnvFileError),
        (["--env-repo", "else/none"], HostError),
        (["--env-repo", "else/web", "--env-branch", "none"], HostError),
        (["--env-repo", "../web"], UsageError),
        (["--env-file", "../.env"], UsageError),
        (["--env-branch", "$(touch x)"], UsageError),
        (["--deploy-workflow", "../x.yml"], UsageError),
        (["--static-dir", "/srv"], UsageError),
    ],
    ids=str,
)
def test_what_cannot_be_in_the_app_is_refused_before_anything_is_published(
    site: StandInGitHub,
    tmp_path: Path,
    run_publish: Callable[..., Result],
    arguments: list[str],
    error: type[ReleaseError],
) -> None:
    done = run_publish("--dist", make_dist(tmp_path / "dist"), "--tag", TAG, *arguments)
    assert type(done.exception) is error
    assert site.writes() == []


@pytest.mark.network
@pytest.mark.usefixtures("web", "run_publish")
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--env-repo", "else/web", "--no-env"], UsageError, "--no-env leaves the web app alone"),
        (["--repo", REPOSITORY], UsageError, "--repo is for --host github"),
        (["--env-repo", "../web"], UsageError, "--env-repo must be like"),
        (["--host", "github", "--env-repo", "else/web", "--env-file", "no/.env"], EnvFileError, "no/.env must exist"),
    ],
)
def test_release_refuses_before_its_work_what_cannot_be_in_the_app(
    site: StandInGitHub, arguments: list[str], error: type[ReleaseError], words: str
) -> None:
    done = CliRunner().invoke(cli.release, ["--tag", TAG, "--demo", *arguments], standalone_mode=False)
    assert type(done.exception) is error
    assert words in str(done.exception)
    assert site.writes() == []


@pytest.mark.network
@pytest.mark.usefixtures("web", "run_publish")
def test_a_dry_run_of_a_release_names_the_apps_env_file_and_refuses_one_that_is_not_there(site: StandInGitHub) -> None:
    arguments = ["--tag", TAG, "--demo", "--host", "github", "--env-repo", "else/web", "--dry-run"]
    done = CliRunner().invoke(cli.release, arguments, standalone_mode=False)
    assert done.exception is None
    assert f"else/web, {ENV}" in done.output
    missing = CliRunner().invoke(cli.release, [*arguments, "--env-file", "no/.env"], standalone_mode=False)
    assert type(missing.exception) is EnvFileError
    assert site.writes() == []
