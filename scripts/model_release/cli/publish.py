"""`publish.py`: a release folder -> a published release."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.cli.actions import add_summary
from model_release.cli.options import PATH, handed_over
from model_release.cli.places import (
    DEFAULT_ENV_FILE,
    AppOptions,
    HostOptions,
    MirrorOptions,
    app_options,
    github_access,
    host_options,
    mirror_options,
)

if TYPE_CHECKING:
    from model_release.app.app import WebApp
    from model_release.contract.tag import ReleaseTag
    from model_release.release.publish import PublishResult


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """How a folder is published. The fields are named as the options."""

    replace: bool
    latest: bool
    signer_repo: str | None
    notes: bool
    dry_run: bool


@click.command()
@click.option("--dist", type=PATH, required=True, metavar="DIR", help="A folder with a whole release in it.")
@click.option("--tag", required=True, metavar="TAG", help="The tag it was made for, e.g. model-v1.0.0.")
@click.option(
    "--host",
    default="github",
    show_default=True,
    metavar="HOST",
    help="Where it goes: github, or local:DIR for DIR/<tag>/.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --host github. [default: GITHUB_REPOSITORY]")
@host_options
@click.option("--replace", is_flag=True, help="Change a release that is published with other content.")
@click.option("--latest", is_flag=True, help="Make it the repository's latest release.")
@click.option(
    "--env-file",
    type=PATH,
    metavar="PATH",
    help=f"Then point the web app at it: its env file in its repository. [default: {DEFAULT_ENV_FILE}]",
)
@click.option(
    "--static-dir",
    type=PATH,
    metavar="PATH",
    help="What the app serves at its base, in its repository. [default: static beside the env file]",
)
@app_options
@mirror_options
@click.option(
    "--signer-repo",
    metavar="OWNER/NAME",
    help="Whose workflow has attested the files; the notes then say how to check that.",
)
@click.option("--notes", is_flag=True, help="Print the notes, and end; nothing is asked and nothing is published.")
@click.option("--no-env", is_flag=True, help="Leave the web app alone, whatever the options above say.")
@click.option("--dry-run", is_flag=True, help="Print what would happen, and change nothing.")
@handed_over("how", PublishOptions)
def publish(
    *,
    dist: Path,
    tag: str,
    host: HostOptions,
    app: AppOptions,
    mirror: MirrorOptions,
    how: PublishOptions,
) -> None:
    """Publish a release folder: every file checked, all of them or none visible. Run it again after any failure.

    With --env-file or --env-repo the web app's repository is then pointed at the release, by a commit or, where
    the branch is protected, by a pull request.

    GITHUB_TOKEN needs the permission contents: write. GITHUB_API_URL names another GitHub than github.com.
    """
    from model_release.base.text import markdown_table, table
    from model_release.contract.tag import parse_tag
    from model_release.release import publish
    from model_release.release.notes import Attestation

    release_tag = parse_tag(tag)
    own = github_access(host.repo).repository
    attestation = Attestation(repository=own, signer=how.signer_repo) if own and how.signer_repo else None
    if how.notes:
        click.echo(publish.offline_notes(dist, release_tag, attestation))
        return
    place = host.open()
    web_app = None
    if not app.no_env and (app.names_repository or app.env_file is not None or app.static_dir is not None):
        web_app = app.in_repository(host, release_tag.text, default=host.repo)
        web_app.check(publish.model_for_tree(dist) if mirror.mirror is None else "")
    result = publish.publish(
        dist,
        release_tag,
        place,
        replace=how.replace,
        latest=how.latest,
        dry_run=how.dry_run,
        mirror=mirror.open(),
        attestation=attestation,
    )
    header, rows = ["action", "file", "MB", "reason"], _rows(result)
    click.echo(table(header, rows, right=[2]))
    done = _done(result, release_tag, web_app, dry_run=how.dry_run)
    click.echo("\n" + "\n".join(done))
    lines: tuple[str, ...] = ()
    if web_app is not None and not how.dry_run:
        with tempfile.TemporaryDirectory(prefix="model-release-") as scratch:
            lines = web_app.point(publish.hand_over(result, place, Path(scratch))).lines
    elif result.mirror_url:
        lines = (f"VITE_MODEL_URL={result.mirror_url}",)
    for line in lines:
        click.echo(line)
    items = "\n".join(f"- {line}" for line in (*done, *lines))
    add_summary(f"## {release_tag.text}\n\n{items}\n\n{markdown_table(header, rows, right=[2])}")


def _rows(result: "PublishResult") -> list[list[str]]:
    """What was done with each file."""
    from model_release.base.text import size_cell

    sizes = {entry.name: size_cell(entry.size_bytes) for entry in result.details.files}
    return [[action.kind, action.name, sizes.get(action.name, ""), action.reason] for action in result.actions]


def _done(result: "PublishResult", tag: "ReleaseTag", app: "WebApp | None", *, dry_run: bool) -> list[str]:
    """What became of the release, a line each."""
    from model_release.hosts.source import release_page

    done = []
    if result.surplus:
        done.append(f"surplus drafts of {tag.text}, to be removed: {result.surplus}")
    if result.kept is not None:
        done.append(f"{tag.text} holds what was asked for, described by another machine: its own files are used.")
    if not dry_run:
        page = release_page(result.model_url)
        return [*done, f"{tag.text} is public: {result.model_url}", *([f"release page: {page}"] if page else [])]
    kind = "a prerelease" if tag.prerelease else "a release"
    after = "is public already" if result.published else f"would be made public as {kind}"
    done.append(f"{tag.text} {after}; nothing was changed.")
    if app is not None:
        done.append(f"then {app.describe()}: VITE_MODEL_URL and VITE_MODEL_VERSION set")
    return done
