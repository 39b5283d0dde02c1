"""What a command says, where nobody reads it, nothing can be written, or letters and memory are missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import cli
from commands import SCRIPTS, assert_refused, call
from workroom import Workshop

PLAN = ("plan.py", "--tag", "model-v1.0.0", "--model", "demo")


def run(*command: str, cwd: Path, **options: object) -> "subprocess.CompletedProcess[bytes]":
    """A command in a process of its own, for at most a minute."""
    arguments = [sys.executable, str(SCRIPTS / command[0]), *command[1:]]
    return subprocess.run(arguments, cwd=cwd, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]


def test_a_reader_who_has_gone_stops_no_work(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = tmp_path / "output"
    finished = run(
        *PLAN, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, env=os.environ | {"GITHUB_OUTPUT": str(output)}
    )
    os.close(writing)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert "matrix=" in output.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_output_that_cannot_be_written_is_a_failure_said_once(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        finished = run(*PLAN, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert finished.returncode == 1
    assert finished.stderr.decode().splitlines() == [
        "error: the system refused: [Errno 28] No space left on device. Free space or permissions and run it again."
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "cp437"])
def test_an_encoding_that_lacks_a_letter_shows_its_number(tmp_path: Path, encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    finished = run("fetch.py", "--env-file", "€/env", cwd=tmp_path, capture_output=True, env=environment)
    assert finished.returncode == 9
    assert finished.stderr.startswith(b"error: \\u20ac/env must exist.")


def test_output_that_is_closed_from_the_start_is_no_failure(tmp_path: Path) -> None:
    closed = f'exec "{sys.executable}" "{SCRIPTS / PLAN[0]}" {" ".join(PLAN[1:])} >&- 2>&-'
    assert subprocess.run(["sh", "-c", closed], cwd=tmp_path, timeout=60, check=False).returncode == 0


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def nowhere(path: Path) -> None:
    path.symlink_to("missing/file")


@pytest.mark.slow
@pytest.mark.parametrize("put", [folder, pipe, nowhere])
def test_a_runner_that_cannot_be_told_stops_nothing(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, put: Callable[[Path], None]
) -> None:
    put(workshop.root / "told")
    for variable in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(variable, str(workshop.root / "told"))
    outcome = call(cli.plan, *PLAN[1:])
    assert (outcome.code, len(outcome.err.splitlines())) == (0, 2), outcome.err
    for variable, line in zip(("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"), outcome.err.splitlines(), strict=True):
        assert line.startswith(f"warning: {variable} must name a file to write"), line


NO_MEMORY = {
    "Python": MemoryError(),
    "PyTorch": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    "the loader": ImportError("libtorch_cpu.so: failed to map segment from shared object"),
}


@pytest.mark.parametrize("failure", NO_MEMORY.values(), ids=NO_MEMORY)
def test_memory_that_runs_out_is_said_in_one_sentence(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def work(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr("model_release.model.export.trace.trace", work)
    workshop.refuses(cli.export, "--model-path", "model", "--output", "new/out.onnx", code=1, says=("memory",))


def test_no_library_says_anything_beside_the_one_sentence(workshop: Workshop) -> None:
    model = onnx.load(workshop.root / "model.onnx")
    del model.graph.input[:]  # onnx_ir logs a warning for each of its readers.
    onnx.save(model, workshop.root / "model.onnx")
    finished = run("verify.py", "--model", "model.onnx", cwd=workshop.root, capture_output=True)
    lines = [line for line in finished.stderr.decode().splitlines() if not line.startswith("verify model.onnx: ")]
    assert (finished.returncode, len(lines)) == (3, 1), lines


@pytest.mark.parametrize("option", ["--opset", "--logits", "--layers", "--precision", "--tag", "--model", "--no-such"])
def test_what_is_quoted_of_an_option_is_short(option: str) -> None:
    outcome = call(cli.plan, *PLAN[1:], option, "x" * 20_000)
    assert_refused(outcome, 2)
    assert len(outcome.error) < 1000
