"""`verify.py`: a model file x the contract and PyTorch."""

from pathlib import Path

import click

from model_release.cli.options import PATH, print_progress


@click.command()
@click.option("--model", type=PATH, required=True, metavar="PATH", help="The ONNX file to verify.")
@click.option(
    "--reference", metavar="DIR|ID", help="The PyTorch weights it was made from: a folder, demo, or a model id."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)
def verify(*, model: Path, reference: str | None, style: str) -> None:
    """Run a model on dummy input, print its outputs, and compare it with the contract and with PyTorch."""
    from model_release.model.pipeline import verify_model
    from model_release.model.verify.report import render_verification
    from model_release.model.weights.source import SourceRequest

    request = None
    if reference == "demo":
        request = SourceRequest(demo=True)
    elif reference is not None and _names_a_folder(reference):
        request = SourceRequest(folder=Path(reference))
    elif reference is not None:
        request = SourceRequest(model=reference)
    result = verify_model(model, request, progress=print_progress)
    click.echo(render_verification(result, style))
    result.require()


def _names_a_folder(text: str) -> bool:
    """Whether a reference means a folder, even one that is missing: a Hub id is `name` or `org/name`."""
    try:
        there = Path(text).exists()
    except OSError:  # Too long for a path.
        there = False
    return text != "" and (there or text.startswith((".", "/", "~")) or text.count("/") > 1)
