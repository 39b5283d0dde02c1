"""What the options of releasing name: a host, a mirror, the web app's repository.

Tokens and the addresses of GitHub come from the environment, as GitHub Actions sets it.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from model_release.base.errors import UsageError
from model_release.cli.options import print_progress

if TYPE_CHECKING:
    from model_release.app.point import AppPointer, WebApp
    from model_release.base.github_access import GitHubAccess
    from model_release.hosts.host import Host, Mirror
    from model_release.hosts.local import LocalHost
    from model_release.hosts.mirror import AppMirror


def github_access(repository: str | None = None) -> "GitHubAccess":
    """GitHub, as the environment says; `repository` in place of the one it names."""
    from model_release.base.github_access import GitHubAccess

    return GitHubAccess.from_environment(os.environ, repository=repository)


def _local_host(text: str, base_url: str) -> tuple["LocalHost", Path]:
    """The host that `--host` names."""
    from model_release.hosts.local import LocalHost

    kind, _, folder = text.partition(":")
    if kind != "local" or not folder:
        raise UsageError(f"--host must be local:DIR or github, got {text[:80]!r}. Use e.g. local:out/releases.")
    if base_url and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w.~%/-]*)?", base_url, re.ASCII):
        raise UsageError(f"--base-url must be http(s)://HOST/PATH, got {base_url[:80]!r}. Correct it.")
    root = Path(folder)
    place = LocalHost(root, base_url=base_url)
    place.check()
    return place, root


def release_host(text: str, repository: str | None, base_url: str, tag: str) -> tuple["Host", str]:
    """The host that `release` is to use, and where the release is found there."""
    if text == "github" and not base_url:
        host = publish_host(text, repository)
        return host, f"{tag} of {github_access(repository).repository} on GitHub"
    if repository is not None:
        raise UsageError("--repo is for --host github, which needs no --base-url. Leave one of them out.")
    place, folder = _local_host(text, base_url)
    return place, str(folder / tag)


def publish_host(text: str, repository: str | None) -> "Host":
    """The host that `publish` is to use."""
    kind, _, folder = text.partition(":")
    if kind == "local" and folder and repository is None:
        return _local_host(text, "")[0]
    access = github_access(repository)
    if text != "github" or not access.repository:
        raise UsageError(
            f"--host must be github with --repo or GITHUB_REPOSITORY, or local:DIR without, got {text[:80]!a}. "
            "Use e.g. --host github --repo octocat/app."
        )
    from model_release.base import github_client
    from model_release.hosts import github

    return github.GitHubHost(github_client.connect(access), access.repository, progress=print_progress)


def named_web_app(
    repository: str | None,
    branch: str | None,
    deploy_workflow: str | None,
    env_file: Path,
    static_dir: Path | None,
    create_env_file: bool,
) -> "WebApp":
    """The web app's repository on GitHub; this one if no other is named."""
    from model_release.app.point import WebApp

    repository = repository or github_access().repository
    if not repository:
        raise UsageError("--env-repo must be the web app's OWNER/NAME, as GITHUB_REPOSITORY is not set. Give it.")
    return WebApp(
        repository=repository,
        branch=branch,
        env_path=env_file.as_posix(),
        static_path=(static_dir or env_file.parent / "static").as_posix(),
        deploy_workflow=deploy_workflow,
        create_env_file=create_env_file,
    )


def app_pointer(app: "WebApp", host: str, repository: str | None, base_url: str, tag: str) -> "AppPointer":
    """Points the web app at a release, once that is public and answers."""
    from model_release.app.point import AppPointer
    from model_release.base import github_client
    from model_release.base.http import Web
    from model_release.hosts.host import Source
    from model_release.hosts.source import GitHubRelease, WebFolder

    access = github_access(repository)
    client = github_client.connect(access)
    source: Source | None = None
    if host == "github":
        source = GitHubRelease(access, tag, Web())
    elif base_url:
        source = WebFolder(f"{base_url.rstrip('/')}/{tag}", Web())
    return AppPointer(api=client, app=app, source=source, progress=print_progress)


def app_mirror(target: str | None, endpoint_url: str | None, public_url: str | None, origin: str) -> "AppMirror | None":
    """The mirror that `--mirror` names; None if it names none."""
    if target is None:
        if endpoint_url is not None or public_url is not None:
            raise UsageError("--mirror-endpoint and --mirror-public-url are for --mirror s3://BUCKET/PREFIX. Give it.")
        return None
    from model_release.base.http import Web
    from model_release.hosts.mirror import AppMirror

    place: Mirror
    if target.startswith("hub:"):
        if endpoint_url is not None or public_url is not None:
            raise UsageError("--mirror-endpoint and --mirror-public-url are not for hub:ORG/REPO. Leave them out.")
        from model_release.hosts.mirror_hub import HubMirror

        place = HubMirror(target, progress=print_progress)
    else:
        from model_release.hosts.mirror_s3 import S3Mirror

        place = S3Mirror(target, endpoint_url=endpoint_url, public_url=public_url)
    return AppMirror(mirror=place, web=Web(), origin=origin.rstrip("/"), progress=print_progress)
