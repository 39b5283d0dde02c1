"""Measures this project against its peers: `python tests/benchmarks/run.py`. Prints a Markdown page.

See README.md beside this file for what is measured, and how. It is not a test: it judges nothing.
"""

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from machine import describe_machine
from measure import BenchmarkError
from page import render, summarize
from peers import default_folder, peers_python
from plot import draw
from record import PLOT, record_run
from results import Results
from sections import SECTIONS, SMOLLM2, Bench, Shape

ROOM_BYTES = 10 * 10**9
"""Sixteen files of up to 652 MB, and the temporary copies their makers write."""

FULL = Shape(
    name="GPT-2 124M, random weights",
    config={"vocab_size": 50257},
    runs={16: 7, 128: 3, 512: 1},
    pairs={1: 20, 16: 10, 128: 4},
    lengths={8: 7, 32: 5, 128: 3, 512: 1, 1024: 1},
    windows=50,
    trained=SMOLLM2,
    large=[
        {"n_layer": 12, "n_embd": 768, "n_head": 12},
        {"n_layer": 24, "n_embd": 1024, "n_head": 16},
        {"n_layer": 30, "n_embd": 1600, "n_head": 25},  # 1.0 B
    ],
    scaled={"vocab_size": 8192, "n_head": 4, "n_positions": 256, "bos_token_id": 0, "eos_token_id": 0},
    growing={
        "layers": [{"n_layer": layers, "n_embd": 256} for layers in (2, 4, 8, 16, 32)],
        "hidden size": [{"n_embd": hidden, "n_layer": 4} for hidden in (128, 512, 1536)],
    },
)
_TOY = {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 128}
_TOY_TOKENS = {"vocab_size": 1000, "bos_token_id": 999, "eos_token_id": 999}
QUICK = Shape(
    name="a toy GPT-2, to try the command (its figures mean nothing)",
    config={**_TOY, **_TOY_TOKENS},
    runs={16: 2, 128: 2},
    pairs={1: 2, 16: 2, 128: 2},
    lengths={8: 2, 32: 2, 128: 2},
    windows=5,
    trained="the embedded model",
    large=[{"n_layer": 2}, {"n_layer": 4}],
    scaled={**_TOY, **_TOY_TOKENS},
    growing={
        "layers": [{"n_layer": layers} for layers in (2, 4)],
        "hidden size": [{"n_embd": hidden} for hidden in (64, 128)],
    },
)


def read_sections(_: click.Context, __: click.Parameter, text: str | None) -> list[str]:
    """`--only`: names of sections, in the order in which they run."""
    wanted = set(SECTIONS) if text is None else {part.strip() for part in text.split(",")}
    if not wanted or not wanted <= SECTIONS.keys():
        raise click.BadParameter(f"must be names among {', '.join(SECTIONS)}, separated by commas; got {text!r}.")
    return [name for name in SECTIONS if name in wanted]


@click.command()
@click.option("--quick", is_flag=True, help="A toy model and one round, to see that everything works.")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="Runs of each thing. [default: 2; quick: 1]")
@click.option("--only", callback=read_sections, metavar="NAMES", help=f"Some of: {', '.join(SECTIONS)}. [default: all]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the page here, and the plot beside it as FILE.svg.",
)
@click.option("--record", is_flag=True, help="Write summary, page and plot into the README here; all sections.")
@click.option(
    "--peers", type=click.Path(path_type=Path), metavar="DIR", help="The peers' environment, made if missing."
)
@click.option(
    "--work-dir", type=click.Path(path_type=Path, exists=True), metavar="DIR", help="Where the files go meanwhile."
)
def main(
    *,
    quick: bool,
    rounds: int | None,
    only: list[str],
    output: Path | None,
    record: bool,
    peers: Path | None,
    work_dir: Path | None,
) -> None:
    """Measure export, quantizing, sizes, latency and quality against optimum-onnx, PyTorch, onnxruntime and Olive."""
    if record and (quick or len(only) < len(SECTIONS)):
        raise click.UsageError("--record must be of a whole run, got --quick or --only. Leave them out.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that gigabytes are removed.
    shape = QUICK if quick else FULL
    rounds = rounds or (1 if quick else 2)
    try:
        python = peers_python(peers or default_folder(), progress)
        with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=work_dir) as folder:
            bench = Bench(
                shape=shape,
                rounds=rounds,
                patient=not quick,
                folder=Path(folder),
                peers=python,
                progress=progress,
            )
            results = measure(bench, only)
        tell(results, bench, judged=not quick, output=output, record=record)
    except BenchmarkError as failure:
        raise click.ClickException(str(failure)) from failure


def tell(results: Results, bench: Bench, *, judged: bool, output: Path | None, record: bool) -> None:
    """Prints the page and writes it where it was asked for, with the plot beside it.

    Raises:
        BenchmarkError: A document has no part for measurements.
    """
    machine = describe_machine()
    plot = draw(results.growth) if results.growth else ""

    def page(plot_name: str = "") -> str:
        return render(
            results, title=bench.shape.name, rounds=bench.rounds, machine=machine, judged=judged, plot=plot_name
        )

    click.echo(page())
    if output is not None:
        beside = output.with_name(f"{output.name}.svg")
        output.write_text(page(beside.name), encoding="utf-8")
        if plot:
            beside.write_text(plot, encoding="utf-8")
    if record:
        record_run(page(PLOT.name), plot, summarize(results, machine))


def measure(bench: Bench, names: list[str]) -> Results:
    """Runs sections in turn.

    Raises:
        BenchmarkError: There is too little room, or something that is measured fails.
    """
    if shutil.disk_usage(bench.folder).free < ROOM_BYTES:
        raise BenchmarkError(f"{bench.folder} must have {ROOM_BYTES / 1e9:.0f} GB of room. Choose another --work-dir.")
    parts: dict[str, Any] = {}
    for name in names:
        progress(f"section: {name}")
        parts |= SECTIONS[name](bench)
    return Results(lengths=tuple(bench.shape.runs), **parts)


def progress(message: str) -> None:
    """Tells the terminal what is going on; the page goes to stdout."""
    click.echo(message, err=True)


if __name__ == "__main__":
    main()
