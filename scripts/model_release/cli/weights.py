"""`weights.py`: a model's weights -> the download cache, and their pins."""

import click

from model_release.base.errors import UsageError
from model_release.cli.actions import add_outputs
from model_release.cli.options import print_progress


@click.command()
@click.option("--model", metavar="ID", help="A key of contract/models.json, or a Hugging Face id. [default: gpt2]")
@click.option("--revision", metavar="SHA", help="Commit of the model's repository. [default: the pinned one]")
@click.option("--list", "listing", is_flag=True, help="Print the models of contract/models.json, and fetch nothing.")
@click.option(
    "--pin",
    metavar="LIST",
    help="Fetch models of contract/models.json, or all that are unpinned, and write commit, size and sha256 into it.",
)
def weights(*, model: str | None, revision: str | None, listing: bool, pin: str | None) -> None:
    """Bring a model's weights into the download cache, every file verified."""
    if pin is not None and (listing or model is not None):
        raise UsageError("--pin names the models itself, got --model or --list too. Leave one of them out.")
    if listing:
        from model_release.release import workflow

        jobs = workflow.registered_models()
        click.echo("\n".join(job.describe() for job in jobs))
        add_outputs({"matrix": workflow.matrix(job for job in jobs if job.cache_key)})
        return
    if pin is not None:
        from model_release.model.weights.pin import pin_models

        changed = pin_models(pin, revision=revision, progress=print_progress)
        click.echo(f"contract/models.json {'is changed: commit it' if changed else 'says so already'}")
        return
    from model_release.model.weights.source import SourceRequest, load_weights

    loaded = load_weights(SourceRequest(model=model, revision=revision), print_progress)
    click.echo(f"{loaded.source} at {loaded.revision}: {len(loaded.files)} weight files verified in {loaded.folder}")
