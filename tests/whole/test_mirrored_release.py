"""Releases with a mirror, by the commands people run: the app gets the mirror's URL, nothing half-done is public."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import cli
from builders import gpt2_folder
from commands import Outcome, assert_refused, call, traced_once
from dists import REPOSITORY, TAG, TOKEN, make_dist
from mirrors import MIRROR, mirror_hub
from model_release.base import github_client
from model_release.base.errors import HostError, UsageError
from standins.github import Repository as GitRepository
from standins.github import StandInGitHub
from standins.hub import Fault, StandInHub

pytestmark = pytest.mark.network
ENV = "apps/web/.env.production"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGitHub]:
    with StandInGitHub() as running:
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_API_URL", running.url)
        monkeypatch.setenv("GITHUB_SERVER_URL", running.url)
        monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
        connect = functools.partial(github_client.connect, seconds_between_writes=0)
        monkeypatch.setattr(github_client, "connect", connect)
        running.add_repository(REPOSITORY, {ENV: "VITE_API=x\n"})
        yield running
        assert (running.violations, running.leaks) == ([], [])


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StandInHub]:
    with mirror_hub(tmp_path) as server:
        yield server


def app(site: StandInGitHub) -> GitRepository:
    return site.repositories[REPOSITORY]


def env(site: StandInGitHub) -> str:
    return app(site).files("main")[ENV].decode()


def public(site: StandInGitHub) -> list[str]:
    return [release["tag"] for release in app(site).snapshot()["releases"] if not release["draft"]]


def publish(dist: Path, *arguments: object) -> Outcome:
    return call(cli.publish, "--dist", dist, "--tag", TAG, "--mirror", f"hub:{MIRROR}", *arguments)


def test_the_way_back_leads_to_the_mirror_too(site: StandInGitHub, hub: StandInHub, tmp_path: Path) -> None:
    assert publish(make_dist(tmp_path / "dist"), "--no-env").code == 0
    done = call(cli.point, "--tag", TAG, "--mirror", f"hub:{MIRROR}")
    history = hub.history(MIRROR)
    assert history is not None
    assert done.code == 0, done.err
    assert f"VITE_MODEL_URL={hub.url}/{MIRROR}/resolve/{history.head}/{TAG}/model.onnx?v=1.0.0-" in env(site)
    assert len(history.commits) == 2, "the mirror had everything"


def test_publish_gives_the_app_the_mirrors_url_and_a_second_run_writes_nothing(
    site: StandInGitHub, hub: StandInHub, tmp_path: Path
) -> None:
    dist = make_dist(tmp_path / "dist")
    done = publish(dist, "--env-file", ENV)
    history = hub.history(MIRROR)
    assert history is not None
    assert done.code == 0, done.err
    url = f"{hub.url}/{MIRROR}/resolve/{history.head}/{TAG}/model.onnx?v=1.0.0-"
    assert f"VITE_MODEL_URL={url}" in done.out
    assert f"VITE_MODEL_URL={url}" in env(site)
    assert public(site) == [TAG]
    state, count, commits = site.snapshot(), len(site.writes()), len(history.commits)
    again = publish(dist, "--env-file", ENV)
    assert (again.code, site.snapshot(), len(site.writes()), len(history.commits)) == (0, state, count, commits)
    assert "hf_secret" not in done.out + done.err + again.out + again.err


def test_without_an_app_publish_prints_the_mirrors_url(site: StandInGitHub, hub: StandInHub, tmp_path: Path) -> None:
    done = publish(make_dist(tmp_path / "dist"))
    assert f"VITE_MODEL_URL={hub.url}/{MIRROR}/resolve/" in done.out
    assert env(site) == "VITE_API=x\n"


def test_a_mirror_that_refuses_keeps_the_release_from_becoming_public(
    site: StandInGitHub, hub: StandInHub, tmp_path: Path
) -> None:
    hub.faults.append(Fault(path="*/commit/*", kind="403"))
    done = publish(make_dist(tmp_path / "dist"), "--env-file", ENV)
    assert_refused(done, HostError.exit_code, ["got 403", "HF_TOKEN"])
    assert site.writes() == []


def test_a_tag_with_other_content_is_refused_before_the_mirror_is_touched(
    site: StandInGitHub, hub: StandInHub, tmp_path: Path
) -> None:
    assert call(cli.publish, "--dist", make_dist(tmp_path / "first"), "--tag", TAG).code == 0
    other = make_dist(tmp_path / "dist", files={"model.onnx": b"other"})
    assert_refused(publish(other), HostError.exit_code, ["model-v1.0.1"])
    assert hub.requests == []
    assert public(site) == [TAG]


def test_a_dry_run_touches_neither(site: StandInGitHub, hub: StandInHub, tmp_path: Path) -> None:
    done = publish(make_dist(tmp_path / "dist"), "--env-file", ENV, "--dry-run")
    assert (done.code, site.writes(), hub.requests) == (0, [], [])


@pytest.mark.usefixtures("site", "hub")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mirror", "ftp://x"], "s3://BUCKET/PREFIX"),
        (["--mirror", "hub:x"], "hub:ORG/REPO"),
        (["--mirror-endpoint", "http://127.0.0.1:1"], "are not for hub:ORG/REPO"),
        (["--origin", "no origin"], "--origin"),
    ],
)
def test_a_mirror_that_is_none_is_refused(tmp_path: Path, arguments: list[str], says: str) -> None:
    assert_refused(publish(make_dist(tmp_path / "dist"), *arguments), UsageError.exit_code, [says])


def test_one_command_makes_mirrors_publishes_and_commits(site: StandInGitHub, hub: StandInHub, tmp_path: Path) -> None:
    with traced_once():
        done = call(
            *(cli.release, "--tag", TAG, "--model-path", gpt2_folder(tmp_path / "weights")),
            *("--host", "github", "--env-repo", REPOSITORY, "--mirror", f"hub:{MIRROR}"),
        )
    assert done.code == 0, done.err
    history = hub.history(MIRROR)
    assert history is not None
    assert f"VITE_MODEL_URL={hub.url}/{MIRROR}/resolve/{history.head}/{TAG}/model_fp16.onnx?v=1.0.0-" in env(site)
    (release,) = app(site).snapshot()["releases"]
    held = {name for name in history.commits[history.head] if name.startswith(f"{TAG}/")}
    assert {f"{TAG}/{name}" for name in release["assets"]} == held
    manifest = json.loads(history.commits[history.head][f"{TAG}/manifest.json"].path.read_bytes())
    assert manifest["delivery"]["mode"] == "release"
    assert app(site).files("main").keys() == {ENV}


@pytest.mark.usefixtures("site")
def test_a_version_that_hides_a_breaking_contract_is_refused_before_the_work(tmp_path: Path) -> None:
    other = make_dist(tmp_path / "dist", change=lambda document: document.update(contract_version="99.0.0"))
    assert call(cli.publish, "--dist", other, "--tag", TAG).code == 0
    done = call(cli.release, "--tag", "model-v1.0.1", "--demo", "--host", "github", "--no-env")
    assert_refused(done, HostError.exit_code, ["new major version"])
    assert "[2/" not in done.err


@pytest.mark.usefixtures("site", "hub")
def test_a_model_for_the_apps_tree_needs_no_mirror(tmp_path: Path) -> None:
    done = call(
        *(cli.release, "--tag", TAG, "--demo", "--delivery", "git", "--mirror", f"hub:{MIRROR}"),
        *("--host", "github", "--env-repo", REPOSITORY),
    )
    assert_refused(done, UsageError.exit_code, ["--delivery git"])
    folder = make_dist(tmp_path / "dist", change=lambda document: document["delivery"].update(asked="git", mode="git"))
    assert_refused(publish(folder), UsageError.exit_code, ["--delivery git"])
