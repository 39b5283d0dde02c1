"""The commands of the web app's side: fetch a release, probe a URL, run a release in a browser."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.base.errors import UsageError
from model_release.cli.actions import add_summary
from model_release.cli.options import FOLDER, print_progress, tree_options

if TYPE_CHECKING:
    from model_release.app.fetch import Place


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
def fetch(
    *,
    env_file: Path,
    static_dir: Path | None,
    tag: str | None,
    precision: str | None,
    place: str,
    repo: str | None,
    base_url: str | None,
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
        repository=repository or (os.environ.get("GITHUB_REPOSITORY", "") if text == "github" else ""),
        server_url=os.environ.get("GITHUB_SERVER_URL") or "https://github.com",
        api_url=os.environ.get("GITHUB_API_URL") or "https://api.github.com",
        token=os.environ.get("GITHUB_TOKEN", ""),
    )


@click.command()
@click.argument("url")
@click.option(
    "--origin", default="https://app.example", show_default=True, metavar="URL", help="Where the web app is served."
)
@click.option("--sha256", metavar="HEX", help="What the file must hash to.")
@click.option("--size", type=click.IntRange(min=0), metavar="BYTES", help="What the file must measure.")
def probe(*, url: str, origin: str, sha256: str | None, size: int | None) -> None:
    """Ask for URL as a browser does for a page of another origin, and judge every redirect on the way."""
    from model_release.base.http import Web
    from model_release.hosts import cors_probe

    result = cors_probe.probe(url, Web(), origin=origin.rstrip("/"), sha256=sha256, size_bytes=size)
    click.echo(cors_probe.render(result))
    result.require()


@click.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--json", "document", type=FOLDER, metavar="FILE", help="Write the table's figures here too, as JSON.")
@click.option(
    "--record",
    "recorded",
    is_flag=True,
    help="Write the verdicts into the manifest, and figures for the notes beside it.",
)
def browse(*, folder: Path, document: Path | None, recorded: bool) -> None:
    """Run every model of the release in DIR in headless Chromium, on every backend, and judge all it returns.

    The limits are those of each precision in the contract. Needs Chromium (or CHROMIUM_PATH), Playwright and Node.js.
    """
    from model_release.base.files import write_bytes
    from model_release.browser.gate import browse as run
    from model_release.browser.record import record
    from model_release.browser.report import browsing_document, render_browsing
    from model_release.browser.timings import FIGURES_NAME

    result = run(folder, progress=print_progress)
    text = render_browsing(result)
    click.echo(text)
    add_summary(f"## In a browser\n\n```text\n{text}\n```")
    if document is not None:
        write_bytes(document, browsing_document(result), error=UsageError)
    result.require()
    if recorded:
        record(folder, result)
        click.echo(f"{folder}: backends recorded in the manifest, their figures in {FIGURES_NAME}")
