"""A web app in a repository on GitHub: a published release is asked for its model, then committed there."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_release.app.app import AppResult, Released
from model_release.app.branches import listing
from model_release.app.builds.build_files import build_files_of
from model_release.app.commit import AppCommit, CommitResult, is_plain_path
from model_release.app.envfile import URL_KEY, VERSION_KEY
from model_release.app.files import app_files
from model_release.app.github import check_app, commit_to_app
from model_release.app.overrides import MAX_BUILD_FILES, NOT_LOOKED_AT, find_shadows
from model_release.base.errors import HostError, UsageError
from model_release.base.github_client import RETRY_POLICY, Client, with_retries
from model_release.base.progress import Progress, silent
from model_release.base.retry import RetryPolicy
from model_release.contract.manifest import FileEntry
from model_release.contract.tag import parse_tag
from model_release.hosts.host import Source

_ANSWER_S = 60.0


@dataclass(frozen=True, kw_only=True)
class AppPlace:
    """Where the web app is on GitHub; paths are those in its repository.

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
            raise UsageError(
                f"--static-dir must be a folder like apps/web/static, got {self.static_path[:60]!a}. Correct it."
            )
        self.commit("model-v0.0.0", {}, {})  # Its rules hold before there is a release.

    def commit(self, tag: str, values: Mapping[str, str], files: Mapping[str, Path]) -> AppCommit:
        """What a release commits there; `files` are named by their path below `static_path`."""
        return AppCommit(
            repository=self.repository,
            branch=self.branch,
            env_path=self.env_path,
            values=values,
            files={f"{self.static_path}/{path}": file for path, file in files.items()},
            tag=tag,
            deploy_workflow=self.deploy_workflow,
            create_env_file=self.create_env_file,
        )


@dataclass(frozen=True, kw_only=True)
class RepositoryApp:
    """A web app in a repository on GitHub; see `WebApp`.

    Attributes:
        api: From `github_client.connect`, with a token for the app's repository.
        place: Where it is.
        source: The release as people see it; asked whether it has the model. None if that is known.
        retry_policy: How long GitHub may take.
        progress: Told what happens.
    """

    api: Client
    place: AppPlace
    source: Source | None
    retry_policy: RetryPolicy = RETRY_POLICY
    progress: Progress = silent

    def describe(self) -> str:
        """See `WebApp`."""
        return f"{self.place.repository}, {self.place.env_path}"

    def check(self, model: str = "") -> None:
        """See `WebApp`."""
        files = {model: Path()} if model else {}
        request = self.place.commit("model-v0.0.0", {URL_KEY: "x", VERSION_KEY: "x"}, files)
        check_app(self.api, request, retry_policy=self.retry_policy, progress=self.progress)

    def point(self, released: Released) -> AppResult:
        """See `WebApp`. The app never points at nothing: the release must answer first.

        Raises:
            ManifestError: The release has no such files as an app gets.
            UsageError: The release is nowhere a browser could ask.
        """
        tag = parse_tag(released.document.tag)
        model = app_files(released.document, tag).model
        url, asset_url = released.model_url, released.asset_url
        from_release = not (released.mirror_url or released.delivered_by_git)
        if from_release and not asset_url.startswith(("https://", "http://")):
            raise UsageError(f"the model's address must be one for browsers, got {asset_url[:80]!a}. Give --base-url.")
        if self.source is not None:
            self._require_answer(self.source, model)
        request = self.place.commit(tag.text, released.values, released.files)
        result = commit_to_app(self.api, request, retry_policy=self.retry_policy, progress=self.progress)
        warnings = self._shadows(result, request) if result.outcome != "unchanged" else ()
        lines = (*self._lines(result), *warnings, f"{URL_KEY}={url}")
        return AppResult(outcome=result.outcome, model_url=url, lines=lines, commit=result.commit)

    def _require_answer(self, source: Source, model: FileEntry) -> None:
        """Asks for the model, and reads no more of it than that it comes.

        Raises:
            HostError: It is not there, or is another one.
        """

        def attempt() -> None:
            with source.open(model.name, start=0, etag="", deadline=time.monotonic() + _ANSWER_S) as opened:
                if opened.size_bytes not in (None, model.size_bytes):
                    raise HostError(
                        f"{model.name} of {source.describe()} must have {model.size_bytes} bytes, "
                        f"got {opened.size_bytes}. Publish again."
                    )
                next(opened.pieces, b"")

        with_retries(attempt, self.retry_policy, self.progress, what=source.describe())

    def _shadows(self, result: CommitResult, request: AppCommit) -> Iterator[str]:
        """Who else sets our values, as far as the repository's files tell; the commit stands whatever becomes of it."""
        folder, _, file = request.env_path.rpartition("/")

        def look() -> tuple[str, ...]:
            holds = listing(self.api.get_repo(request.repository), result.commit)
            beside = [path for path in holds.shas if path.rpartition("/")[0] == folder and "/.env" in f"/{path}"]
            builds = build_files_of(holds.shas, folder)[:MAX_BUILD_FILES]
            return find_shadows(
                request.values,
                file=file,
                files={path.rpartition("/")[2]: holds.read(path) for path in beside},
                workflows={path: holds.read(path) for path in builds},
                environment={},
                folder=folder,
            )

        try:
            for warning in with_retries(look, self.retry_policy, self.progress, what=request.repository):
                yield f"warning: {warning}"
        except HostError as failure:
            yield f"warning: who else sets {URL_KEY} cannot be looked for: {failure}"
        yield NOT_LOOKED_AT

    def _lines(self, result: CommitResult) -> list[str]:
        """What became of the repository."""
        where = self.describe()
        line = {
            "unchanged": f"{where}: unchanged",
            "committed": f"{where}: committed ({result.commit[:10]})",
            "pull request": f"{where}: waits in {result.url}",
            "branch pushed": f"{where}: pushed to a branch; open the pull request at {result.url}",
        }[result.outcome]
        started = [f"{self.place.deploy_workflow}: started"] if result.dispatched else []
        return [line, *started, *result.notes]
