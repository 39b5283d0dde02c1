"""A published release -> the web app's repository points at it; last, so that the app never points at nothing."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_release.app.commit import AppCommit, is_plain_path
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import MODELS_FOLDER, app_files
from model_release.app.github import AppResult, check_app, commit_to_app
from model_release.base.errors import HostError, UsageError
from model_release.base.github_client import RETRY_POLICY, Client, with_retries
from model_release.base.retry import RetryPolicy
from model_release.contract.manifest import MANIFEST_NAME, Manifest, version_query
from model_release.contract.tag import parse_tag
from model_release.hosts.host import Source

_ANSWER_S = 60.0


@dataclass(frozen=True, kw_only=True)
class WebApp:
    """The web app's repository; paths are those in it.

    Attributes:
        repository: `owner/name`.
        branch: None stands for the default branch.
        env_path: The env file.
        static_path: What the app serves at its base; models delivered by git go below it.
        deploy_workflow: The file name of a workflow to start after a change.
        create_env_file: Whether a missing env file is made.
    """

    repository: str
    branch: str | None = None
    env_path: str
    static_path: str
    deploy_workflow: str | None = None
    create_env_file: bool = False

    def __post_init__(self) -> None:
        if not is_plain_path(self.static_path):
            raise UsageError(f"--static-dir must be a folder like apps/web/static, got {self.static_path[:60]!a}.")
        self.commit("model-v0.0.0", {}, {})  # Its rules hold before there is a release.

    def commit(self, tag: str, values: Mapping[str, str], files: Mapping[str, Path]) -> AppCommit:
        """What a release commits there."""
        return AppCommit(
            repository=self.repository,
            branch=self.branch,
            env_path=self.env_path,
            values=values,
            files=files,
            tag=tag,
            deploy_workflow=self.deploy_workflow,
            create_env_file=self.create_env_file,
        )


def point_app_at_release(
    api: Client,
    app: WebApp,
    document: Manifest,
    dist: Path,
    *,
    asset_url: str,
    mirror_url: str = "",
    source: Source | None,
    retry_policy: RetryPolicy = RETRY_POLICY,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[AppResult, str]:
    """Commits the model's URL to the web app, and the model itself where it is delivered by git.

    Args:
        api: From `github_client.connect`, with a token for the app's repository.
        app: The web app.
        document: The manifest of a release that is public by now.
        dist: The release's files.
        asset_url: Where the app's model is found in the release, without `?v=`.
        mirror_url: What the app is to use instead, whatever the delivery; empty without a mirror.
        source: The release as people see it; asked whether it has the model. None if that is known.
        retry_policy: How long GitHub may take.
        progress: Told what happens.

    Returns:
        What became of the app's repository, and the value of VITE_MODEL_URL.

    Raises:
        HostError: The release does not answer, or GitHub refuses.
        EnvFileError: The env file is missing there, or cannot be edited safely.
    """
    tag = parse_tag(document.tag)
    chosen = app_files(document, tag)
    files: dict[str, Path] = {}
    if mirror_url:
        url = mirror_url
    elif document.delivery.mode == "git":
        url = chosen.url
        names = [*(entry.name for entry in chosen.entries), MANIFEST_NAME]
        files = {f"{app.static_path}/{MODELS_FOLDER}/{chosen.folder}/{name}": dist / name for name in names}
    else:
        if not asset_url.startswith(("https://", "http://")):
            raise UsageError(f"the model's address must be one for browsers, got {asset_url[:80]!a}. Give --base-url.")
        url = f"{asset_url}?v={version_query(tag.version, chosen.model.sha256)}"
    if source is not None:
        with_retries(
            lambda: _require_answer(source, chosen.model.name, chosen.model.size_bytes),
            retry_policy,
            progress,
            what=source.describe(),
        )
    request = app.commit(tag.text, {URL_KEY: url, VERSION_KEY: tag.version}, files)
    return commit_to_app(api, request, retry_policy=retry_policy, progress=progress), url


@dataclass(frozen=True, kw_only=True)
class AppPointer:
    """`point_app_at_release` for one app and release, ready to be called when that is public.

    Attributes:
        api: From `github_client.connect`, with a token for the app's repository.
        source: The release as people see it, if it is on the web.
    """

    api: Client
    app: WebApp
    source: Source | None
    retry_policy: RetryPolicy = RETRY_POLICY
    progress: Callable[[str], None] = lambda _: None

    def check(self) -> None:
        """Refuses before there is a release what can be; see `check_app`."""
        request = self.app.commit("model-v0.0.0", {URL_KEY: "x", VERSION_KEY: "x"}, {})
        check_app(self.api, request, retry_policy=self.retry_policy, progress=self.progress)

    def point(self, document: Manifest, dist: Path, asset_url: str, *, mirror_url: str = "") -> tuple[AppResult, str]:
        """See `point_app_at_release`."""
        return point_app_at_release(
            self.api,
            self.app,
            document,
            dist,
            asset_url=asset_url,
            mirror_url=mirror_url,
            source=self.source,
            retry_policy=self.retry_policy,
            progress=self.progress,
        )


def describe_result(app: WebApp, result: AppResult) -> list[str]:
    """What became of the app's repository, in lines for people."""
    where = f"{app.repository}, {app.env_path}"
    line = {
        "unchanged": f"{where}: unchanged",
        "committed": f"{where}: committed ({result.commit[:10]})",
        "pull request": f"{where}: waits in {result.url}",
        "branch pushed": f"{where}: pushed to a branch; open the pull request at {result.url}",
    }[result.outcome]
    started = [f"{app.deploy_workflow}: started"] if result.dispatched else []
    return [line, *started, *result.notes]


def _require_answer(source: Source, name: str, size_bytes: int) -> None:
    """Asks for a file, and reads no more of it than that it comes.

    Raises:
        HostError: It is not there, or is another one.
        TransientError: No answer, this time.
    """
    with source.open(name, start=0, etag="", deadline=time.monotonic() + _ANSWER_S) as opened:
        if opened.size_bytes not in (None, size_bytes):
            raise HostError(
                f"{name} of {source.describe()} must have {size_bytes} bytes, got {opened.size_bytes}. Publish again."
            )
        next(opened.pieces, b"")
