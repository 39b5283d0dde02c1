"""`publish.py`: a release folder -> a published release."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.cli.actions import add_summary
from model_release.cli.options import DEFAULT_ENV_FILE, PATH, app_options, mirror_options
from model_release.cli.places import app_mirror, app_pointer, named_web_app, publish_host

if TYPE_CHECKING:
    from model_release.app.github import AppResult
    from model_release.app.point import WebApp


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
@click.option("--no-env", is_flag=True, help="Leave the web app alone, whatever the options above say.")
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
    mirror: str | None,
    mirror_endpoint: str | None,
    mirror_public_url: str | None,
    origin: str,
    no_env: bool,
    dry_run: bool,
) -> None:
    """Publish a release folder: every file checked, all of them or none visible. Run it again after any failure.

    With --env-file or --env-repo the web app's repository is then pointed at the release, by a commit or, where
    the branch is protected, by a pull request.

    GITHUB_TOKEN needs the permission contents: write. GITHUB_API_URL names another GitHub than github.com.
    """
    from model_release.base.text import markdown_table, megabytes, table
    from model_release.contract.tag import parse_tag
    from model_release.release import publish

    release_tag = parse_tag(tag)
    place = publish_host(host, repo)
    web_app = pointer = None
    if not no_env and any(o is not None for o in (env_file, static_dir, env_repo, env_branch, deploy_workflow)):
        web_app = named_web_app(
            env_repo or repo, env_branch, deploy_workflow, env_file or DEFAULT_ENV_FILE, static_dir, create_env_file
        )
        pointer = app_pointer(web_app, host, repo, "", release_tag.text)
        pointer.check()
    result = publish.publish(
        dist,
        release_tag,
        place,
        replace=replace,
        latest=latest,
        dry_run=dry_run,
        mirror=app_mirror(mirror, mirror_endpoint, mirror_public_url, origin),
    )
    sizes = {entry.name: megabytes(entry.size_bytes) for entry in result.details.files}
    rows = [[action.kind, action.name, sizes.get(action.name, ""), action.reason] for action in result.actions]
    header = ["action", "file", "MB", "reason"]
    click.echo(table(header, rows, right=[2]))
    done = []
    if result.surplus:
        done.append(f"surplus drafts of {release_tag.text}, to be removed: {result.surplus}")
    if dry_run:
        kind = "a prerelease" if release_tag.prerelease else "a release"
        after = "is public already" if result.published else f"would be made public as {kind}"
        done.append(f"{release_tag.text} {after}; nothing was changed.")
        if web_app is not None:
            done.append(f"then {web_app.repository}, {web_app.env_path}: VITE_MODEL_URL and VITE_MODEL_VERSION set")
    else:
        done.append(f"{release_tag.text} is public: {result.model_url}")
    click.echo("\n" + "\n".join(done))
    if web_app is not None and pointer is not None and not dry_run:
        pointed, url = pointer.point(result.document, dist, result.model_url, mirror_url=result.mirror_url)
        done += _print_app(web_app, pointed, url)
    elif result.mirror_url:
        click.echo(f"VITE_MODEL_URL={result.mirror_url}")
        done.append(f"VITE_MODEL_URL={result.mirror_url}")
    lines = "\n".join(f"- {line}" for line in done)
    add_summary(f"## {release_tag.text}\n\n{lines}\n\n{markdown_table(header, rows, right=[2])}")


def _print_app(app: "WebApp", result: "AppResult", url: str) -> list[str]:
    """Prints what became of the web app's repository, and returns the lines."""
    from model_release.app.point import describe_result

    lines = [*describe_result(app, result), f"VITE_MODEL_URL={url}"]
    click.echo("\n".join(lines))
    return lines
