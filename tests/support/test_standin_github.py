"""The stand-in GitHub behaves as the real one does, driven by the client the project uses."""

import base64
import doctest
import hashlib
import importlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from github import Auth, BadCredentialsException, Github, GithubException, InputGitTreeElement, UnknownObjectException
from github.ContentFile import ContentFile
from github.GitRelease import GitRelease
from github.Repository import Repository as RemoteRepository

from standins.github import (
    CLASSIC,
    EVERY_FAULT,
    RESTRICTED,
    RULESET,
    Fault,
    Repository,
    Request,
    StandInGitHub,
    Token,
    fault,
    openapi,
)
from standins.github.calls import ROUTES

pytestmark = pytest.mark.network
NAME = "someone/app"
ENV = ".env.production"
TAG = "model-v1.0.0"
WRITER = "write-token"
WORKFLOW = "name: deploy\non:\n  workflow_dispatch:\n    inputs:\n      tag:\n        type: string\njobs: {}\n"
FILES = {ENV: "VITE_OTHER=1\n", ".github/workflows/deploy.yml": WORKFLOW, ".github/workflows/ci.yml": "on: push\n"}


@pytest.fixture
def site() -> Iterator[StandInGitHub]:
    """A GitHub whose every answer must be as the official description says."""
    with StandInGitHub() as site:
        yield site
        assert site.violations == []


@pytest.fixture
def repository(site: StandInGitHub) -> Repository:
    """The server's side of a repository."""
    return site.add_repository(NAME, FILES)


@pytest.fixture
def remote(site: StandInGitHub, repository: Repository) -> RemoteRepository:
    """The client's side of it, with a token that may write."""
    return client(site.url).get_repo(repository.full_name)


def file_at(remote: RemoteRepository, path: str) -> ContentFile:
    found = remote.get_contents(path)
    assert isinstance(found, ContentFile)
    return found


def folder_at(remote: RemoteRepository, path: str) -> list[ContentFile]:
    found = remote.get_contents(path)
    assert isinstance(found, list)
    return found


def client(url: str, token: str | None = WRITER) -> Github:
    auth = Auth.Token(token) if token else None
    return Github(
        base_url=url, auth=auth, retry=None, timeout=5, seconds_between_requests=None, seconds_between_writes=None
    )


def as_writer(**headers: str) -> dict[str, str]:
    return {"Authorization": "Bearer write-token"} | {name.replace("_", "-"): text for name, text in headers.items()}


def headers_of(caught: pytest.ExceptionInfo[GithubException]) -> dict[str, str]:
    assert caught.value.headers is not None
    return caught.value.headers


def draft(remote: RemoteRepository, tag: str = TAG, **options: Any) -> GitRelease:
    return remote.create_git_release(tag, f"Model {tag}", "Notes", draft=True, make_latest="false", **options)


def upload(release: GitRelease, folder: Path, name: str = "model.onnx", content: bytes = b"weights") -> Any:
    file = folder / "to-upload"
    file.write_bytes(content)
    with file.open("rb") as stream:  # PyGithub's `upload_asset` leaves its file open when an upload breaks off.
        return release.upload_asset_from_memory(stream, len(content), name)


def refusal(caught: pytest.ExceptionInfo[GithubException]) -> tuple[int, str]:
    """The status, and the message with the errors behind it."""
    errors = caught.value.data.get("errors", [])
    told = [error.get("message") or f"{error['field']} {error['code']}" for error in errors]
    return caught.value.status, " / ".join([caught.value.data["message"], *told])


# The whole way


@pytest.mark.parametrize("prefix", ["", "/api/v3"])
def test_a_release_an_env_commit_and_a_pull_request_go_through(
    site: StandInGitHub, repository: Repository, tmp_path: Path, prefix: str
) -> None:
    remote = client(site.url + prefix).get_repo(NAME)
    release = draft(remote)
    asset = upload(release, tmp_path)
    assert (asset.name, asset.state, asset.size) == ("model.onnx", "uploaded", 7)
    assert asset.digest == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    release.update_release("Model", "Notes", draft=False)
    assert remote.get_release(TAG).get_assets()[0].browser_download_url == (
        f"{site.url}/{NAME}/releases/download/{TAG}/model.onnx"
    )

    old = file_at(remote, ENV)
    assert old.decoded_content == b"VITE_OTHER=1\n"
    remote.update_file(ENV, "Point the app at the model", "VITE_OTHER=2\n", old.sha, branch="main")

    head = remote.get_git_commit(remote.get_branch("main").commit.sha)
    blob = remote.create_git_blob(base64.b64encode(b"\0weights").decode(), "base64")
    lines = [InputGitTreeElement("public/model.onnx", "100644", "blob", sha=blob.sha)]
    tree = remote.create_git_tree(lines, head.tree)
    commit = remote.create_git_commit("Bring the model", tree, [head])
    remote.create_git_ref("refs/heads/model", commit.sha)
    pull = remote.create_pull(base="main", head="model", title="The model", body="Please")
    assert [p.number for p in remote.get_pulls(head="someone:model", base="main")] == [pull.number]

    state = site.snapshot()[NAME]
    assert state["branches"]["main"]["files"][ENV] == "VITE_OTHER=2\n"
    assert state["branches"]["main"]["messages"] == ["Point the app at the model", "Initial commit"]
    assert repository.files("model")["public/model.onnx"] == b"\0weights"
    assert [release["draft"] for release in state["releases"]] == [False]
    assert list(state["tags"]) == [TAG]
    assert state["pulls"] == [
        {"head": "model", "base": "main", "title": "The model", "body": "Please", "state": "open"}
    ]


def test_equal_runs_give_equal_snapshots_and_a_difference_shows(tmp_path: Path) -> None:
    def run(content: bytes) -> dict[str, Any]:
        with StandInGitHub() as site:
            site.add_repository(NAME, FILES)
            release = draft(client(site.url).get_repo(NAME))
            upload(release, tmp_path, content=content)
            return site.snapshot()

    assert run(b"same") == run(b"same") != run(b"other")


# Drafts and publication


