"""`export.py`: weights -> model.onnx."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model_release.base.errors import UsageError
from model_release.cli.options import (
    DEFAULT_OUTPUT,
    PATH,
    fit_option,
    print_progress,
    selection_options,
    source_options,
)
from model_release.model.onnx_files.data_files import model_bytes

if TYPE_CHECKING:
    from model_release.contract.request import SelectionRequest
    from model_release.model.weights.source import SourceRequest


@click.command()
@source_options
@selection_options
@click.option(
    "--precision",
    metavar="NAME",
    default="fp32",
    show_default=True,
    help="How weights are stored: fp32 or one that quantize.py makes, here without an fp32 file in between.",
)
@fit_option
@click.option("--output", type=PATH, default=DEFAULT_OUTPUT, show_default=True, help="The file to write.")
@click.option("--verify", is_flag=True, help="Keep the file only if it fulfils the contract and equals PyTorch.")
def export(
    *,
    source: "SourceRequest",
    selection: "SelectionRequest",
    precision: str,
    fit: float | None,
    output: Path,
    verify: bool,
) -> None:
    """Export a language model from PyTorch to ONNX, with its intermediate activations as outputs."""
    if "," in precision:
        raise UsageError(
            f"--precision must be one name here, got {precision[:60]!r}. Give one; quantize.py takes several."
        )
    from model_release.contract.activations import load_contract
    from model_release.contract.request import asked_budget
    from model_release.model.pipeline import export_model

    result = export_model(
        source,
        selection,
        output,
        precision=load_contract().precision(precision).name,
        budget=asked_budget(fit, [precision]),
        verify=verify,
        progress=print_progress,
    )
    if result is not None:
        from model_release.model.verify.report import render_verification

        click.echo(render_verification(result, "text"))
    click.echo(f"{output}: {model_bytes(output) / 1e6:.1f} MB")
