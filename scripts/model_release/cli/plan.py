"""`plan.py`: what a run of the release workflow is asked for -> its jobs.

On GitHub Actions it fills step outputs and the job summary. Every option can come from a variable, which is how a
workflow passes its inputs: `--app-precision` from MODEL_RELEASE_APP_PRECISION.
"""

import click

from model_release.cli.actions import add_outputs, add_summary, pushed_tag, started_by_hand
from model_release.cli.options import TOOL_VERSION, BuildOptions, ModelsOptions, build_options, models_options
from model_release.cli.places import MirrorOptions, mirror_options

_ALONE = "\0"  # `--version` without a value; no argument and no variable can hold this.


def _tool_version(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """`--version` alone asks for the tool's version, as it does everywhere; with a value it is the release's."""
    if value == _ALONE and not context.resilient_parsing:
        click.echo(TOOL_VERSION)
        context.exit()
    return value


@click.command()
@click.option("--tag", metavar="TAG", help="The release's tag. [default: the tag that was pushed]")
@click.option(
    "--version",
    metavar="[VERSION]",
    is_flag=False,
    flag_value=_ALONE,
    callback=_tool_version,
    is_eager=True,
    help="In place of --tag: its version, e.g. 1.0.0. Without one: print the tool's version and exit.",
)
@models_options
@build_options
@mirror_options
@click.option("--no-browser", is_flag=True, help="Do not judge the models in a browser before they are published.")
@click.option("--point-to", metavar="TAG", help="Build nothing; the web app is to use this public release.")
def plan(
    *,
    tag: str | None,
    version: str | None,
    asked: ModelsOptions,
    build: BuildOptions,
    mirror: MirrorOptions,
    no_browser: bool,
    point_to: str | None,
) -> None:
    """Check everything a release run is asked for, and print what it will do; it needs no network."""
    from model_release.base.text import markdown_table, table
    from model_release.release import workflow

    mirror.check()
    if point_to is not None:
        release_tag = workflow.resolve_point(point_to, tag, version)
        click.echo(f"{release_tag.text}: the web app is pointed at it; nothing is built.")
        add_summary(f"## The web app is to use {release_tag.text}\n\nNothing is built.")
        add_outputs({"tag": release_tag.text, "matrix": workflow.matrix(()), "browser": "false", "delivery": ""})
        return
    if mirror.mirror is not None:
        build = build.for_mirror()
    release_tag = workflow.resolve_tag(tag, version, pushed_tag())
    jobs = asked.jobs()
    workflow.require_pins(jobs, by_hand=started_by_hand())
    requests = [build.request(release_tag, job.source, companion=job.companion) for job in jobs]
    workflow.check_layers(zip(jobs, requests, strict=True))
    header, rows = ["model", "weights", "seen", "precisions"], workflow.describe_run(zip(jobs, requests, strict=True))
    judged = "No browser judges the models." if no_browser else "A browser judges every model before it is published."
    click.echo(f"{release_tag.text}\n\n{table(header, rows)}\n\n{judged}")
    add_summary(f"## {release_tag.text}: the plan\n\n{markdown_table(header, rows)}\n\n{judged}")
    browser = "false" if no_browser else "true"
    add_outputs(
        {
            "tag": release_tag.text,
            "matrix": workflow.matrix(jobs),
            "browser": browser,
            "delivery": build.delivery,
        }
    )
