"""Every file of one model that is measured, and the command that makes each of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Job, run_job

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CHILDREN = Path(__file__).parent / "children"

OURS = "fp32"
OPTIMUM, ACCELERATE, PLAIN = "optimum-onnx", "optimum-onnx + accelerate", "torch.onnx.export"
OPTIMUM_PAST = "optimum-onnx with past"
PRECISIONS = ("fp16", "fp16-compute", "int8", "int8-dynamic", "int8-static", "int4", "int4-compute", "small")
FLOAT16, DYNAMIC = "onnxruntime float16 converter", "onnxruntime quantize_dynamic"
MATMUL_NBITS, OLIVE = "onnxruntime MatMulNBitsQuantizer", "Olive block-wise RTN"
FOLDED = "fp32 with its head as a constant"

EXPORTERS = (OURS, OPTIMUM, ACCELERATE, PLAIN)
PEERS_QUANTIZERS = (FLOAT16, DYNAMIC, MATMUL_NBITS, OLIVE)

_OF_OPTIMUM = {OPTIMUM: (), ACCELERATE: ("accelerate",), OPTIMUM_PAST: ("past",)}
_CONVERTERS = {FLOAT16: "float16", DYNAMIC: "quantize_dynamic", MATMUL_NBITS: "matmul_nbits", FOLDED: "fold"}
_FROM_FOLDED = (MATMUL_NBITS, OLIVE)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Makes the files of one model, each in a folder of its own.

    Attributes:
        weights: The model as transformers saves it.
        folder: Where the files go.
        peers: The peers' Python.
    """

    weights: Path
    folder: Path
    peers: Path

    def file(self, name: str) -> Path:
        """A file by its name; made now, with what it is made from, if it is not there.

        Raises:
            BenchmarkError: Its command fails.
        """
        path = self._path(name)
        if not path.exists():
            run_job(self.job(name))
        return path

    def job(self, name: str) -> Job:
        """What makes a file. What it is made from is there afterwards.

        Raises:
            BenchmarkError: That cannot be made.
        """
        return Job(name=name, command=self._command(name), output=self._path(name).parent)

    def copy(self, name: str) -> Job:
        """The imports of `quantize.py`, reading our fp32 file, and writing as many bytes as another file has."""
        output = self.folder / f"copy_{_slug(name)}"
        arguments = (SCRIPTS, self.file(OURS), self._path(name), output / "model.onnx")
        return Job(name=copied(name), command=_child("copy_bytes.py", *arguments), output=output)

    def session(self, name: str, threads: int, vocab: int, plan: Sequence[str]) -> Job:
        """A session of a file and its runs."""
        return Job(name=name, command=_child("run_session.py", self.file(name), str(threads), str(vocab), *plan))

    def _path(self, name: str) -> Path:
        model = f"model_{name.replace('-', '_')}.onnx" if name in PRECISIONS else "model.onnx"
        return self.folder / _slug(name) / model

    def _command(self, name: str) -> list[str | Path]:
        path = self._path(name)
        if name == OURS:
            return [sys.executable, SCRIPTS / "export.py", "--model-path", self.weights, "--output", path]
        if name in _OF_OPTIMUM:
            return [self.peers, CHILDREN / "export_optimum.py", self.weights, path.parent, *_OF_OPTIMUM[name]]
        if name == PLAIN:
            return _child("export_plain.py", self.weights, path)
        source = self.file(FOLDED if name in _FROM_FOLDED else OURS)
        if name in PRECISIONS:
            quantize: list[str | Path] = [sys.executable, SCRIPTS / "quantize.py", "--model", source]
            quantize += ["--precision", name, "--output-dir", path.parent]
            tokenizer = self.weights / "tokenizer.json"
            return [*quantize, "--tokenizer", tokenizer] if tokenizer.exists() else quantize
        if name == OLIVE:
            return [self.peers, CHILDREN / "convert_olive.py", source, path]
        return _child("convert_ort.py", _CONVERTERS[name], source, path)


def copied(name: str) -> str:
    """What the copy of a file is called among the measurements."""
    return f"copy of {name}"


def make_weights(*models: tuple[Path, str]) -> None:
    """Models of random weights, each a folder and its config as JSON.

    Raises:
        BenchmarkError: They cannot be made.
    """
    run_job(Job(name="weights", command=_child("make_weights.py", *(part for model in models for part in model))))


def child(name: str, script: str, *arguments: str | Path) -> Job:
    """A job of `children/` that writes no model, run by this Python."""
    return Job(name=name, command=_child(script, *arguments))


def _child(script: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, CHILDREN / script, *arguments]


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)
