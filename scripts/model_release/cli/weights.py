"""`weights.py`: a model's weights -> the download cache."""

import click

from model_release.cli.actions import add_outputs
from model_release.cli.options import print_progress


@click.command()
@click.option("--model", metavar="ID", help="A key of contract/models.json, or a Hugging Face id. [default: gpt2]")
@click.option("--revision", metavar="SHA", help="Commit of the model's repository. [default: the pinned one]")
@click.option("--list", "listing", is_flag=True, help="Print the pinned models, and fetch nothing.")
def weights(*, model: str | None, revision: str | None, listing: bool) -> None:
    """Bring a model's weights into the download cache, every file verified."""
    from model_release.release import workflow

    if listing:
        jobs = workflow.pinned_models()
        click.echo("\n".join(job.describe() for job in jobs))
        add_outputs({"matrix": workflow.matrix(jobs)})
        return
    from model_release.model.weights.source import SourceRequest, load_weights

    loaded = load_weights(SourceRequest(model=model, revision=revision), print_progress)
    click.echo(f"{loaded.source} at {loaded.revision}: {len(loaded.files)} weight files verified in {loaded.folder}")
