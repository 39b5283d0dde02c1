"""The commands that release: the whole chain, publishing a folder, mirroring it."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_release.cli.options import (
    DEFAULT_ENV_FILE,
    FOLDER,
    app_options,
    print_progress,
    selection_options,
    source_options,
    source_request,
)
from model_release.errors import UsageError

if TYPE_CHECKING:
    from model_release.building import Delivery
    from model_release.contract import Logits
    from model_release.hosts import Host
    from model_release.hosts.github_app import AppResult
    from model_release.hosts.local import LocalHost
    from model_release.pointing import AppPointer, WebApp


@click.command()
@click.option("--tag", required=True, metavar="TAG", help="The release's tag, e.g. model-v1.0.0.")
@source_options
@selection_options
@click.option(
    "--precision",
    default="fp16,int8-dynamic",
    show_default=True,
    metavar="NAMES",
    help="Precisions to release besides fp32.",
)
@click.option(
    "--app-precision", metavar="NAME", help="The precision the web app gets. [default: the first of --precision]"
)
@click.option(
    "--host",
    default="local:out/releases",
    show_default=True,
    metavar="HOST",
    help="Where the release goes: github, or local:DIR for DIR/<tag>/.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --host github. [default: GITHUB_REPOSITORY]")
@click.option("--base-url", default="", metavar="URL", help="Where the folder of --host local:DIR is served.")
@click.option(
    "--delivery",
    type=click.Choice(["auto", "git", "release"]),
    default="auto",
    show_default=True,
    help="How the app gets its model; auto decides by size.",
)
@click.option(
    "--size-threshold",
    type=float,
    default=50,
    show_default=True,
    metavar="MB",
    help="Largest model for the app's tree, in MB (10^6 bytes).",
)
@click.option("--env-file", type=FOLDER, default=DEFAULT_ENV_FILE, show_default=True, help="The web app's env file.")
@click.option(
    "--static-dir",
    type=FOLDER,
    metavar="DIR",
    help="What the app serves at its base. [default: static beside the env file]",
)
@app_options
@click.option("--no-env", is_flag=True, help="Leave the web app alone.")
@click.option("--replace", is_flag=True, help="Change a release that is published with other content.")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and write nothing.")
def release(
    *,
    tag: str,
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    opset: int,
    precision: str,
    app_precision: str | None,
    host: str,
    repo: str | None,
    base_url: str,
    delivery: "Delivery",
    size_threshold: float,
    env_file: Path,
    static_dir: Path | None,
    env_repo: str | None,
    env_branch: str | None,
    deploy_workflow: str | None,
    create_env_file: bool,
    no_env: bool,
    replace: bool,
    dry_run: bool,
    **source: Any,  # noqa: ANN401 - passed on to `_source`
) -> None:
    """Make a release in one go: export, quantize, verify, size gate, package, publish, env file.

    The env file is the working tree's; with --env-repo it is committed to the web app's repository on GitHub.
    """
    from model_release.apptree import AppRequest
    from model_release.building import BuildRequest
    from model_release.chain import ReleaseRequest, describe_release, release_model
    from model_release.contract import parse_precisions
    from model_release.report import megabytes, table
    from model_release.steps import SelectionRequest
    from model_release.tags import parse_tag

    precisions = parse_precisions(precision)
    app = AppRequest(
        env_file=env_file, static_dir=static_dir or env_file.parent / "static", create_env_file=create_env_file
    )
    release_tag = parse_tag(tag)
    web_app = None
    if env_repo is not None or env_branch is not None or deploy_workflow is not None:
        web_app = _web_app(env_repo, env_branch, deploy_workflow, env_file, static_dir, create_env_file)
        if no_env:
            raise UsageError("--no-env leaves the web app alone, got --env-repo too. Leave one of them out.")
    build = BuildRequest(
        tag=release_tag,
        source=source_request(**source),
        selection=SelectionRequest(
            layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset
        ),
        precisions=precisions,
        app_precision=precisions[0] if app_precision is None else app_precision,
        delivery=delivery,
        threshold_bytes=_bytes(size_threshold),
    )
    request = ReleaseRequest(
        build=build,
        app=None if no_env or web_app else app,
        replace=replace,
        point=_pointer(web_app, host, repo, base_url, release_tag.text) if web_app else None,
    )
    place, where = _release_host(host, repo, base_url, release_tag.text)
    if dry_run:
        rows = describe_release(request, place, print_progress)
        click.echo(
            f"{release_tag.text} would go to {where}; "
            f"nothing is written.\n\n{table(['file', 'MB', ''], rows, right=[1])}"
        )
        return
    result = release_model(request, place, print_progress)
    variants = {variant["file"]: variant for variant in result.document["variants"]}
    rows = []
    for entry in result.document["files"]:
        variant = variants.get(entry["name"])
        checks = (
            f"{len(variant['clauses'])} clauses hold, KL {variant['agreement']['mean_kl_nats']:.0e}, "
            f"top-1 {variant['agreement']['top1']:.1%}"
            if variant
            else ""
        )
        rows.append([entry["name"], megabytes(entry["size_bytes"]), variant["precision"] if variant else "", checks])
    click.echo("\n" + table(["file", "MB", "precision", "checks"], rows, right=[1]))
    click.echo(f"\nrelease:  {where}")
    if web_app is not None and result.pointed is not None:
        _print_app(web_app, result.pointed, result.model_url)
    if request.app is not None:
        click.echo(
            f"env file: {env_file} ({'written' if result.env_changed else 'unchanged'}): "
            f"VITE_MODEL_URL={result.model_url}"
        )


@click.command()
@click.option("--dist", type=FOLDER, required=True, metavar="DIR", help="A folder with a whole release in it.")
@click.option("--tag", required=True, metavar="TAG", help="The tag it was made for, e.g. model-v1.0.0.")
@click.option(
    "--host",
    default="github",
    show_default=True,
    metavar="HOST",
    help="Where it goes: github, or local:DIR for DIR/<tag>/.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --host github. [default: GITHUB_REPOSITORY]")
@click.option("--replace", is_flag=True, help="Change a release that is published with other content.")
@click.option("--latest", is_flag=True, help="Make it the repository's latest release.")
@click.option(
    "--env-file",
    type=FOLDER,
    metavar="PATH",
    help=f"Then point the web app at it: its env file in its repository. [default: {DEFAULT_ENV_FILE}]",
)
@click.option(
    "--static-dir",
    type=FOLDER,
    metavar="PATH",
    help="What the app serves at its base, in its repository. [default: static beside the env file]",
)
@app_options
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
def publish(
    *,
    dist: Path,
    tag: str,
    host: str,
    repo: str | None,
    replace: bool,
    latest: bool,
    env_file: Path | None,
    static_dir: Path | None,
    env_repo: str | None,
    env_branch: str | None,
    deploy_workflow: str | None,
    create_env_file: bool,
    dry_run: bool,
) -> None:
    """Publish a release folder: every file checked, all of them or none visible. Run it again after any failure.

    With --env-file or --env-repo the web app's repository is then pointed at the release, by a commit or, where
    the branch is protected, by a pull request.

    GITHUB_TOKEN needs the permission contents: write. GITHUB_API_URL names another GitHub than github.com.
    """
    from model_release import publishing
    from model_release.report import megabytes, table
    from model_release.tags import parse_tag

    release_tag = parse_tag(tag)
    place = _publish_host(host, repo)
    web_app = pointer = None
    if any(option is not None for option in (env_file, static_dir, env_repo, env_branch, deploy_workflow)):
        web_app = _web_app(
            env_repo or repo, env_branch, deploy_workflow, env_file or DEFAULT_ENV_FILE, static_dir, create_env_file
        )
        pointer = _pointer(web_app, host, repo, "", release_tag.text)
        pointer.check()
    result = publishing.publish(dist, release_tag, place, replace=replace, latest=latest, dry_run=dry_run)
    sizes = {entry.name: megabytes(entry.size_bytes) for entry in result.details.files}
    rows = [[action.kind, action.name, sizes.get(action.name, ""), action.reason] for action in result.actions]
    click.echo(table(["action", "file", "MB", "reason"], rows, right=[2]))
    if result.surplus:
        click.echo(f"\nsurplus drafts of {release_tag.text}, to be removed: {result.surplus}")
    if dry_run:
        kind = "a prerelease" if release_tag.prerelease else "a release"
        after = "is public already" if result.published else f"would be made public as {kind}"
        click.echo(f"\n{release_tag.text} {after}; nothing was changed.")
        if web_app is not None:
            click.echo(f"then {web_app.repository}, {web_app.env_path}: VITE_MODEL_URL and VITE_MODEL_VERSION set")
    else:
        click.echo(f"\n{release_tag.text} is public: {result.model_url}")
        if web_app is not None and pointer is not None:
            _print_app(web_app, *pointer.point(result.document, dist, result.model_url))


@click.command()
@click.option("--dist", type=FOLDER, required=True, metavar="DIR", help="A folder with a whole release in it.")
@click.option("--tag", required=True, metavar="TAG", help="The tag it was made for, e.g. model-v1.0.0.")
@click.option("--to", required=True, metavar="s3://BUCKET/PREFIX", help="Any S3-compatible store; needs boto3.")
@click.option("--endpoint-url", metavar="URL", help="Another store than AWS, e.g. of Aliyun OSS or MinIO.")
@click.option("--public-url", metavar="URL", help="Where the bucket is served, if by a CDN or a domain of its own.")
@click.option(
    "--origin", default="https://app.example", show_default=True, metavar="URL", help="Where the web app is served."
)
def mirror(*, dist: Path, tag: str, to: str, endpoint_url: str | None, public_url: str | None, origin: str) -> None:
    """Put a release on a mirror that browsers can read from, and print the URL for VITE_MODEL_URL.

    Credentials are boto3's: AWS_ACCESS_KEY_ID and so on. Only what is missing is uploaded.
    """
    from model_release.hosts.s3 import S3Mirror
    from model_release.mirroring import mirror_release
    from model_release.tags import parse_tag
    from model_release.web import Web

    release_tag = parse_tag(tag)
    place = S3Mirror(to, endpoint_url=endpoint_url, public_url=public_url)
    result = mirror_release(dist, release_tag, place, Web(), origin=origin.rstrip("/"))
    click.echo(f"{len(result.uploaded)} files uploaded; a page of {origin} can read the model")
    click.echo(f"VITE_MODEL_URL={result.model_url}")


def _bytes(megabytes: float) -> int:
    """MB as whole bytes; refuses what is no size."""
    if not 0 <= megabytes <= 1e9:
        raise UsageError(f"--size-threshold must be a size in MB, got {megabytes:g}. The default is 50.")
    return round(megabytes * 1e6)


def _host(text: str, base_url: str) -> tuple["LocalHost", Path]:
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


def _release_host(text: str, repository: str | None, base_url: str, tag: str) -> tuple["Host", str]:
    """The host that `release` is to use, and where the release is found there."""
    if text == "github" and not base_url:
        host = _publish_host(text, repository)
        return host, f"{tag} of {repository or os.environ.get('GITHUB_REPOSITORY', '')} on GitHub"
    if repository is not None:
        raise UsageError("--repo is for --host github, which needs no --base-url. Leave one of them out.")
    place, folder = _host(text, base_url)
    return place, str(folder / tag)


def _publish_host(text: str, repository: str | None) -> "Host":
    """The host that `publish` is to use."""
    kind, _, folder = text.partition(":")
    if kind == "local" and folder and repository is None:
        return _host(text, "")[0]
    repository = repository or os.environ.get("GITHUB_REPOSITORY", "")
    if text != "github" or not repository:
        raise UsageError(
            f"--host must be github with --repo or GITHUB_REPOSITORY, or local:DIR without, got {text[:80]!a}. "
            "Use e.g. --host github --repo octocat/app."
        )
    from model_release.hosts import github, github_api

    api_url = os.environ.get("GITHUB_API_URL") or github_api.DEFAULT_API
    client = github_api.connect(os.environ.get("GITHUB_TOKEN", ""), api_url)
    return github.GitHubHost(client, repository, progress=print_progress)


def _web_app(
    repository: str | None,
    branch: str | None,
    deploy_workflow: str | None,
    env_file: Path,
    static_dir: Path | None,
    create_env_file: bool,
) -> "WebApp":
    """The web app's repository on GitHub; this one if no other is named."""
    from model_release.pointing import WebApp

    repository = repository or os.environ.get("GITHUB_REPOSITORY", "")
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


