"""`quantize.py`: model.onnx -> smaller files."""

from pathlib import Path

import click

from model_release.cli.options import PATH, fit_option, print_progress
from model_release.model.onnx_files.data_files import model_bytes


@click.command()
@click.option("--model", type=PATH, required=True, metavar="PATH", help="The model.onnx that export.py made.")
@click.option(
    "--precision",
    required=True,
    metavar="NAMES",
    help="One or more of, with commas: fp16, fp16-compute, int8, int8-dynamic, int8-static, int4, int4-compute, small.",
)
@fit_option
@click.option("--output-dir", type=PATH, required=True, metavar="DIR", help="Where model_<precision>.onnx goes.")
@click.option(
    "--calibration",
    type=PATH,
    metavar="FILE",
    help="Text that int8-static and small look at. [default: the embedded model's]",
)
@click.option(
    "--tokenizer",
    type=PATH,
    metavar="FILE",
    help="The model's tokenizer.json, for that text. [default: the one beside the model; without one, random ids]",
)
def quantize(
    *,
    model: Path,
    precision: str,
    fit: float | None,
    output_dir: Path,
    calibration: Path | None,
    tokenizer: Path | None,
) -> None:
    """Store a model's weights in fewer bits, as model_fp16.onnx, model_int8_dynamic.onnx and so on."""
    from model_release.contract.activations import parse_precisions
    from model_release.contract.request import asked_budget
    from model_release.model.pipeline import calibration_ids_for, quantize_model

    precisions = parse_precisions(precision)
    paths = quantize_model(
        model,
        precisions,
        output_dir,
        calibration=lambda: calibration_ids_for(model, tokenizer, calibration, print_progress),
        budget=asked_budget(fit, precisions),
        progress=print_progress,
        note=print_progress,
    )
    for path in paths:
        click.echo(f"{path}: {model_bytes(path) / 1e6:.1f} MB")
