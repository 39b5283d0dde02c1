"""Runs the commands as people do and looks at what they leave behind; for tests."""

import contextlib
import functools
import hashlib
import io
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import onnx_ir as ir
from torch.onnx._internal.exporter import _registration

import cli
from model_release.contract.blueprint import Blueprint
from model_release.contract.selection import Selection
from model_release.model.export import trace

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

# torch reads the sources of its operators anew at every export, for a second.
_torchlib = staticmethod(functools.cache(_registration.ONNXRegistry.from_torchlib))
_registration.ONNXRegistry.from_torchlib = _torchlib  # type: ignore[method-assign]

_trace_layers = trace.trace_layers
_traced: dict[str, tuple[ir.Model, bool]] = {}
_exported: dict[Path, bytes] = {}

_PROGRESS = re.compile(
    r"(weights|tokenizer|export|quantize|reference|verify [^:]+): \S"  # export, quantize, verify
    r"|\[[1-9]/[69]\] [a-z ]{10} "  # build and release, step by step
    r"|      \S|  [-+] "  # figures, findings, lines of the env file
    r"|mirror: \S"
    r"|browse [^:]+: \S|npm ci: \S"
    r"|release: \S|\S+: [0-9.]+ MB|\S+: other bytes than promised"  # fetch
    r"|Fetching \S|\S+: .+; attempt \d+ in "  # servers
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command said, and how it ended."""

    code: object
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line of stderr."""
        return self.err.splitlines()[-1] if self.err else ""


def call(command: click.Command, *arguments: object) -> Outcome:
    """Runs a command in this process, through the very function its script calls."""
    out, err = io.StringIO(), io.StringIO()
    code: object = "run() returned"
    before = signal.getsignal(signal.SIGTERM)
    argv = [f"{command.name}.py", *map(str, arguments)]
    try:
        with (
            mock.patch.object(sys, "argv", argv),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                cli.run(command)
            except SystemExit as end:
                code = end.code
            except BaseException:  # noqa: BLE001 - what Python itself does with it
                traceback.print_exc()
                code = 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


def traced(
    config: Mapping[str, Any], blueprint: Blueprint, selection: Selection, numbers: Sequence[int] | None, *, opset: int
) -> tuple[ir.Model, bool]:
    """`trace.trace_layers` with a memory: it takes seconds, and is not what these tests are about.

    Of which layers a file shows the outputs is decided later.
    """
    key = repr(
        (
            config,
            blueprint,
            sorted(selection.activations),
            selection.logits,
            selection.cache,
            selection.interventions,
            numbers,
            opset,
        )
    )
    if key not in _traced:
        _traced[key] = _trace_layers(config, blueprint, selection, numbers, opset=opset)
    model, is_whole = _traced[key]
    return model.clone(), is_whole


@contextlib.contextmanager
def traced_once() -> Iterator[None]:
    """Lets equal requests share one traced graph."""
    with mock.patch.object(trace, "trace_layers", traced):
        yield


def exported(folder: Path) -> bytes:
    """What `export.py --model-path FOLDER` writes; equal folders are exported once."""
    if folder not in _exported:
        with traced_once(), tempfile.TemporaryDirectory() as place:
            outcome = call(cli.export, "--model-path", folder, "--output", Path(place) / "model.onnx")
            if outcome.code != 0:
                raise RuntimeError(outcome.err)
            _exported[folder] = (Path(place) / "model.onnx").read_bytes()
    return _exported[folder]


def start(script: str, *arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    """Starts a command as a process of its own, with `cwd`/tmp for its temporary files."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # A shell's background jobs ignore Ctrl-C.

    environment = {**os.environ, "TMPDIR": str(cwd / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=prepare,
    )


def finish(
    process: "subprocess.Popen[str]",
    *,
    when: str = "",
    then: Callable[["subprocess.Popen[str]"], None] = lambda _: None,
    timeout_s: float = 120.0,
) -> Outcome:
    """Waits for a process; calls `then` once, as soon as a line of stderr starts with `when`."""
    guard = threading.Timer(timeout_s, process.kill)
    lines, done = [], False
    with process:
        guard.start()
        try:
            if process.stderr is None or process.stdout is None:
                raise ValueError("start() makes both pipes")
            for line in process.stderr:
                lines.append(line)
                if when and not done and line.startswith(when):
                    done = True
                    then(process)
            out = process.stdout.read()
            code = process.wait()
        finally:
            guard.cancel()
            process.kill()
    return Outcome(code=code, out=out, err="".join(lines))


def assert_refused(outcome: Outcome, code: int, says: Iterable[str] = (), *, silent: bool = True) -> None:
    """The promise to whoever made a mistake: the right code, and one line that tells what and what now.

    Args:
        outcome: How the command ended.
        code: Of DESIGN.md's table.
        says: Texts the line must hold.
        silent: Whether stdout must be empty.
    """
    assert "Traceback" not in outcome.err, outcome.err
    assert (outcome.code, outcome.error[:7]) == (code, "error: "), outcome.err
    other = [line for line in outcome.err.splitlines()[:-1] if not _PROGRESS.match(line)]
    assert other == [], "stderr must hold progress and one error"
    assert outcome.error.isprintable()
    assert re.fullmatch(r"error: .+[.)] .+\.", outcome.error), f"what is wrong, then what to do: {outcome.error}"
    for text in says:
        assert text.casefold() in outcome.error.casefold(), outcome.error
    if silent:
        assert outcome.out == ""


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder: kind, permissions and content."""
    return {str(path.relative_to(folder)): _describe(path) for path in sorted(folder.rglob("*"))}


def _describe(path: Path) -> str:
    mode, size_bytes = path.lstat().st_mode, path.lstat().st_size
    if stat.S_ISREG(mode) and size_bytes > 1 << 32:
        return f"{stat.filemode(mode)} {size_bytes}"  # Sparse, and longer than anyone would read.
    if stat.S_ISREG(mode):
        return f"{stat.filemode(mode)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"{stat.filemode(mode)} -> {path.readlink()}" if stat.S_ISLNK(mode) else stat.filemode(mode)