def test_a_draft_is_found_by_its_id_and_in_the_list_but_not_by_its_tag(remote: RemoteRepository) -> None:
    release = draft(remote)
    assert remote.get_release(release.id).draft
    assert [each.id for each in remote.get_releases()] == [release.id]
    with pytest.raises(UnknownObjectException):
        remote.get_release(TAG)
    with pytest.raises(UnknownObjectException):
        remote.get_git_ref(f"tags/{TAG}")


@pytest.mark.parametrize("token", [None, "read-token"])
def test_a_draft_is_invisible_without_push_access(site: StandInGitHub, remote: RemoteRepository, token: str) -> None:
    release = draft(remote)
    reader = client(site.url, token).get_repo(NAME)
    assert list(reader.get_releases()) == []
    with pytest.raises(UnknownObjectException):
        reader.get_release(release.id)


def test_two_drafts_may_share_a_tag_and_only_one_of_them_can_be_published(remote: RemoteRepository) -> None:
    first, second = draft(remote), draft(remote)
    first.update_release("Model", "Notes", draft=False)
    with pytest.raises(GithubException) as caught:
        second.update_release("Model", "Notes", draft=False)
    assert refusal(caught) == (422, "Validation Failed / tag_name already_exists")


def test_a_second_release_for_a_published_tag_is_refused(remote: RemoteRepository) -> None:
    remote.create_git_release(TAG, "Model", "Notes")
    with pytest.raises(GithubException) as caught:
        remote.create_git_release(TAG, "Model", "Notes")
    assert refusal(caught) == (422, "Validation Failed / tag_name already_exists")


def test_publishing_makes_the_tag_at_the_target_and_leaves_an_existing_tag_alone(
    repository: Repository, remote: RemoteRepository
) -> None:
    repository.create_branch("stable")
    repository.commit({"new": "file"}, message="Later")
    old, new = repository.resolve("stable"), repository.resolve("main")
    remote.create_git_release(TAG, "Model", "Notes", target_commitish="stable")
    repository.create_tag("v2")
    remote.create_git_release("v2", "Model", "Notes", target_commitish="stable")
    assert (repository.resolve(TAG), repository.resolve("v2")) == (old, new)


def test_a_release_at_a_branch_that_is_not_there_is_refused(remote: RemoteRepository) -> None:
    with pytest.raises(GithubException) as caught:
        remote.create_git_release(TAG, "Model", "Notes", target_commitish="nowhere")
    assert refusal(caught) == (
        422,
        "Validation Failed / tag_name is not a valid tag / Published releases must have a valid tag / "
        "target_commitish invalid",
    )


@pytest.mark.parametrize("tag", ["", "model v1", "model-v1:2", "a..b"])
def test_a_tag_that_git_would_not_take_is_refused(remote: RemoteRepository, tag: str) -> None:
    with pytest.raises(GithubException) as caught:
        draft(remote, tag)
    assert refusal(caught) == (422, "Validation Failed / tag_name is not a valid tag")


def test_notes_that_are_too_long_are_refused(remote: RemoteRepository) -> None:
    remote.create_git_release(TAG, "Model", "x" * 125_000, draft=True)
    with pytest.raises(GithubException) as caught:
        remote.create_git_release(TAG, "Model", "x" * 125_001, draft=True)
    assert refusal(caught) == (422, "Validation Failed / body is too long (maximum is 125000 characters)")


def test_the_client_publishes_a_draft_whose_notes_are_edited_carelessly(remote: RemoteRepository) -> None:
    assert draft(remote).update_release("Model", "Better notes").draft is False


def test_the_latest_release_is_the_marked_one_and_never_a_draft_or_prerelease(remote: RemoteRepository) -> None:
    remote.create_git_release("v1", "", "", make_latest="true")
    remote.create_git_release("v2", "", "", make_latest="false")
    remote.create_git_release("v3", "", "", prerelease=True)
    draft(remote, "v4")
    assert remote.get_latest_release().tag_name == "v1"
    remote.get_release("v2").update_release("", "", make_latest="true")
    assert remote.get_latest_release().tag_name == "v2"


def test_a_deleted_release_leaves_its_tag(repository: Repository, remote: RemoteRepository) -> None:
    release = remote.create_git_release(TAG, "Model", "Notes")
    release.delete_release()
    assert list(remote.get_releases()) == []
    assert repository.resolve(TAG)


def test_long_lists_come_in_pages(site: StandInGitHub, repository: Repository, remote: RemoteRepository) -> None:
    for number in range(65):
        repository.add_release(f"v{number}")
    assert len({release.tag_name for release in remote.get_releases()}) == 65
    answer = requests.get(f"{site.ghes_url}/repos/{NAME}/releases?per_page=20&page=2", timeout=5)
    assert len(answer.json()) == 20
    assert answer.links["next"]["url"] == f"{site.ghes_url}/repos/{NAME}/releases?per_page=20&page=3"
    assert set(answer.links) == {"prev", "next", "last", "first"}
    assert requests.get(answer.links["last"]["url"], timeout=5).links.keys() == {"prev", "first"}


# Assets


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("my model.onnx", "my.model.onnx"),
        ("model~1:2 (final).onnx", "model.1.2.final.onnx"),
        (".env", "default.env"),
        ("model_fp16-v1.0+b.onnx", "model_fp16-v1.0+b.onnx"),
    ],
)
def test_asset_names_are_rewritten(remote: RemoteRepository, tmp_path: Path, given: str, kept: str) -> None:
    assert upload(draft(remote), tmp_path, given).name == kept


def test_a_second_asset_of_the_same_name_is_refused_even_if_it_is_spelled_otherwise(
    remote: RemoteRepository, tmp_path: Path
) -> None:
    release = draft(remote)
    upload(release, tmp_path, "a b")
    with pytest.raises(GithubException) as caught:
        upload(release, tmp_path, "a~b")
    assert refusal(caught) == (422, "Validation Failed / name already_exists")


def test_an_empty_asset_is_refused(site: StandInGitHub, remote: RemoteRepository) -> None:
    url = draft(remote).upload_url.partition("{")[0]
    answer = requests.post(f"{url}?name=empty", data=b"", headers=as_writer(Content_Length="0"), timeout=5)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"] == "size must be greater than or equal to 1"
    assert not site.requests[-1].changed


