"""`doctor.py`: would a release succeed? What can be known before anything is built."""

import click

from model_release.cli.actions import (
    add_outputs,
    add_summary,
    annotate,
    in_workflow,
    started_branch,
    started_by_hand,
)
from model_release.cli.options import PATH, BuildOptions, ModelsOptions, build_options, models_options
from model_release.cli.places import (
    DEFAULT_ENV_FILE,
    AppOptions,
    HostOptions,
    MirrorOptions,
    app_options,
    github_access,
    mirror_options,
)


@click.command()
@click.option("--tag", metavar="TAG", help="The release that is to be made, e.g. model-v1.0.0.")
@models_options
@build_options
@click.option("--repo", metavar="OWNER/NAME", help="The release's repository. [default: GITHUB_REPOSITORY]")
@click.option("--replace", is_flag=True, help="A release that is public with other content is to be changed.")
@click.option("--env-file", type=PATH, metavar="PATH", help=f"The web app's env file. [default: {DEFAULT_ENV_FILE}]")
@click.option(
    "--static-dir",
    type=PATH,
    metavar="PATH",
    help="What the app serves at its base, in its repository. [default: static beside the env file]",
)
@app_options
@mirror_options
@click.option("--no-env", is_flag=True, help="The web app is left alone.")
def doctor(
    *,
    tag: str | None,
    asked: ModelsOptions,
    build: BuildOptions,
    repo: str | None,
    replace: bool,
    app: AppOptions,
    mirror: MirrorOptions,
) -> None:
    """Look at a repository on GitHub before its first release: one line a finding, good, warning or refused.

    Options are those of plan.py and publish.py. Nothing is built or written. It ends with the exit code of the failure
    that a release would have met. GITHUB_TOKEN may be one that only reads; with administration: read more can be seen.
    """
    from model_release.base import github_client
    from model_release.base.errors import UsageError
    from model_release.base.text import markdown_table
    from model_release.contract.tag import parse_tag
    from model_release.hosts.github_settings import RepositorySettings
    from model_release.release import kept, preflight

    release_tag = None if tag is None else parse_tag(tag)
    mirror.check()
    if mirror.mirror is not None:
        build = build.for_mirror()
    any_tag = release_tag or parse_tag("model-v0.0.0")
    jobs = asked.jobs()
    requests = [build.request(any_tag, job.source, companion=job.companion) for job in jobs]
    access = github_access(repo)
    if not access.repository:
        raise UsageError("--repo must be OWNER/NAME, as GITHUB_REPOSITORY is not set. Give it.")
    client = github_client.connect(access)
    place = None if app.no_env else app.place(access.repository)
    host = HostOptions(host="github", repo=repo)
    plan = preflight.ReleasePlan(
        tag=release_tag,
        commit=access.commit,
        models=tuple(zip(jobs, requests, strict=True)),
        by_mirror=mirror.mirror is not None,
        replace=replace,
        place=place,
        app=None if app.no_env else app.in_repository(host, any_tag.text, default=access.repository),
        branch=started_branch(),
        in_workflow=in_workflow(),
        by_hand=started_by_hand(),
    )
    settings = RepositorySettings(client, access.repository)
    of_app = settings if place is None else RepositorySettings(client, place.repository)
    findings = []
    for finding in preflight.examine(plan, settings, of_app):
        findings.append(finding)
        click.echo(f"{finding.level:8}  {finding.about}: {finding.text}")
        if finding.level == "warning":
            annotate("warning", finding.about, finding.text)
    rows = [[finding.level, finding.about, finding.text] for finding in findings]
    add_summary(f"## {access.repository}: ready for a release?\n\n{markdown_table(['', 'about', 'found'], rows)}")
    preflight.require(findings)
    if release_tag is None or place is None or replace:
        return
    if kept.is_asked_for(host.open(), release_tag, plan.models):
        click.echo(f"{release_tag.text} is public and is what is asked for: nothing has to be built")
        add_outputs({"public": "true"})
