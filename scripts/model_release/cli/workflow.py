"""The commands of the release workflow: what a run will do, a model's weights, a model's part of the release.

On GitHub Actions they fill step outputs and the job summary. Every option can come from a variable, which is how
a workflow passes its inputs: `--app-precision` from MODEL_RELEASE_APP_PRECISION.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_release.cli.actions import add_outputs, add_summary
from model_release.cli.options import (
    FOLDER,
    build_options,
    build_request,
    print_progress,
    selection_options,
    source_options,
    source_request,
)

if TYPE_CHECKING:
    from model_release.contract.activations import Logits


@click.command()
@click.option("--tag", metavar="TAG", help="The release's tag. [default: the tag that was pushed]")
@click.option("--version", metavar="VERSION", help="In place of --tag: its version, e.g. 1.0.0.")
@click.option(
    "--model",
    "models",
    metavar="LIST",
    help="Names of contract/models.json, Hugging Face ids or demo; the first keeps plain file names. [default: gpt2]",
)
@click.option("--revision", metavar="SHA", help="Commit of the only model's repository. [default: the pinned one]")
@selection_options
@build_options
@click.option("--no-browser", is_flag=True, help="Do not judge the models in a browser before they are published.")
def plan(
    *,
    tag: str | None,
    version: str | None,
    models: str | None,
    revision: str | None,
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    opset: int,
    no_browser: bool,
    **build: Any,  # noqa: ANN401 - passed on to `build_request`
) -> None:
    """Check everything a release run is asked for, and print what it will do; it needs no network."""
    from model_release.browser.report import markdown_table, table
    from model_release.model.pipeline import SelectionRequest
    from model_release.release import workflow

    pushed = os.environ.get("GITHUB_REF_NAME") if os.environ.get("GITHUB_REF_TYPE") == "tag" else None
    release_tag = workflow.resolve_tag(tag, version, pushed)
    selection = SelectionRequest(
        layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset
    )
    jobs = workflow.plan_models(models, revision)
    requests = [build_request(release_tag, job.source, selection, companion=job.companion, **build) for job in jobs]
    header, rows = ["model", "weights", "seen", "precisions"], workflow.describe_run(zip(jobs, requests, strict=True))
    judged = "No browser judges the models." if no_browser else "A browser judges every model before it is published."
    click.echo(f"{release_tag.text}\n\n{table(header, rows)}\n\n{judged}")
    add_summary(f"## {release_tag.text}: the plan\n\n{markdown_table(header, rows)}\n\n{judged}")
    browser = "false" if no_browser else "true"
    add_outputs({"tag": release_tag.text, "matrix": workflow.matrix(jobs), "browser": browser})


@click.command()
@click.option("--tag", required=True, metavar="TAG", help="The release's tag, e.g. model-v1.0.0.")
@source_options
@selection_options
@build_options
@click.option("--companion", is_flag=True, help="Its files stand beside another model's: begin their names with its.")
@click.option("--output", type=FOLDER, required=True, metavar="DIR", help="The folder to make.")
def build(
    *,
    tag: str,
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    opset: int,
    precision: str,
    app_precision: str | None,
    delivery: Any,  # noqa: ANN401 - one of click's choices
    size_threshold: float,
    companion: bool,
    output: Path,
    **source: Any,  # noqa: ANN401 - passed on to `source_request`
) -> None:
    """Make a release folder and publish nothing: export, quantize, verify, size gate, package."""
    from model_release.contract.tag import parse_tag
    from model_release.model.pipeline import SelectionRequest
    from model_release.release.build import STEPS, make_dist, numbered
    from model_release.release.notes import render_card

    selection = SelectionRequest(
        layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset
    )
    request = build_request(
        parse_tag(tag),
        source_request(**source),
        selection,
        precision=precision,
        app_precision=app_precision,
        delivery=delivery,
        size_threshold=size_threshold,
        companion=companion,
    )
    document = make_dist(request, output, numbered(print_progress, STEPS), print_progress)
    add_summary(render_card(document))
    click.echo(f"{output}: {len(document['files'])} files, {request.tag.text}, every model equal to PyTorch")


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
    from model_release.model.pipeline import load_weights

    loaded = load_weights(source_request(model, None, False, revision), print_progress)
    click.echo(f"{loaded.source} at {loaded.revision}: {len(loaded.files)} weight files verified in {loaded.folder}")
