"""What the options of releasing name: a host, a mirror, the web app. Each group is handed over as one object.

Tokens and the addresses of GitHub come from the environment, as GitHub Actions sets it.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.base.errors import UsageError
from model_release.cli.options import PATH, handed_over, options, print_progress

if TYPE_CHECKING:
    from model_release.app.app import WebApp
    from model_release.app.repository import AppPlace
    from model_release.base.github_access import GitHubAccess
    from model_release.hosts.host import Host, Mirror, Source
    from model_release.hosts.local import LocalHost
    from model_release.hosts.mirror import AppMirror

DEFAULT_ENV_FILE = Path("apps/web/.env.production")


def github_access(repository: str | None = None) -> "GitHubAccess":
    """GitHub, as the environment says; `repository` in place of the one it names."""
    from model_release.base.github_access import GitHubAccess

    return GitHubAccess.from_environment(os.environ, repository=repository)


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """Where a release goes. The fields are named as the options."""

    host: str
    repo: str | None
    base_url: str = ""

    @property
    def on_github(self) -> bool:
        """Whether it goes to GitHub."""
        return self.host == "github"

    def open(self) -> "Host":
        """The host, for a folder that is a release already."""
        kind, _, folder = self.host.partition(":")
        if kind == "local" and folder and self.repo is None:
            return self._local()[0]
        access = github_access(self.repo)
        if not self.on_github or not access.repository:
            raise UsageError(
                f"--host must be github with --repo or GITHUB_REPOSITORY, or local:DIR without, "
                f"got {self.host[:80]!a}. Use e.g. --host github --repo octocat/app."
            )
        from model_release.base import github_client
        from model_release.hosts import github

        client = github_client.connect(access)
        return github.GitHubHost(client, access.repository, commit=access.commit, progress=print_progress)

    def open_for(self, tag: str) -> tuple["Host", str]:
        """The host, and where the release is going to be there, in words."""
        if self.on_github and not self.base_url:
            return self.open(), f"{tag} of {github_access(self.repo).repository} on GitHub"
        if self.repo is not None:
            raise UsageError("--repo is for --host github, which needs no --base-url. Leave one of them out.")
        place, folder = self._local()
        return place, str(folder / tag)

    def source(self, tag: str) -> "Source | None":
        """The release as people are going to see it; None if no server shows it."""
        from model_release.base.http import Web
        from model_release.hosts.source import GitHubRelease, WebFolder

        if self.on_github:
            return GitHubRelease(github_access(self.repo), tag, Web())
        return WebFolder(f"{self.base_url.rstrip('/')}/{tag}", Web()) if self.base_url else None

    def _local(self) -> tuple["LocalHost", Path]:
        """The folder, which must be one that can be written."""
        from model_release.hosts.local import LocalHost

        kind, _, folder = self.host.partition(":")
        if kind != "local" or not folder:
            raise UsageError(
                f"--host must be local:DIR or github, got {self.host[:80]!r}. Use e.g. local:out/releases."
            )
        if self.base_url and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w.~%/-]*)?", self.base_url, re.ASCII):
            raise UsageError(f"--base-url must be http(s)://HOST/PATH, got {self.base_url[:80]!r}. Correct it.")
        root = Path(folder)
        place = LocalHost(root, base_url=self.base_url)
        place.check()
        return place, root


host_options = handed_over("host", HostOptions)
"""Hands over `host`, `HostOptions`. Each command declares its own --host."""


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """The web app that gets the model. The fields are named as the options."""

    env_file: Path | None
    static_dir: Path | None
    env_repo: str | None
    env_branch: str | None
    deploy_workflow: str | None
    create_env_file: bool
    no_env: bool = False

    @property
    def names_repository(self) -> bool:
        """Whether the app is said to be in a repository on GitHub."""
        return not (self.env_repo is None and self.env_branch is None and self.deploy_workflow is None)

    @property
    def _env_path(self) -> Path:
        return self.env_file or DEFAULT_ENV_FILE

    @property
    def _static_path(self) -> Path:
        return self.static_dir or self._env_path.parent / "static"

    def in_tree(self) -> "WebApp":
        """The app in a folder of this machine."""
        from model_release.app.tree import TreeApp

        return TreeApp(
            env_file=self._env_path,
            static_dir=self._static_path,
            create_env_file=self.create_env_file,
            progress=print_progress,
        )

    def in_repository(self, host: HostOptions, tag: str, *, default: str | None = None) -> "WebApp":
        """The app in a repository on GitHub.

        Args:
            host: Where the release is going to be.
            tag: Of the release.
            default: The repository, if --env-repo names none; else it is GITHUB_REPOSITORY.
        """
        from model_release.app.repository import RepositoryApp
        from model_release.base import github_client

        place = self.place(default)
        api = github_client.connect(github_access())
        return RepositoryApp(api=api, place=place, source=host.source(tag), progress=print_progress)

    def place(self, default: str | None = None) -> "AppPlace":
        """Where the app is on GitHub; see `in_repository`."""
        from model_release.app.repository import AppPlace

        repository = self.env_repo or default or github_access().repository
        if not repository:
            raise UsageError("--env-repo must be the web app's OWNER/NAME, as GITHUB_REPOSITORY is not set. Give it.")
        return AppPlace(
            repository=repository,
            branch=self.env_branch,
            env_path=self._env_path.as_posix(),
            static_path=self._static_path.as_posix(),
            deploy_workflow=self.deploy_workflow,
            create_env_file=self.create_env_file,
        )


tree_options = options(
    click.option("--env-file", type=PATH, default=DEFAULT_ENV_FILE, show_default=True, help="The web app's env file."),
    click.option(
        "--static-dir",
        type=PATH,
        metavar="DIR",
        help="What the app serves at its base. [default: static beside the env file]",
    ),
)


app_options = options(
    click.option(
        "--env-repo",
        metavar="OWNER/NAME",
        help="Commit to this repository of the web app, on GitHub; paths are then those in it.",
    ),
    click.option("--env-branch", metavar="NAME", help="Its branch. [default: the default branch]"),
    click.option("--deploy-workflow", metavar="FILE", help="Its workflow to start after a change, e.g. deploy.yml."),
    click.option("--create-env-file", is_flag=True, help="Make the env file if it is missing."),
    handed_over("app", AppOptions),
)
"""Hands over `app`, `AppOptions`. Each command declares its own --env-file, --static-dir and --no-env."""


@dataclass(frozen=True, kw_only=True)
class MirrorOptions:
    """Where browsers can read the release. The fields are named as the options."""

    mirror: str | None
    mirror_endpoint: str | None
    mirror_public_url: str | None
    origin: str

    def check(self) -> None:
        """Refuses what can be refused without the libraries of a mirror."""
        addressed = self.mirror_endpoint is not None or self.mirror_public_url is not None
        if self.mirror is None:
            if addressed:
                raise UsageError(
                    "--mirror-endpoint and --mirror-public-url are for --mirror s3://BUCKET/PREFIX. Give it."
                )
            return
        from model_release.hosts.cors_probe import check_origin
        from model_release.hosts.mirror import HUB_PREFIX, match_target

        match_target(self.mirror)
        check_origin(self.origin.rstrip("/"))
        if addressed and self.mirror.startswith(HUB_PREFIX):
            raise UsageError("--mirror-endpoint and --mirror-public-url are not for hub:ORG/REPO. Leave them out.")

    def open(self) -> "AppMirror | None":
        """The mirror; None if none is named."""
        self.check()
        if self.mirror is None:
            return None
        from model_release.base.http import Web
        from model_release.hosts.mirror import HUB_PREFIX, AppMirror

        place: Mirror
        if self.mirror.startswith(HUB_PREFIX):
            from model_release.hosts.mirror_hub import HubMirror

            place = HubMirror(self.mirror, progress=print_progress)
        else:
            from model_release.hosts.mirror_s3 import S3Mirror

            place = S3Mirror(
                self.mirror,
                endpoint_url=self.mirror_endpoint,
                public_url=self.mirror_public_url,
                progress=print_progress,
            )
        return AppMirror(mirror=place, web=Web(), origin=self.origin.rstrip("/"), progress=print_progress)


mirror_options = options(
    click.option(
        "--mirror",
        metavar="PLACE",
        help="Mirror for browsers: hub:ORG/REPO or s3://BUCKET/PREFIX; the app's URL is then the mirror's.",
    ),
    click.option("--mirror-endpoint", metavar="URL", help="Another S3 than AWS, e.g. of Aliyun OSS or MinIO."),
    click.option("--mirror-public-url", metavar="URL", help="Where the bucket is served, if by a CDN or a domain."),
    click.option(
        "--origin",
        default="https://app.example",
        show_default=True,
        metavar="URL",
        help="Where the web app is served; the mirror must let its pages read.",
    ),
    handed_over("mirror", MirrorOptions),
)
"""Hands over `mirror`, `MirrorOptions`."""
