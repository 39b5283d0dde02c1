"""The commands that release: the whole chain, publishing a folder, serving one."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_release.base.errors import UsageError
from model_release.cli.options import (
    PATH,
    app_options,
    build_options,
    build_request,
    mirror_options,
    print_progress,
    selection_options,
    source_options,
    source_request,
    tree_options,
)
from model_release.cli.places import app_mirror, app_pointer, named_web_app, release_host
from model_release.cli.publish import _print_app

if TYPE_CHECKING:
    from model_release.contract.selection import Logits
    from model_release.release.request import Delivery


@click.group(invoke_without_command=True, subcommand_metavar="[serve DIR]")
@click.option("--tag", metavar="TAG", help="The release's tag, e.g. model-v1.0.0.  [required]")
@source_options
@selection_options
@build_options
@click.option(
    "--host",
    default="local:out/releases",
    show_default=True,
    metavar="HOST",
    help="Where the release goes: github, or local:DIR for DIR/<tag>/.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --host github. [default: GITHUB_REPOSITORY]")
@click.option("--base-url", default="", metavar="URL", help="Where the folder of --host local:DIR is served.")
@tree_options
@app_options
@mirror_options
@click.option("--no-env", is_flag=True, help="Leave the web app alone.")
@click.option("--replace", is_flag=True, help="Change a release that is published with other content.")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and write nothing.")
@click.pass_context
def release(
    context: click.Context,
    /,
    *,
    tag: str | None,
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
    mirror: str | None,
    mirror_endpoint: str | None,
    mirror_public_url: str | None,
    origin: str,
    no_env: bool,
    replace: bool,
    dry_run: bool,
    **source: Any,  # noqa: ANN401 - passed on to `source_request`
) -> None:
    """Make a release in one go: export, quantize, verify, size gate, package, publish, env file.

    The env file is the working tree's; with --env-repo it is committed to the web app's repository on GitHub.
    """
    if context.invoked_subcommand is not None:
        if tag is not None:
            raise UsageError("--tag makes a release and serve shows one, got both. Leave one of them out.")
        return
    if tag is None:
        raise click.MissingParameter(param_hint="'--tag'", param_type="option", ctx=context)
    from model_release.app.tree import AppRequest
    from model_release.base.text import megabytes, table
    from model_release.contract.request import SelectionRequest
    from model_release.contract.tag import parse_tag
    from model_release.release.chain import ReleaseRequest, describe_release, release_model

    app = AppRequest(
        env_file=env_file, static_dir=static_dir or env_file.parent / "static", create_env_file=create_env_file
    )
    release_tag = parse_tag(tag)
    web_app = None
    if env_repo is not None or env_branch is not None or deploy_workflow is not None:
        web_app = named_web_app(env_repo, env_branch, deploy_workflow, env_file, static_dir, create_env_file)
        if no_env:
            raise UsageError("--no-env leaves the web app alone, got --env-repo too. Leave one of them out.")
    build = build_request(
        release_tag,
        source_request(**source),
        SelectionRequest(layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset),
        precision=precision,
        app_precision=app_precision,
        delivery="release" if mirror is not None and delivery == "auto" else delivery,
        size_threshold=size_threshold,
    )
    request = ReleaseRequest(
        build=build,
        app=None if no_env or web_app else app,
        replace=replace,
        mirror=app_mirror(mirror, mirror_endpoint, mirror_public_url, origin),
        point=app_pointer(web_app, host, repo, base_url, release_tag.text) if web_app else None,
    )
    place, where = release_host(host, repo, base_url, release_tag.text)
    if dry_run:
        rows = describe_release(request, place, print_progress)
        click.echo(
            f"{release_tag.text} would go to {where}; "
            f"nothing is written.\n\n{table(['file', 'MB', ''], rows, right=[1])}"
        )
        return
    result = release_model(request, place, print_progress)
    variants = result.document.variants_by_file
    rows = []
    for entry in result.document.files:
        variant = variants.get(entry.name)
        checks = (
            f"{len(variant.clauses)} clauses hold, KL {variant.agreement.mean_kl_nats:.0e}, "
            f"top-1 {variant.agreement.top1:.1%}"
            if variant
            else ""
        )
        rows.append([entry.name, megabytes(entry.size_bytes), variant.precision if variant else "", checks])
    click.echo("\n" + table(["file", "MB", "precision", "checks"], rows, right=[1]))
    click.echo(f"\nrelease:  {where}")
    if web_app is not None and result.pointed is not None:
        _print_app(web_app, result.pointed, result.model_url)
    if request.app is not None:
        click.echo(
            f"env file: {env_file} ({'written' if result.env_changed else 'unchanged'}): "
            f"VITE_MODEL_URL={result.model_url}"
        )


@release.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Where to listen.")
def serve(*, folder: Path, port: int) -> None:
    """Serve the release in DIR with a page that runs it: try.html. Ctrl-C ends it.

    The page loads the released files with onnxruntime-web, which npm installs once.
    """
    from threading import Event

    from model_release.browser.pages.live import serve_release

    with serve_release(folder, port=port, progress=print_progress) as url, suppress(KeyboardInterrupt):
        click.echo(url)
        Event().wait()
