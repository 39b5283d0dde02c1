"""`build.py`: a release folder, and nothing published."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_release.cli.actions import add_summary
from model_release.cli.options import (
    PATH,
    build_options,
    build_request,
    print_progress,
    selection_options,
    source_options,
    source_request,
)

if TYPE_CHECKING:
    from model_release.contract.selection import Logits


@click.command()
@click.option("--tag", required=True, metavar="TAG", help="The release's tag, e.g. model-v1.0.0.")
@source_options
@selection_options
@build_options
@click.option("--companion", is_flag=True, help="Its files stand beside another model's: begin their names with its.")
@click.option("--output", type=PATH, required=True, metavar="DIR", help="The folder to make.")
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
    from model_release.base.progress import numbered
    from model_release.contract.request import SelectionRequest
    from model_release.contract.tag import parse_tag
    from model_release.release.build import STEPS, make_dist
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
    click.echo(f"{output}: {len(document.files)} files, {request.tag.text}, every model equal to PyTorch")
