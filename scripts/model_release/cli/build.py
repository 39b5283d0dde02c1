"""`build.py`: a release folder, and nothing published."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.cli.actions import add_summary
from model_release.cli.options import PATH, BuildOptions, build_options, print_progress, source_options, text_options

if TYPE_CHECKING:
    from model_release.model.weights.source import SourceRequest


@click.command()
@click.option("--tag", required=True, metavar="TAG", help="The release's tag, e.g. model-v1.0.0.")
@source_options
@build_options
@text_options
@click.option("--companion", is_flag=True, help="Its files stand beside another model's: begin their names with its.")
@click.option("--output", type=PATH, required=True, metavar="DIR", help="The folder to make.")
def build(*, tag: str, source: "SourceRequest", build: BuildOptions, companion: bool, output: Path) -> None:
    """Make a release folder and publish nothing: export, quantize, verify, size gate, package."""
    from model_release.base.progress import numbered
    from model_release.contract.tag import parse_tag
    from model_release.release.build import STEPS, make_dist
    from model_release.release.notes import render_card

    request = build.request(parse_tag(tag), source, companion=companion)
    built = make_dist(request, output, numbered(print_progress, STEPS), print_progress)
    add_summary(render_card(built.document, built.figures))
    click.echo(f"{output}: {len(built.document.names)} files, {request.tag.text}, every model equal to PyTorch")
