"""Measures this project against its peers and prints a Markdown page: `python tests/benchmarks/run.py`.

See README.md beside this file for what is measured, and how. It is not a test: it judges nothing.
"""

import json
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
from machine import describe_machine
from measure import BenchmarkError, Job, Usage, onnx_bytes, run_in_turn, run_job
from page import Results, Session, StoredFile, render
from peers import default_folder, peers_python

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CHILDREN = Path(__file__).parent / "children"
THREADS = (1, 2)
ROOM_BYTES = 8 * 10**9
"""Ten files of up to 652 MB, and the temporary copies their makers write."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model to measure, and how often a session runs each length.

    Attributes:
        name: In words.
        config: Entries of GPT2Config.
        runs: Tokens of an input -> number of timed runs.
    """

    name: str
    config: dict[str, int]
    runs: dict[int, int]


FULL = Shape(name="GPT-2 124M, random weights", config={"vocab_size": 50257}, runs={16: 15, 128: 5})
TOY = {"n_layer": 2, "n_embd": 64, "n_head": 2, "n_positions": 128}
QUICK = Shape(
    name="a toy GPT-2, to try the command (its figures mean nothing)",
    config={**TOY, "vocab_size": 1000, "bos_token_id": 999, "eos_token_id": 999},
    runs={16: 3, 128: 3},
)


