"""A web app's repository on the stand-in GitHub, and what a release commits there."""

from collections.abc import Callable
from typing import Any

from dists import REPOSITORY
from model_release.app.commit import AppCommit, CommitResult
from model_release.app.github import commit_to_app
from model_release.base.github_access import GitHubAccess
from model_release.base.github_client import connect
from model_release.base.retry import RetryPolicy
from standins.github import Repository, StandInGitHub

TAG = "model-v1.0.0"
TOPIC = f"model-release/{TAG}"
NAME = "someone/app"
ENV = "apps/web/.env.production"
FOLDER = "apps/web/static/models/gpt2"
DEPLOY = "deploy.yml"
VALUES = {"VITE_MODEL_URL": "https://example.org/model.onnx?v=1.0.0-12345678", "VITE_MODEL_VERSION": "1.0.0"}
OLD_ENV = "# the app\nVITE_API=https://api.example\nVITE_MODEL_URL=old\nVITE_MODEL_VERSION=0.9.0\n"
NEW_ENV = OLD_ENV.replace("old", VALUES["VITE_MODEL_URL"]).replace("0.9.0", "1.0.0")
FILES = {"model.onnx": bytes(range(256)) * 40, "tokenizer.json": b'{"tokens": []}\n'}
START = {
    ENV: OLD_ENV,
    "README.md": "# app\n",
    f".github/workflows/{DEPLOY}": "on:\n  workflow_dispatch:\njobs: {}\n",
    ".github/workflows/test.yml": "on: push\njobs: {}\n",
}
RETRY_POLICY = RetryPolicy(attempts=8, longest_wait_s=900, sleep=lambda _: None, jitter=lambda: 0.0)


def wanted(**changes: Any) -> AppCommit:
    request = {
        "repository": NAME,
        "branch": None,
        "env_path": ENV,
        "values": VALUES,
        "files": {},
        "tag": TAG,
        "deploy_workflow": None,
    }
    return AppCommit(**{**request, **changes})


def commit(
    site: StandInGitHub, request: AppCommit, *, holder: str = "write", said: list[str] | None = None
) -> CommitResult:
    api = connect(access_to(site, f"{holder}-token"), timeout_s=5, seconds_between_writes=0)
    return commit_to_app(api, request, retry_policy=RETRY_POLICY, progress=(said if said is not None else []).append)


def access_to(site: StandInGitHub, token: str = "write-token") -> GitHubAccess:  # noqa: S107 - the stand-in's
    return GitHubAccess(token=token, repository=REPOSITORY, api_url=site.url, server_url=site.url)


def messages(repository: Repository, branch: str = "main") -> list[str]:
    head = repository.branch_head(branch)
    assert head is not None
    return [repository.objects.commits[sha].message for sha in repository.objects.history(head)]


def writes(site: StandInGitHub) -> list[str]:
    return [f"{request.method} {request.path.removeprefix(f'/repos/{NAME}')}" for request in site.writes()]


def before(site: StandInGitHub, method: str, path: str, act: Callable[[], object]) -> None:
    """Does something once, right before the server handles the first such request."""
    pending = [act]

    def hook(request: Any) -> None:
        if pending and request.method == method and path in request.path:
            pending.pop()()

    site.hook = hook