def test_an_asset_of_more_than_2_gib_is_refused_before_it_is_sent(remote: RemoteRepository) -> None:
    host, _, path = draft(remote).upload_url.removeprefix("http://").partition("{")[0].partition("/")
    with socket.create_connection((host.partition(":")[0], int(host.partition(":")[2])), timeout=5) as connection:
        connection.sendall(
            f"POST /{path}?name=big HTTP/1.1\r\nHost: {host}\r\nUser-Agent: me\r\n"
            f"Authorization: token write-token\r\nContent-Length: {2**31 + 1}\r\n\r\n".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 422 ")


def test_a_release_takes_a_thousand_assets(repository: Repository, remote: RemoteRepository, tmp_path: Path) -> None:
    release = draft(remote)
    mine = repository.releases[release.id]
    upload(release, tmp_path)
    mine.assets *= 1000
    with pytest.raises(GithubException) as caught:
        upload(release, tmp_path, "one-more")
    assert refusal(caught)[0] == 422
    mine.assets = mine.assets[:1]


def test_an_upload_without_a_length_is_refused(remote: RemoteRepository) -> None:
    url = draft(remote).upload_url.partition("{")[0]
    answer = requests.post(f"{url}?name=x", data=iter([b"a", b"b"]), headers=as_writer(), timeout=5)
    assert (answer.status_code, answer.json()["message"]) == (400, "Bad Content-Length: ")


def test_an_old_asset_has_no_digest(repository: Repository, remote: RemoteRepository, tmp_path: Path) -> None:
    repository.digests = False
    assert upload(draft(remote), tmp_path).digest is None


def test_an_asset_is_renamed_and_deleted(repository: Repository, remote: RemoteRepository, tmp_path: Path) -> None:
    release = draft(remote)
    asset = upload(release, tmp_path)
    file = repository.releases[release.id].assets[0].file
    assert asset.update_asset("new.onnx", "A label").name == "new.onnx"
    asset.delete_asset()
    assert list(release.get_assets()) == []
    assert not file.exists()


@pytest.mark.parametrize("kind", ["502", "cut"])
def test_a_broken_upload_leaves_a_starter_that_stands_in_the_way(
    site: StandInGitHub, remote: RemoteRepository, tmp_path: Path, kind: str
) -> None:
    release = draft(remote)
    site.faults = [Fault(kind, method="POST", path="/uploads/*")]
    with pytest.raises((GithubException, requests.ConnectionError)):
        upload(release, tmp_path, content=b"x" * 4_000_000)
    starter = release.get_assets()[0]
    assert (starter.state, starter.size, starter.digest) == ("starter", 2_000_000, None)
    with pytest.raises(GithubException) as caught:
        upload(release, tmp_path, content=b"x" * 4_000_000)
    assert refusal(caught) == (422, "Validation Failed / name already_exists")
    starter.delete_asset()
    assert upload(release, tmp_path, content=b"x" * 4_000_000).state == "uploaded"
    assert [request.changed for request in site.requests if request.origin == "uploads"] == [True, False, True]


def test_a_client_that_dies_in_the_middle_of_an_upload_leaves_a_starter(
    repository: Repository, remote: RemoteRepository
) -> None:
    release = draft(remote)
    host, _, path = release.upload_url.removeprefix("http://").partition("{")[0].partition("/")
    with socket.create_connection((host.partition(":")[0], int(host.partition(":")[2])), timeout=5) as connection:
        connection.sendall(
            f"POST /{path}?name=half HTTP/1.1\r\nHost: {host}\r\nUser-Agent: me\r\n"
            f"Authorization: token write-token\r\nContent-Length: 1000\r\n\r\nhalf of it".encode()
        )
    mine = repository.releases[release.id]
    for _ in range(500):
        if mine.assets and mine.assets[0].size_bytes:
            break
        threading.Event().wait(0.01)
    assert [(asset.state, asset.size_bytes) for asset in mine.assets] == [("starter", 10)]


def test_of_two_uploads_of_one_name_at_the_same_time_one_wins(site: StandInGitHub, remote: RemoteRepository) -> None:
    url = draft(remote).upload_url.partition("{")[0]
    statuses: list[int] = []

    def send(content: bytes) -> None:
        answer = requests.post(f"{url}?name=model.onnx", data=content, headers=as_writer(), timeout=10)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=send, args=(letter * 3_000_000,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, 422, 422, 422]
    assert len(site.snapshot()[NAME]["releases"][0]["assets"]) == 1


# Downloads


def test_a_download_is_redirected_to_another_origin_and_no_hop_lets_a_browser_read_it(
    site: StandInGitHub, repository: Repository
) -> None:
    repository.add_release(TAG, {"model.onnx": b"0123456789"})
    url = f"{site.url}/{NAME}/releases/download/{TAG}/model.onnx"
    headers = {"Origin": "https://app.example"}
    first = requests.get(url, headers=headers, allow_redirects=False, timeout=5)
    assert first.status_code == 302
    assert first.headers["Location"].startswith(site.assets_url)
    second = requests.get(first.headers["Location"], headers=headers, timeout=5)
    assert second.content == b"0123456789"
    assert "Access-Control-Allow-Origin" not in {**first.headers, **second.headers}
    assert requests.head(url, allow_redirects=True, timeout=5).headers["Content-Length"] == "10"


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=4-", 206, b"456789"),
        ("bytes=2-3", 206, b"23"),
        ("bytes=-3", 206, b"789"),
        ("bytes=0-99", 206, b"0123456789"),
        ("bytes=10-", 416, b""),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_a_download_can_be_continued(
    site: StandInGitHub, repository: Repository, asked: str, status: int, content: bytes
) -> None:
    repository.add_release(TAG, {"model.onnx": b"0123456789"})
    url = f"{site.url}/{NAME}/releases/download/{TAG}/model.onnx"
    answer = requests.get(url, headers={"Range": asked}, timeout=5)
    assert (answer.status_code, answer.content) == (status, content)
    assert site.requests[-1].status == status


def test_a_download_whose_file_changed_in_between_starts_again(site: StandInGitHub, repository: Repository) -> None:
    repository.add_release(TAG, {"model.onnx": b"0123456789"})
    url = f"{site.url}/{NAME}/releases/download/{TAG}/model.onnx"
    etag = requests.get(url, timeout=5).headers["ETag"]
    for given, status in ((etag, 206), ('"other"', 200)):
        headers = {"Range": "bytes=4-", "If-Range": given}
        assert requests.get(url, headers=headers, timeout=5).status_code == status


def test_the_latest_download_leads_to_the_latest_release(site: StandInGitHub, repository: Repository) -> None:
    repository.add_release("v1", {"model.onnx": b"one"}, latest=True)
    repository.add_release("v2", {"model.onnx": b"two"})
    assert requests.get(f"{site.url}/{NAME}/releases/latest/download/model.onnx", timeout=5).content == b"one"


def test_a_drafts_download_address_is_for_writers_and_ends_with_the_draft(
    site: StandInGitHub, remote: RemoteRepository, tmp_path: Path
) -> None:
    release = draft(remote)
    url = upload(release, tmp_path).browser_download_url
    assert "/download/untagged-" in url
    assert requests.get(url, timeout=5).status_code == 404
    assert requests.get(url, headers=as_writer(), allow_redirects=False, timeout=5).status_code == 302
    release.update_release("Model", "Notes", draft=False)
    assert requests.get(url, headers=as_writer(), timeout=5).status_code == 404
    assert requests.get(f"{site.url}/{NAME}/releases/download/{TAG}/model.onnx", timeout=5).content == b"weights"


def test_the_api_redirects_to_the_bytes_and_a_token_sent_along_is_refused_and_noted(
    site: StandInGitHub, repository: Repository
) -> None:
    asset = repository.add_release(TAG, {"model.onnx": b"weights"}).assets[0]
    url = f"{site.url}/repos/{NAME}/releases/assets/{asset.id}"
    first = requests.get(url, headers=as_writer(Accept="application/octet-stream"), allow_redirects=False, timeout=5)
    assert first.status_code == 302
    assert requests.get(first.headers["Location"], timeout=5).content == b"weights"
    assert site.leaks == []
    assert requests.get(first.headers["Location"], headers=as_writer(), timeout=5).status_code == 400
    assert len(site.leaks) == 1
    assert requests.get(first.headers["Location"].replace("sig=", "sig=0"), timeout=5).status_code == 403


def test_the_client_downloads_what_the_api_streams_and_stumbles_over_a_foreign_host(
    site: StandInGitHub, repository: Repository, remote: RemoteRepository, tmp_path: Path
) -> None:
    asset_id = repository.add_release(TAG, {"model.onnx": b"weights"}).assets[0].id
    asset = remote.get_release_asset(asset_id)
    with pytest.raises(AssertionError):  # It follows only to its own host and port, or to a subdomain.
        asset.download_asset(str(tmp_path / "model.onnx"), chunk_size=1 << 16)
    site.streams_downloads = True
    asset.download_asset(str(tmp_path / "model.onnx"), chunk_size=1 << 16)
    assert (tmp_path / "model.onnx").read_bytes() == b"weights"


def test_a_file_of_a_branch_can_be_fetched_by_a_browser(site: StandInGitHub, remote: RemoteRepository) -> None:
    answer = requests.get(file_at(remote, ENV).download_url, timeout=5)
    assert answer.content == b"VITE_OTHER=1\n"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert site.requests[-1].origin == "assets"


# Immutable releases


@pytest.fixture
def frozen(repository: Repository, remote: RemoteRepository, tmp_path: Path) -> GitRelease:
    """An immutable release with one file."""
    repository.immutable_releases = True
    release = draft(remote)
    upload(release, tmp_path)
    return release.update_release("Model", "Notes", draft=False)


def test_a_draft_stays_changeable_where_releases_are_immutable(frozen: GitRelease) -> None:
    assert frozen.immutable
    assert frozen.get_assets()[0].name == "model.onnx"


def test_an_immutable_release_keeps_its_files(frozen: GitRelease, tmp_path: Path) -> None:
    with pytest.raises(GithubException) as caught:
        upload(frozen, tmp_path, "another")
    assert refusal(caught) == (422, "Cannot upload assets to an immutable release.")
    with pytest.raises(GithubException) as caught:
        frozen.get_assets()[0].delete_asset()
    assert refusal(caught) == (422, "Validation Failed / Cannot delete asset from an immutable release")
    with pytest.raises(GithubException):
        frozen.get_assets()[0].update_asset("renamed")


def test_an_immutable_release_keeps_its_tag_but_takes_new_notes(
    frozen: GitRelease, repository: Repository, remote: RemoteRepository
) -> None:
    assert frozen.update_release("Model", "Better notes").body == "Better notes"
    with pytest.raises(GithubException):
        frozen.update_release("Model", "Notes", draft=True)
    reference = remote.get_git_ref(f"tags/{TAG}")
    new = repository.commit({"x": "y"})
    for change in (reference.delete, lambda: reference.edit(new, force=True)):
        with pytest.raises(GithubException) as caught:
            change()
        assert refusal(caught)[1].startswith("Repository rule violations found")


def test_the_tag_of_an_immutable_release_can_never_be_used_again(
    frozen: GitRelease, repository: Repository, remote: RemoteRepository
) -> None:
    frozen.delete_release()
    remote.get_git_ref(f"tags/{TAG}").delete()
    with pytest.raises(GithubException) as caught:
        remote.create_git_ref(f"refs/tags/{TAG}", repository.resolve("main") or "")
    assert "Cannot create ref due to creations being restricted." in refusal(caught)[1]
    again = draft(remote)
    with pytest.raises(GithubException) as caught:
        again.update_release("Model", "Notes", draft=False)
    assert "tag_name was used by an immutable release" in refusal(caught)[1]


def test_settings_are_for_administrators_and_say_what_is_set(site: StandInGitHub, repository: Repository) -> None:
    site.tokens["admin"] = Token(name="admin", write=frozenset({"administration"}))
    admin = {"Authorization": "Bearer admin"}

    def ask(path: str, headers: dict[str, str]) -> tuple[int, Any]:
        answer = requests.get(f"{site.url}/repos/{NAME}/{path}", headers=headers, timeout=5)
        return answer.status_code, answer.json()

    for path in ("immutable-releases", "actions/permissions/workflow", "actions/variables"):
        assert ask(path, as_writer())[0] == 403
    assert ask("immutable-releases", admin)[0] == 404
    assert ask("environments/release", as_writer())[0] == 404
    repository.immutable_releases = repository.tags_may_not_deploy = True
    repository.environments = {"release": ["octocat"]}
    repository.variables = {"MODEL_RELEASE_MODELS": "demo"}
    repository.caches = {"weights-a": "refs/heads/main", "other": "refs/heads/main"}
    repository.protected = {"main": RULESET}
    assert ask("immutable-releases", admin)[1]["enabled"] is True
    assert ask("actions/permissions/workflow", admin)[1]["can_approve_pull_request_reviews"] is True
    (rule,) = ask("environments/release", as_writer())[1]["protection_rules"]
    assert [each["reviewer"]["login"] for each in rule["reviewers"]] == ["octocat"]
    repository.may_deploy = [("branch", "main"), ("tag", "model-v*")]
    policies = ask("environments/release/deployment-branch-policies", as_writer())[1]["branch_policies"]
    assert [(each["type"], each["name"]) for each in policies] == repository.may_deploy
    assert ask("environments/other/deployment-branch-policies", as_writer())[0] == 404
    assert ask("actions/variables", admin)[1]["variables"][0]["value"] == "demo"
    assert [each["key"] for each in ask("actions/caches?key=weights-", as_writer())[1]["actions_caches"]] == [
        "weights-a"
    ]
    assert [each["type"] for each in ask("rules/branches/main", as_writer())[1]] == ["pull_request"]


# Contents


def test_a_change_with_an_old_blob_id_conflicts_and_one_without_any_is_invalid(
    site: StandInGitHub, repository: Repository, remote: RemoteRepository
) -> None:
    old = file_at(remote, ENV)
    repository.commit({ENV: "VITE_OTHER=3\n"}, message="Somebody else")
    with pytest.raises(GithubException) as caught:
        remote.update_file(ENV, "Mine", "VITE_OTHER=2\n", old.sha)
    assert refusal(caught) == (409, f"{ENV} does not match {old.sha}")
    with pytest.raises(GithubException) as caught:
        remote.create_file(ENV, "Mine", "VITE_OTHER=2\n")
    assert refusal(caught) == (422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    assert site.writes() == []


def test_each_change_of_a_file_is_one_commit(repository: Repository, remote: RemoteRepository) -> None:
    made = remote.create_file("a/b/new.txt", "Create", "text", branch="main")
    remote.update_file("a/b/new.txt", "Change", "more", made["content"].sha, branch="main")
    remote.delete_file("a/b/new.txt", "Delete", file_at(remote, "a/b/new.txt").sha, branch="main")
    messages = [commit.commit.message for commit in remote.get_commits()]
    assert messages == ["Delete", "Change", "Create", "Initial commit"]
    assert set(repository.files()) == set(FILES)


def test_a_folder_is_listed_and_what_is_missing_is_not_found(remote: RemoteRepository) -> None:
    assert [(each.path, each.type) for each in folder_at(remote, "")] == [(ENV, "file"), (".github", "dir")]
    assert len(folder_at(remote, ".github/workflows")) == 2
    with pytest.raises(UnknownObjectException):
        remote.get_contents("nothing")
    with pytest.raises(GithubException) as caught:
        remote.get_contents(ENV, ref="nowhere")
    assert refusal(caught) == (404, "No commit found for the ref nowhere")
    with pytest.raises(UnknownObjectException) as caught:
        remote.create_file("x", "Create", "text", branch="nowhere")
    assert refusal(caught)[1] == "Branch nowhere not found"


def test_a_file_of_more_than_a_megabyte_comes_only_raw(
    site: StandInGitHub, repository: Repository, remote: RemoteRepository
) -> None:
    repository.commit({"big.bin": b"x" * 1_000_001})
    assert file_at(remote, "big.bin").encoding == "none"
    headers = as_writer(Accept="application/vnd.github.raw+json")
    answer = requests.get(f"{site.url}/repos/{NAME}/contents/big.bin", headers=headers, timeout=5)
    assert len(answer.content) == 1_000_001


# Git


def test_ids_are_the_ones_git_gives(repository: Repository, tmp_path: Path) -> None:
    def git(*arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(["git", *arguments], cwd=tmp_path, input=given, capture_output=True, check=True)
        return done.stdout.decode().strip()

    repository.commit({"a/b.txt": "text", "a.txt": "", "a-b/c": b"\0\1"}, message="More\n\nand more")
    for path, content in repository.files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    git("init", "--quiet")
    git("add", "--all", "--force")
    head = repository.resolve("main") or ""
    commit = repository.objects.commits[head]
    assert git("write-tree") == commit.tree
    assert git("hash-object", "-t", "commit", "--literally", "--stdin", given=commit.content()) == head


def test_a_branch_moves_only_forward_unless_forced(repository: Repository, remote: RemoteRepository) -> None:
    repository.create_branch("side")
    side = repository.commit({"side": ""}, branch="side")
    main = repository.commit({"main": ""})
    reference = remote.get_git_ref("heads/main")
    with pytest.raises(GithubException) as caught:
        reference.edit(side)
    assert refusal(caught) == (422, "Update is not a fast forward")
    with pytest.raises(GithubException) as caught:
        reference.edit("0" * 40)
    assert refusal(caught) == (422, "Object does not exist")
    assert repository.resolve("main") == main
    reference.edit(side, force=True)
    assert repository.resolve("main") == side


def test_refs_are_created_once_listed_by_prefix_and_deleted(repository: Repository, remote: RemoteRepository) -> None:
    sha = repository.resolve("main") or ""
    remote.create_git_ref("refs/heads/env/model-v1", sha)
    with pytest.raises(GithubException) as caught:
        remote.create_git_ref("refs/heads/env/model-v1", sha)
    assert refusal(caught) == (422, "Reference already exists")
    assert [ref.ref for ref in remote.get_git_matching_refs("heads/env/")] == ["refs/heads/env/model-v1"]
    assert {branch.name for branch in remote.get_branches()} == {"main", "env/model-v1"}
    assert remote.get_branch("env/model-v1").commit.sha == sha
    reference = remote.get_git_ref("heads/env/model-v1")
    reference.delete()
    with pytest.raises(GithubException) as caught:
        reference.delete()
    assert refusal(caught) == (422, "Reference does not exist")


def test_a_tree_on_a_base_keeps_the_rest_and_a_line_without_id_removes(
    repository: Repository, remote: RemoteRepository
) -> None:
    head = remote.get_git_commit(repository.resolve("main") or "")
    lines = [
        InputGitTreeElement("deep/er/file", "100644", "blob", content="text"),
        InputGitTreeElement(".github/workflows/ci.yml", "100644", "blob", sha=None),
    ]
    tree = remote.create_git_tree(lines, head.tree)
    listed = {line.path: line.type for line in remote.get_git_tree(tree.sha, recursive=True).tree}
    assert listed[".github/workflows/deploy.yml"] == listed["deep/er/file"] == "blob"
    assert ".github/workflows/ci.yml" not in listed
    with pytest.raises(GithubException) as caught:
        remote.create_git_tree([InputGitTreeElement("x", "100644", "blob", sha="0" * 40)])
    assert refusal(caught)[0] == 422


def test_an_annotated_tag_leads_to_its_commit(repository: Repository, remote: RemoteRepository) -> None:
    head = repository.resolve("main") or ""
    tag = remote.create_git_tag("v1", "The first", head, "commit")
    remote.create_git_ref("refs/tags/v1", tag.sha)
    assert remote.get_git_tag(tag.sha).message == "The first"
    assert remote.get_git_ref("tags/v1").object.type == "tag"
    assert [(each.name, each.commit.sha) for each in remote.get_tags()] == [("v1", head)]
    assert remote.get_commit("v1").sha == head


@pytest.mark.parametrize(
    ("kind", "by_contents", "by_ref"),
    [
        (RULESET, (409, "Repository rule violations found"), (422, "Repository rule violations found")),
        (CLASSIC, (409, "Could not update file: Changes must"), (422, "Changes must be made through a pull request.")),
        (RESTRICTED, (403, "You're not authorized to push"), (403, "You're not authorized to push")),
    ],
)
def test_a_protected_branch_refuses_direct_changes(
    repository: Repository, remote: RemoteRepository, kind: str, by_contents: tuple[int, str], by_ref: tuple[int, str]
) -> None:
    repository.protected["main"] = kind
    assert remote.get_branch("main").protected
    old = file_at(remote, ENV)
    with pytest.raises(GithubException) as caught:
        remote.update_file(ENV, "Mine", "x", old.sha)
    assert (caught.value.status, refusal(caught)[1][: len(by_contents[1])]) == by_contents
    repository.create_branch("side")
    side = repository.commit({"side": ""}, branch="side")
    with pytest.raises(GithubException) as caught:
        remote.get_git_ref("heads/main").edit(side)
    assert (caught.value.status, refusal(caught)[1][: len(by_ref[1])]) == by_ref
    remote.update_file(ENV, "Mine", "x", old.sha, branch="side")


# Pull requests and workflows


@pytest.fixture
def side(repository: Repository) -> str:
    """A branch with a commit of its own."""
    repository.create_branch("side")
    repository.commit({"side": "text"}, branch="side", message="Aside")
    return "side"


def test_there_is_one_open_pull_request_for_a_branch(remote: RemoteRepository, side: str) -> None:
    pull = remote.create_pull(base="main", head=side, title="One")
    with pytest.raises(GithubException) as caught:
        remote.create_pull(base="main", head=side, title="Two")
    assert refusal(caught) == (422, "Validation Failed / A pull request already exists for someone:side.")
    pull.edit(title="Changed", body="Why", state="closed")
    assert list(remote.get_pulls()) == []
    assert [(each.title, each.body) for each in remote.get_pulls(state="closed")] == [("Changed", "Why")]
    assert remote.create_pull(base="main", head=side, title="Two").number == 2


@pytest.mark.parametrize(
    ("head", "words"), [("nowhere", "head invalid"), ("empty", "No commits between main and empty")]
)
def test_a_pull_request_needs_a_branch_with_commits(
    repository: Repository, remote: RemoteRepository, head: str, words: str
) -> None:
    repository.create_branch("empty")
    with pytest.raises(GithubException) as caught:
        remote.create_pull(base="main", head=head, title="One")
    assert refusal(caught) == (422, f"Validation Failed / {words}")


def test_actions_may_be_forbidden_to_open_pull_requests(
    site: StandInGitHub, repository: Repository, remote: RemoteRepository, side: str
) -> None:
    repository.actions_may_open_pulls = False
    with pytest.raises(GithubException) as caught:
        remote.create_pull(base="main", head=side, title="One")
    assert refusal(caught) == (403, "GitHub Actions is not permitted to create or approve pull requests.")
    site.tokens["personal-token"] = Token(login="someone")
    assert (
        client(site.url, "personal-token").get_repo(NAME).create_pull(base="main", head=side, title="One").number == 1
    )


def test_pull_requests_are_filtered_by_head_and_base(
    repository: Repository, remote: RemoteRepository, side: str
) -> None:
    repository.create_branch("release")
    remote.create_pull(base="main", head=side, title="One")
    remote.create_pull(base="release", head=side, title="Two")
    assert [pull.title for pull in remote.get_pulls(head="someone:side", base="release")] == ["Two"]
    assert list(remote.get_pulls(head="someone:other")) == []
    assert len(list(remote.get_pulls(head="side"))) == 2  # A head without its owner is ignored.


def test_a_merged_pull_request_changes_its_base_and_a_deleted_branch_closes_it(
    repository: Repository, remote: RemoteRepository, side: str
) -> None:
    first = remote.create_pull(base="main", head=side, title="One")
    repository.merge(repository.pulls[0])
    assert remote.get_pull(first.number).merged
    assert repository.files()["side"] == b"text"
    repository.commit({"side": "more"}, branch=side)
    second = remote.create_pull(base="main", head=side, title="Two")
    remote.get_git_ref("heads/side").delete()
    assert (remote.get_pull(second.number).state, remote.get_pull(second.number).merged) == ("closed", False)


def test_a_workflow_is_dispatched_and_noted(repository: Repository, remote: RemoteRepository) -> None:
    workflow = remote.get_workflow("deploy.yml")
    assert workflow.create_dispatch("main", {"tag": TAG}, throw=True)
    assert repository.snapshot()["dispatches"] == [{"workflow": "deploy.yml", "ref": "main", "inputs": {"tag": TAG}}]
    assert workflow.create_dispatch("main", {"tag": TAG}, throw=True, return_run_details=True).id == 2
    assert remote.create_repository_dispatch("model", {"tag": TAG})
    runs = list(workflow.get_runs(branch="main", created=">=2000-01-01T00:00:00Z"))
    assert [(run.id, run.event, run.head_sha) for run in runs] == [
        (2, "workflow_dispatch", repository.branch_head("main")),
        (1, "workflow_dispatch", repository.branch_head("main")),
    ]
    assert list(workflow.get_runs(branch="other")) == []


@pytest.mark.parametrize(
    ("workflow", "ref", "inputs", "words"),
    [
        ("nothing.yml", "main", {}, (404, "Not Found")),
        ("deploy.yml", "nowhere", {}, (422, "No ref found for: nowhere")),
        ("ci.yml", "main", {}, (422, "Workflow does not have 'workflow_dispatch' trigger")),
        ("deploy.yml", "main", {"odd": "1"}, (422, 'Unexpected inputs provided: ["odd"]')),
    ],
)
def test_a_dispatch_that_cannot_be_is_refused(
    repository: Repository, remote: RemoteRepository, workflow: str, ref: str, inputs: Any, words: tuple[int, str]
) -> None:
    with pytest.raises(GithubException) as caught:
        remote.get_workflow(workflow).create_dispatch(ref, inputs, throw=True)
    assert refusal(caught) == words
    assert repository.dispatches == []


# Tokens and limits


def test_a_bad_token_is_refused_even_for_what_is_public(site: StandInGitHub, repository: Repository) -> None:
    with pytest.raises(BadCredentialsException):
        client(site.url, "wrong-token").get_repo(repository.full_name)


def test_a_token_may_do_what_it_is_for(site: StandInGitHub, repository: Repository) -> None:
    site.tokens["contents-token"] = Token(name="contents", write=frozenset({"contents"}))
    site.tokens["other-token"] = Token(name="other", repositories=frozenset({"someone/other"}))
    repository.create_branch("side")
    repository.commit({"side": ""}, branch="side")
    reader, contents = client(site.url, "read-token").get_repo(NAME), client(site.url, "contents-token").get_repo(NAME)
    other = client(site.url, "other-token").get_repo(NAME)
    assert not reader.permissions.push
    forbidden: list[Callable[[], object]] = [
        lambda: draft(reader),
        lambda: draft(other),
        lambda: contents.create_pull(base="main", head="side", title="One"),
    ]
    for act in forbidden:
        with pytest.raises(GithubException) as caught:
            act()
        assert refusal(caught) == (403, "Resource not accessible by integration")
    assert draft(contents).draft
    assert [request.token for request in site.writes()] == ["contents"]


def test_everyone_reads_what_is_public_and_nobody_else_what_is_private(site: StandInGitHub) -> None:
    site.add_repository(NAME, FILES)
    site.add_repository("someone/secret", private=True)
    anonymous = client(site.url, None)
    remote = anonymous.get_repo(NAME)
    assert file_at(remote, ENV).decoded_content == b"VITE_OTHER=1\n"
    with pytest.raises(GithubException) as caught:
        draft(remote)
    assert refusal(caught) == (401, "Requires authentication")
    with pytest.raises(UnknownObjectException):
        anonymous.get_repo("someone/secret")
    assert client(site.url).get_repo("someone/secret").private


def test_the_log_knows_every_request_and_no_token(
    site: StandInGitHub, remote: RemoteRepository, tmp_path: Path
) -> None:
    release = draft(remote)
    upload(release, tmp_path)
    requests.get(f"{site.url}/repos/{NAME}/contents/write-token?ref=write-token", headers=as_writer(), timeout=5)
    assert [(each.method, each.path, each.status, each.changed) for each in site.requests] == [
        ("GET", f"/repos/{NAME}", 200, False),
        ("POST", f"/repos/{NAME}/releases", 201, True),
        ("POST", f"/uploads/repos/{NAME}/releases/{release.id}/assets", 201, True),
        ("GET", f"/repos/{NAME}/contents/***", 404, False),
    ]
    assert "write-token" not in repr(site.requests)
    assert site.requests[2].query == {"name": "model.onnx", "label": ""}
    assert {each.token for each in site.requests} == {"writer"}


def test_the_hourly_limit_ends_all_but_the_question_for_it(remote: RemoteRepository, site: StandInGitHub) -> None:
    site.rate_remaining = 1
    remote.get_branch("main")
    with pytest.raises(GithubException) as caught:
        remote.get_branch("main")
    assert caught.value.status == 403
    assert refusal(caught)[1].startswith("API rate limit exceeded")
    assert headers_of(caught)["x-ratelimit-remaining"] == "0"
    assert client(site.url).get_rate_limit().rate.remaining == 0


@pytest.mark.parametrize(("kind", "retry_after"), [("403", ""), ("403", "7"), ("429", "7"), ("primary", "")])
def test_a_limit_is_told_as_github_tells_it(
    site: StandInGitHub, remote: RemoteRepository, kind: str, retry_after: str
) -> None:
    site.faults = [Fault(kind, method="POST", retry_after=retry_after)]
    with pytest.raises(GithubException) as caught:
        draft(remote)
    headers = headers_of(caught)
    assert headers.get("retry-after", "") == retry_after
    assert (headers["x-ratelimit-remaining"] == "0") == (kind == "primary")
    words = "API rate limit exceeded" if kind == "primary" else "You have exceeded a secondary rate limit"
    assert refusal(caught)[1].startswith(words)
    assert site.writes() == []


# Faults


ANSWERS = {"500": 500, "502": 502, "403": 403, "429": 429, "409": 409, "422": 422}


@pytest.mark.parametrize("name", EVERY_FAULT)
def test_each_fault_shows_and_changes_the_state_only_if_it_says_so(
    site: StandInGitHub, remote: RemoteRepository, name: str
) -> None:
    site.faults = [fault(name, number=2, seconds=0.2)]
    kind = site.faults[0].kind
    seen: object = None
    try:
        seen = draft(remote)
    except GithubException as error:
        seen = error.status
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
        seen = type(error).__name__
    if kind == "slow":
        assert isinstance(seen, GitRelease)
    elif kind in ANSWERS:
        assert seen == ANSWERS[kind]
    else:
        assert seen in ("ConnectionError", "ChunkedEncodingError")
    acted = site.faults[0].acts
    assert len(site.snapshot()[NAME]["releases"]) == acted
    assert (site.requests[1].changed, site.requests[1].fault) == (acted, kind)
    assert remote.get_branch("main").name == "main"


def test_a_hang_outlasts_a_client_with_a_shorter_patience(site: StandInGitHub, repository: Repository) -> None:
    site.faults = [Fault("hang", path=f"/repos/{NAME}", seconds=5)]
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{site.url}/repos/{repository.full_name}", timeout=0.1)


def test_a_fault_can_wait_for_its_turn(site: StandInGitHub, remote: RemoteRepository) -> None:
    site.faults = [Fault("500", method="GET", path="*/branches/*", nth=2, times=2)]
    statuses = []
    for _ in range(4):
        try:
            remote.get_branch("main")
            statuses.append(200)
        except GithubException as error:
            statuses.append(error.status)
    assert statuses == [200, 500, 500, 200]


def test_a_download_can_break_off_or_be_corrupted(site: StandInGitHub, repository: Repository) -> None:
    repository.add_release(TAG, {"model.onnx": b"0123456789"})
    url = f"{site.url}/{NAME}/releases/download/{TAG}/model.onnx"
    site.faults = [Fault("truncate", path="/release-assets/*"), Fault("corrupt", path="/release-assets/*", nth=2)]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url, timeout=5)
    other = requests.get(url, timeout=5).content
    assert len(other) == 10
    assert other != requests.get(url, timeout=5).content == b"0123456789"


def test_a_hook_sees_each_request_before_it_is_handled_and_may_spoil_it(
    site: StandInGitHub, remote: RemoteRepository
) -> None:
    seen: list[tuple[int, str, int]] = []

    def hook(request: Request) -> Fault | None:
        seen.append((request.number, request.method, len(site.writes())))
        return Fault("reset", acts=True) if request.method == "POST" else None

    site.hook = hook
    with pytest.raises(requests.ConnectionError):
        draft(remote)
    remote.get_branch("main")
    assert seen == [(2, "POST", 0), (3, "GET", 1)]


def test_a_test_can_wait_for_requests(site: StandInGitHub, repository: Repository) -> None:
    url = f"{site.url}/repos/{repository.full_name}"
    threading.Timer(0.05, lambda: requests.get(url, timeout=5)).start()
    site.wait_for(1)
    with pytest.raises(TimeoutError):
        site.wait_for(2, timeout_s=0.01)


# The judge, and the program


def test_every_route_is_one_of_githubs() -> None:
    ours = {(route.method, route.template.removeprefix("/uploads")) for route in ROUTES} - {("GET", "/user")}
    assert [each for each in sorted(ours) if not openapi.is_described(each[1], each[0])] == []


@pytest.mark.parametrize("room", ["faults", "models", "objects", "openapi", "repos"])
def test_the_examples_in_its_docstrings_hold(room: str) -> None:
    done = doctest.testmod(importlib.import_module(f"standins.github.{room}"))
    assert (done.failed, done.attempted > 0) == (0, True)


def test_a_mistake_of_the_stand_in_itself_is_noticed(repository: Repository) -> None:
    with StandInGitHub() as broken:
        broken.repositories[NAME] = repository
        repository.refs["refs/heads/odd"] = "no such commit"
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{broken.url}/repos/{NAME}/branches/odd", timeout=5)
        assert "the stand-in failed: KeyError" in broken.violations[0]


def test_an_answer_that_differs_from_the_official_description_is_noticed(
    site: StandInGitHub, repository: Repository
) -> None:
    template = "/repos/{owner}/{repo}/releases/assets/{asset_id}"
    asset = repository.add_release(TAG, {"a": b"b"}).assets[0]
    good = requests.get(f"{site.url}/repos/{NAME}/releases/assets/{asset.id}", timeout=5).json()

    def judged(status: int = 200, **changes: Any) -> list[str]:
        return openapi.violations(template, "GET", status, good | changes)

    assert judged() == judged(digest=None) == judged(state="starter") == []
    assert "is not of type 'integer'" in judged(size="7")[0]
    assert "is not one of" in judged(state="lost")[0]
    assert "'date-time'" in judged(created_at="yesterday")[0]
    assert "is a required property" in openapi.violations(template, "GET", 200, {})[0]
    assert "no such answer" in judged(status=201)[0]
    assert openapi.violations(template, "DELETE", 204, {"a": 1})
    assert openapi.violations(template, "GET", 404, {"message": 7})


def test_it_runs_as_a_program_and_a_large_upload_leaves_its_memory_flat(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / ENV).write_text("A=1\n")
    arguments = ["--repository", f"{NAME}={tmp_path / 'app'}", "--state", str(tmp_path / "state.json"), "--immutable"]
    command = [sys.executable, "-m", "standins.github", *arguments, "--fault", "POST */releases=502"]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        urls = json.loads(process.stdout.readline())
        remote = client(urls["ghes_url"]).get_repo(NAME)
        with pytest.raises(GithubException):
            draft(remote)
        release = draft(remote)
        with (tmp_path / "large").open("wb") as file:
            file.truncate(256 << 20)
        assert release.upload_asset(str(tmp_path / "large"), name="large.onnx").size == 256 << 20
        release.update_release("Model", "Notes", draft=False)
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            peak_kib = next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line)
            assert peak_kib < 100_000
        url = urls["url"]
        posted = requests.post(f"{url}/_control/faults", json=[{"kind": "500", "path": "*/branches/*"}], timeout=5)
        assert posted.status_code == 204
        assert requests.get(f"{url}/repos/{NAME}/branches/main", timeout=5).status_code == 500
        live = requests.get(f"{url}/_control/state", timeout=5).json()
        log = requests.get(f"{url}/_control/log", timeout=5).json()
        assert [request["status"] for request in log][1:3] == [502, 201]
        assert requests.get(f"{url}/_control/violations", timeout=5).json() == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    written = json.loads((tmp_path / "state.json").read_text())
    assert written["state"] == live
    assert written["state"][NAME]["branches"]["main"]["files"] == {ENV: "A=1\n"}
    assert written["state"][NAME]["releases"][0]["immutable"]
    assert "write-token" not in json.dumps(written)