@click.command()
@click.option("--quick", is_flag=True, help="A toy model and one round, to see that everything works.")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="Runs of each thing. [default: 3; quick: 1]")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write the page here."
)
@click.option(
    "--peers", type=click.Path(path_type=Path), metavar="DIR", help="The peers' environment, made if missing."
)
@click.option(
    "--work-dir", type=click.Path(path_type=Path, exists=True), metavar="DIR", help="Where the files go meanwhile."
)
def main(*, quick: bool, rounds: int | None, output: Path | None, peers: Path | None, work_dir: Path | None) -> None:
    """Measure export, quantizing, sizes and latency against optimum-onnx, torch.onnx.export and onnxruntime."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # Unwinds, so that gigabytes are removed.
    shape = QUICK if quick else FULL
    rounds = rounds or (1 if quick else 3)
    try:
        python = peers_python(peers or default_folder(), progress)
        with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=work_dir) as folder:
            results = measure(shape, rounds, python, Path(folder), patient=not quick)
    except BenchmarkError as failure:
        raise click.ClickException(str(failure)) from failure
    page = render(results, title=shape.name, rounds=rounds, machine=describe_machine(), judge=not quick)
    if output is not None:
        output.write_text(page, encoding="utf-8")
    click.echo(page)


def measure(shape: Shape, rounds: int, peers: Path, folder: Path, *, patient: bool) -> Results:
    """Makes the weights, then every file, then runs every file.

    Args:
        shape: The model.
        rounds: How often each thing is measured.
        peers: The peers' Python.
        folder: An empty folder with `ROOM_BYTES` of room.
        patient: See `run_in_turn`.

    Raises:
        BenchmarkError: There is too little room, or something that is measured fails.
    """
    if shutil.disk_usage(folder).free < ROOM_BYTES:
        raise BenchmarkError(f"{folder} must have {ROOM_BYTES / 1e9:.0f} GB of room. Choose another --work-dir.")
    weights = folder / "weights"
    progress("making random weights")
    run_job(_child("weights", "make_weights.py", weights, json.dumps(shape.config)))
    exports = run_in_turn(_exporters(weights, peers, folder), rounds, progress, patient=patient)
    for kinds in ("logits", "all"):
        run_job(_export(f"export.py --activations {kinds}", weights, folder / kinds, "--activations", kinds))
    conversions = run_in_turn(_conversions(folder / "ours" / "model.onnx", folder), rounds, progress, patient=patient)

    files = {
        "fp32": folder / "ours" / "model.onnx",
        "fp32, `--activations logits`": folder / "logits" / "model.onnx",
        "fp32, `--activations all`": folder / "all" / "model.onnx",
        "fp16": folder / "fp16" / "model_fp16.onnx",
        "int8-dynamic": folder / "int8" / "model_int8_dynamic.onnx",
        "optimum-onnx": folder / "optimum" / "model.onnx",
        "optimum-onnx + accelerate": folder / "accelerate" / "model.onnx",
        "torch.onnx.export": folder / "plain" / "model.onnx",
        "onnxruntime float16 converter": folder / "ort_float16" / "model.onnx",
        "onnxruntime quantize_dynamic": folder / "ort_dynamic" / "model.onnx",
    }
    plan = [str(number) for pair in shape.runs.items() for number in pair]
    sessions: dict[int, dict[str, list[Session]]] = {}
    for threads in THREADS:
        progress(f"sessions with {threads} thread(s)")
        jobs = [
            _child(name, "run_session.py", path, str(threads), str(shape.config["vocab_size"]), *plan)
            for name, path in files.items()
        ]
        runs = run_in_turn(jobs, rounds, progress, patient=patient)
        sessions[threads] = {name: [_session(usage) for usage in usages] for name, usages in runs.items()}
    return Results(
        exports=exports,
        conversions=conversions,
        files={name: _stored_file(path) for name, path in files.items()},
        sessions=sessions,
        lengths=tuple(shape.runs),
    )


def _exporters(weights: Path, peers: Path, folder: Path) -> list[Job]:
    """Ours, and everything it is compared with."""
    optimum, accelerate, plain = folder / "optimum", folder / "accelerate", folder / "plain"
    script = CHILDREN / "export_optimum.py"
    return [
        _export("export.py", weights, folder / "ours"),
        Job(name="optimum-onnx", command=[peers, script, weights, optimum], output=optimum),
        Job(
            name="optimum-onnx + accelerate",
            command=[peers, script, weights, accelerate, "accelerate"],
            output=accelerate,
        ),
        _child("torch.onnx.export", "export_plain.py", weights, plain / "model.onnx", output=plain),
    ]


def _export(name: str, weights: Path, output: Path, *options: str) -> Job:
    export: list[str | Path] = [sys.executable, SCRIPTS / "export.py", "--model-path", weights]
    return Job(name=name, command=[*export, "--output", output / "model.onnx", *options], output=output)


def _conversions(model: Path, folder: Path) -> list[Job]:
    """What is done with an exported model: ours, and onnxruntime's own on the same file."""
    fp16, int8, ort_float16, ort_dynamic = (folder / name for name in ("fp16", "int8", "ort_float16", "ort_dynamic"))
    quantize: list[str | Path] = [sys.executable, SCRIPTS / "quantize.py", "--model", model]
    verify: list[str | Path] = [sys.executable, SCRIPTS / "verify.py", "--model", model]
    return [
        Job(name="quantize.py fp16", command=[*quantize, "--precision", "fp16", "--output-dir", fp16], output=fp16),
        _child(
            "onnxruntime float16 converter", "convert_ort.py", "float16", model, ort_float16 / "model.onnx",
            output=ort_float16,
        ),
        Job(
            name="quantize.py int8-dynamic",
            command=[*quantize, "--precision", "int8-dynamic", "--output-dir", int8],
            output=int8,
        ),
        _child(
            "onnxruntime quantize_dynamic", "convert_ort.py", "quantize_dynamic", model, ort_dynamic / "model.onnx",
            output=ort_dynamic,
        ),
        Job(name="verify.py without reference", command=verify),
    ]  # fmt: skip


def _child(name: str, script: str, *arguments: str | Path, output: Path | None = None) -> Job:
    """A job of `children/`, run by this Python."""
    return Job(name=name, command=[sys.executable, CHILDREN / script, *arguments], output=output)


def _session(usage: Usage) -> Session:
    printed = json.loads(usage.stdout)
    return Session(
        usage=usage,
        create_s=printed["create_s"],
        run_ms={int(tokens): ms for tokens, ms in printed["run_ms"].items()},
        logits=tuple(printed["logits"]),
    )


def _stored_file(path: Path) -> StoredFile:
    printed = json.loads(run_job(_child(path.name, "describe.py", path)).stdout)
    return StoredFile(size_bytes=onnx_bytes(path.parent), nodes=printed["nodes"], opset=printed["opset"])


def progress(message: str) -> None:
    """Tells the terminal what is going on; the page goes to stdout."""
    click.echo(message, err=True)


if __name__ == "__main__":
    main()
