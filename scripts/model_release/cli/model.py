"""The commands around one model file: export, quantize, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_release.cli.options import (
    DEFAULT_OUTPUT,
    FOLDER,
    print_progress,
    selection_options,
    source_options,
    source_request,
)
from model_release.model.onnx_files.data_files import model_bytes

if TYPE_CHECKING:
    from model_release.contract.activations import Logits


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
@click.option("--output", type=FOLDER, default=DEFAULT_OUTPUT, show_default=True, help="The file to write.")
@click.option("--verify", is_flag=True, help="Keep the file only if it fulfils the contract and equals PyTorch.")
def export(
    *,
    layers: str | None,
    all_layers: bool,
    activations: str | None,
    logits: "Logits",
    opset: int,
    precision: str,
    output: Path,
    verify: bool,
    **source: Any,  # noqa: ANN401 - passed on to `source_request`
) -> None:
    """Export GPT-2 from PyTorch to ONNX, with its intermediate activations as outputs."""
    from model_release.contract.activations import load_contract
    from model_release.model.pipeline import SelectionRequest, export_model

    selection = SelectionRequest(
        layers=layers, all_layers=all_layers, activations=activations, logits=logits, opset=opset
    )
    result = export_model(
        source_request(**source),
        selection,
        output,
        precision=load_contract().precision(precision).name,
        verify=verify,
        progress=print_progress,
    )
    if result is not None:
        from model_release.browser.report import render_verification

        click.echo(render_verification(result, "text"))
    click.echo(f"{output}: {model_bytes(output) / 1e6:.1f} MB")


@click.command()
@click.option("--model", type=FOLDER, required=True, metavar="PATH", help="The model.onnx that export.py made.")
@click.option(
    "--precision",
    required=True,
    metavar="NAMES",
    help="One or more of fp16, fp16-compute, int8, int8-dynamic, int8-static, int4, small, separated by commas.",
)
@click.option("--output-dir", type=FOLDER, required=True, metavar="DIR", help="Where model_<precision>.onnx goes.")
@click.option(
    "--calibration",
    type=FOLDER,
    metavar="FILE",
    help="Text that int8-static and small look at. [default: the embedded model's]",
)
@click.option(
    "--tokenizer",
    type=FOLDER,
    metavar="FILE",
    help="The model's tokenizer.json, for that text. [default: the one beside the model; without one, random tokens]",
)
def quantize(
    *, model: Path, precision: str, output_dir: Path, calibration: Path | None, tokenizer: Path | None
) -> None:
    """Store a model's weights in fewer bits, as model_fp16.onnx, model_int8_dynamic.onnx and so on."""
    from model_release.contract.activations import parse_precisions
    from model_release.model.pipeline import calibration_ids_for, quantize_model

    paths = quantize_model(
        model,
        parse_precisions(precision),
        output_dir,
        calibration=lambda: calibration_ids_for(model, tokenizer, calibration),
        progress=print_progress,
    )
    for path in paths:
        click.echo(f"{path}: {model_bytes(path) / 1e6:.1f} MB")


@click.command()
@click.option("--model", type=FOLDER, required=True, metavar="PATH", help="The ONNX file to verify.")
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
    from model_release.browser.report import render_verification
    from model_release.model.pipeline import SourceRequest, verify_model

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