def _pointer(app: "WebApp", host: str, repository: str | None, base_url: str, tag: str) -> "AppPointer":
    """Points the web app at a release, once that is public and answers."""
    from model_release.hosts import github_api
    from model_release.pointing import AppPointer
    from model_release.sources import GitHubRelease, Source, WebFolder
    from model_release.web import Web

    api_url = os.environ.get("GITHUB_API_URL") or github_api.DEFAULT_API
    token = os.environ.get("GITHUB_TOKEN", "")
    client = github_api.connect(token, api_url)
    source: Source | None = None
    if host == "github":
        source = GitHubRelease(
            repository or os.environ.get("GITHUB_REPOSITORY", ""),
            tag,
            Web(),
            server_url=os.environ.get("GITHUB_SERVER_URL") or "https://github.com",
            api_url=api_url,
            token=token.strip(),
        )
    elif base_url:
        source = WebFolder(f"{base_url.rstrip('/')}/{tag}", Web())
    return AppPointer(api=client, app=app, source=source, progress=print_progress)


def _print_app(app: "WebApp", result: "AppResult", url: str) -> None:
    """What became of the web app's repository."""
    from model_release.pointing import describe_result

    for line in (*describe_result(app, result), f"VITE_MODEL_URL={url}"):
        click.echo(line)
