"""The commands that release: the whole chain, publishing a folder, serving one."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.base.errors import UsageError
from model_release.cli.options import PATH, BuildOptions, build_options, print_progress, source_options, text_options
from model_release.cli.places import (
    AppOptions,
    HostOptions,
    MirrorOptions,
    app_options,
    host_options,
    mirror_options,
    tree_options,
)

if TYPE_CHECKING:
    from model_release.app.app import WebApp
    from model_release.model.weights.source import SourceRequest
    from model_release.release.chain import ReleaseResult


@click.group(invoke_without_command=True, subcommand_metavar="[serve DIR]")
@click.option("--tag", metavar="TAG", help="The release's tag, e.g. model-v1.0.0.  [required]")
@source_options
@build_options
@text_options
@click.option(
    "--host",
    default="local:out/releases",
    show_default=True,
    metavar="HOST",
    help="Where the release goes: github, or local:DIR for DIR/<tag>/.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --host github. [default: GITHUB_REPOSITORY]")
@click.option("--base-url", default="", metavar="URL", help="Where the folder of --host local:DIR is served.")
@host_options
@tree_options
@app_options
@mirror_options
@click.option("--no-env", is_flag=True, help="Leave the web app alone.")
@click.option("--replace", is_flag=True, help="Change a release that is published with other content.")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and write nothing.")
def release(
    *,
    tag: str | None,
    source: "SourceRequest",
    build: BuildOptions,
    host: HostOptions,
    app: AppOptions,
    mirror: MirrorOptions,
    replace: bool,
    dry_run: bool,
) -> None:
    """Make a release in one go: export, quantize, verify, size gate, package, publish, env file.

    The env file is the working tree's; with --env-repo it is committed to the web app's repository on GitHub.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        if tag is not None:
            raise UsageError("--tag makes a release and serve shows one, got both. Leave one of them out.")
        return
    if tag is None:
        raise click.MissingParameter(param_hint="'--tag'", param_type="option", ctx=context)
    from model_release.base.text import table
    from model_release.contract.tag import parse_tag
    from model_release.release.chain import ReleaseRequest, describe_release, release_model

    release_tag = parse_tag(tag)
    request = ReleaseRequest(
        build=(build.for_mirror() if mirror.mirror is not None else build).request(release_tag, source),
        app=_web_app(app, host, release_tag.text),
        replace=replace,
        mirror=mirror.open(),
    )
    place, where = host.open_for(release_tag.text)
    if dry_run:
        rows = describe_release(request, place, print_progress)
        click.echo(
            f"{release_tag.text} would go to {where}; "
            f"nothing is written.\n\n{table(['file', 'MB', ''], rows, right=[1])}"
        )
        return
    result = release_model(request, place, print_progress)
    click.echo("\n" + table(["file", "MB", "precision", "checks"], _rows(result), right=[1]))
    click.echo(f"\nrelease:  {where}")
    for line in result.app.lines if result.app is not None else ():
        click.echo(line)


def _web_app(app: AppOptions, host: HostOptions, tag: str) -> "WebApp | None":
    """The app that the release is to change: in a working tree, if it is not said to be in a repository."""
    if app.names_repository:
        if app.no_env:
            raise UsageError("--no-env leaves the web app alone, got --env-repo too. Leave one of them out.")
        return app.in_repository(host, tag)
    return None if app.no_env else app.in_tree()


def _rows(result: "ReleaseResult") -> list[list[str]]:
    """What was released: file, MB, precision and what it was held against."""
    from model_release.base.text import size_cell

    variants = result.document.variants_by_file
    rows = []
    for entry in result.document.files:
        variant, checks = variants.get(entry.name), ""
        if variant is not None and result.figures is not None:
            measured = result.figures.of(variant.file)
            agreement = measured.agreement
            checks = (
                f"{len(measured.clauses)} clauses hold, KL {agreement.mean_kl_nats:.0e}, top-1 {agreement.top1:.1%}"
            )
        rows.append([entry.name, size_cell(entry.size_bytes), variant.precision if variant else "", checks])
    return rows


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
