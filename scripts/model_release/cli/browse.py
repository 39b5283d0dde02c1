"""`browse.py`: a release x Chromium."""

from pathlib import Path

import click

from model_release.base.errors import UsageError
from model_release.cli.actions import add_summary
from model_release.cli.options import PATH, print_progress


@click.command()
@click.argument("folder", type=PATH, metavar="DIR")
@click.option("--json", "document", type=PATH, metavar="FILE", help="Write the table's figures here too, as JSON.")
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
    from model_release.contract.manifest import TIMINGS_NAME

    result = run(folder, progress=print_progress)
    text = render_browsing(result)
    click.echo(text)
    add_summary(f"## In a browser\n\n```text\n{text}\n```")
    if document is not None:
        write_bytes(document, browsing_document(result), error=UsageError)
    result.require()
    if recorded:
        record(folder, result)
        click.echo(f"{folder}: backends recorded in the manifest, their figures in {TIMINGS_NAME}")
