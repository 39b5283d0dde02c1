"""`point.py`: a public release -> the web app that uses it; nothing is built."""

import tempfile
from pathlib import Path

import click

from model_release.cli.actions import add_summary
from model_release.cli.options import PATH
from model_release.cli.places import (
    DEFAULT_ENV_FILE,
    AppOptions,
    HostOptions,
    MirrorOptions,
    app_options,
    host_options,
    mirror_options,
)


@click.command()
@click.option("--tag", required=True, metavar="TAG", help="The release, e.g. model-v1.0.0; an older one rolls back.")
@click.option(
    "--host",
    default="github",
    show_default=True,
    metavar="HOST",
    help="Where it is: github, or local:DIR for DIR/<tag>/.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --host github. [default: GITHUB_REPOSITORY]")
@click.option("--base-url", default="", metavar="URL", help="Where the releases of local:DIR are served.")
@host_options
@click.option(
    "--env-file",
    type=PATH,
    metavar="PATH",
    help=f"The web app's env file. [default: {DEFAULT_ENV_FILE}]",
)
@click.option(
    "--static-dir",
    type=PATH,
    metavar="PATH",
    help="What the app serves at its base. [default: static beside the env file]",
)
@app_options
@mirror_options
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
def point(*, tag: str, host: HostOptions, app: AppOptions, mirror: MirrorOptions, dry_run: bool) -> None:
    """Point the web app at a release that is public, whatever it uses now: recovery, and the way back.

    With --host github, or with --env-repo, the app is in a repository on GitHub: by default this one. The release's own
    files are read back and checked against its SHA256SUMS, and uploaded to --mirror if one is named and lacks them.
    GITHUB_TOKEN needs the permission contents: write.
    """
    from model_release.contract.tag import parse_tag
    from model_release.release.kept import hand_over, mirror_released, read_public

    release_tag = parse_tag(tag)
    mirror.check()
    mirroring = None if dry_run else mirror.open()
    place = host.open()
    in_repository = host.on_github or app.names_repository
    web_app = app.in_repository(host, release_tag.text, default=host.repo) if in_repository else app.in_tree()
    web_app.check()
    public = read_public(place, release_tag)
    lines: tuple[str, ...]
    if dry_run:
        delivery = public.document.delivery
        lines = (
            f"{release_tag.text} is whole: {delivery.file}, delivered by {delivery.mode}",
            f"then {web_app.describe()}: VITE_MODEL_URL and VITE_MODEL_VERSION set; nothing was changed.",
        )
    else:
        with tempfile.TemporaryDirectory(prefix="model-release-") as scratch:
            url = "" if mirroring is None else place.with_retries(lambda: mirror_released(place, public, mirroring))
            lines = web_app.point(hand_over(place, public, Path(scratch), mirror_url=url)).lines
    click.echo("\n".join(lines))
    add_summary(f"## The web app uses {release_tag.text}\n\n" + "\n".join(f"- {line}" for line in lines))
