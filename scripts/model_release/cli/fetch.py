"""`fetch.py`: a release's files -> the app."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.base.errors import UsageError
from model_release.cli.options import print_progress
from model_release.cli.places import github_access, tree_options

if TYPE_CHECKING:
    from model_release.app.fetch import Place
    from model_release.app.files import Layout


@click.command()
@tree_options
@click.option("--tag", metavar="TAG", help="Another release than the one the env file names.")
@click.option("--precision", metavar="NAME", help="Another variant than the one the release chose for the app.")
@click.option(
    "--from",
    "place",
    default="env",
    show_default=True,
    metavar="PLACE",
    help="Where the release is: env (where VITE_MODEL_URL points), github, or local:DIR.",
)
@click.option("--repo", metavar="OWNER/NAME", help="The repository of --from github. [default: GITHUB_REPOSITORY]")
@click.option("--base-url", metavar="URL", help="Where releases are served, each in a folder of its tag's name.")
@click.option(
    "--layout",
    type=click.Choice(["flat", "transformers.js"]),
    default="flat",
    show_default=True,
    help="How the files lie: side by side, or as transformers.js looks for them.",
)
def fetch(
    *,
    env_file: Path,
    static_dir: Path | None,
    tag: str | None,
    precision: str | None,
    place: str,
    repo: str | None,
    base_url: str | None,
    layout: "Layout",
) -> None:
    """Bring the web app its model from a release, verified, to be served from the app's own origin.

    For the app's build, before Vite runs. Needs no login; GITHUB_TOKEN is used where a repository is private.
    """
    from model_release.app.fetch import FetchRequest, fetch_model
    from model_release.contract.tag import parse_tag

    result = fetch_model(
        FetchRequest(
            env_file=env_file,
            static_dir=static_dir or env_file.parent / "static",
            place=_place(place, repo, base_url),
            tag=parse_tag(tag) if tag is not None else None,
            precision=precision,
            layout=layout,
            environment=dict(os.environ),
        ),
        print_progress,
    )
    for warning in result.warnings:
        print_progress(f"warning: {warning}")
    done = {
        "git": "part of the app's tree, verified",
        "present": "there already, verified",
        "fetched": f"{len(result.downloaded)} files downloaded, verified",
    }
    click.echo(f"{result.folder}: {done[result.outcome]}")
    click.echo(f"{result.env_file} ({'written' if result.env_changed else 'unchanged'}): VITE_MODEL_URL={result.url}")


def _place(text: str, repository: str | None, base_url: str | None) -> "Place":
    """The place that `--from`, `--repo` and `--base-url` name, with what the environment knows of GitHub."""
    from model_release.app.fetch import Place

    kind, _, folder = text.partition(":")
    if base_url is not None:
        if text != "env" or repository is not None:
            raise UsageError("--base-url is a place of its own, got --from or --repo too. Give one of them.")
        return Place(kind="url", base_url=base_url)
    if kind == "local" and folder and repository is None:
        return Place(kind="local", folder=Path(folder))
    if text not in ("env", "github") or (text == "env" and repository is not None):
        raise UsageError(
            f"--from must be env, github (with --repo) or local:DIR, got {text[:80]!r}. Use e.g. --from github."
        )
    return Place(
        kind="github" if text == "github" else "env",
        github=github_access(repository),
    )
