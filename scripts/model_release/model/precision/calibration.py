"""What a model's matrices are multiplied with on text: the model is run, and its products are watched."""

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from model_release.base.errors import ContractError, QuantizeError
from model_release.contract.blueprint import Blueprint
from model_release.contract.measures import Array
from model_release.model.onnx_files.file import read_model, write_model
from model_release.model.onnx_files.limits import check_limits
from model_release.model.onnx_files.session import RunError, Session

WINDOW_TOKENS = 256
_WINDOWS = 32
_WINDOWS_A_RUN = 4  # More keep processors no busier.
_GRAM_COLUMNS = 512  # A part of a gram that is added to at a time.
_ROOM_BYTES = 2**30  # For the grams of several matrices: one run of the text serves them all.


class Calibration:
    """Statistics of the inputs of each matrix. A matrix goes by its parameter's name; so does a head.

    Args:
        source: An fp32 model file of ours.
        blueprint: What it is.
        text_ids: Token ids of a text like those the model will see; without any, random ids are taken.
    """

    def __init__(self, source: Path, blueprint: Blueprint, text_ids: Sequence[int]) -> None:
        self._source, self._blueprint, self._text_ids = source, blueprint, text_ids
        self._grams: dict[str, Array] = {}

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Matrix -> the value of the graph that it is multiplied with, in the model's order."""
        model = read_model(self._source)
        found = {}
        for name, parameter in self._blueprint.parameters.items():
            if len(parameter.dims) != 2 or parameter.is_vector:
                continue
            readers = [node for node, _ in model.graph.initializers[name].uses()]
            turned = [
                node for reader in readers if reader.op_type == "Transpose" for node, _ in reader.outputs[0].uses()
            ]
            for node in (*readers, *turned):
                if node.op_type in ("MatMul", "Gemm") and node.inputs[0] is not None and node.inputs[1] is not None:
                    found[name] = str(node.inputs[0].name)
        return found

    def gram(self, name: str) -> Array:
        """Mean products of a matrix's inputs with each other, [in, in], float32.

        Asked for in the model's order, most come from the run that was made for an earlier one.

        Raises:
            QuantizeError: The model does not run, or gives numbers that are not finite.
        """
        if name not in self._grams:
            self._grams = self._collect_grams(self._next(name))
        gram = self._grams.pop(name)
        if not np.isfinite(gram).all():
            raise QuantizeError(
                f"the inputs of {name} must be finite to calibrate on, some are not. Correct the weights."
            )
        return gram

    def range(self, name: str) -> tuple[float, float]:
        """The smallest and largest value among a matrix's inputs, 0 included.

        Raises:
            QuantizeError: See `gram`.
        """
        return self._ranges[name]

    @cached_property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        ranges = dict.fromkeys(self.inputs, (0.0, 0.0))
        for values in self._runs(list(self.inputs)):
            for name, (low, high) in ranges.items():
                ranges[name] = (min(low, float(values[name].min())), max(high, float(values[name].max())))
        return ranges

    def _next(self, first: str) -> list[str]:
        """`first` and the matrices after it, as far as there is room for their grams."""
        names, room_bytes = [first], _ROOM_BYTES
        following = list(self.inputs)
        for name in following[following.index(first) + 1 :]:
            room_bytes -= self._width(name) ** 2 * 4
            if room_bytes < 0:
                break
            names.append(name)
        return names

    def _width(self, name: str) -> int:
        return self._blueprint.parameters[name].inputs

    def _collect_grams(self, names: Sequence[str]) -> dict[str, Array]:
        firsts = {self.inputs[name]: name for name in reversed(names)}  # Several matrices may have one input.
        grams = {name: np.zeros((self._width(name), self._width(name)), dtype=np.float32) for name in firsts.values()}
        tokens = dict.fromkeys(grams, 0)
        for values in self._runs(list(grams)):
            for name, gram in grams.items():
                rows = values[name].reshape(-1, self._width(name))  # [tokens, in]
                _add_products(gram, rows)
                tokens[name] += len(rows)
        for name, gram in grams.items():
            gram /= np.float32(tokens[name])
            for start in range(0, len(gram), _GRAM_COLUMNS):
                end = start + _GRAM_COLUMNS
                gram[end:, start:end] = gram[start:end, end:].T
        return {name: grams[firsts[self.inputs[name]]] for name in names}

    def _runs(self, names: Sequence[str]) -> Iterator[dict[str, Array]]:
        """Runs the text, window by window; yields the inputs of the matrices, [batch, seq, in]."""
        watched = {name: self.inputs[name] for name in names}
        with tempfile.TemporaryDirectory(prefix="model-release-") as folder:
            path = Path(folder) / "watched.onnx"
            write_model(self._watching(set(watched.values())), path, error=QuantizeError)
            try:
                check_limits(self._source)  # Of all of it: what is watched leaves parts out.
                session = Session(path)
                for ids in self._windows():
                    values = session.run(ids, sorted(set(watched.values())))
                    yield {name: values[value] for name, value in watched.items()}
            except (ContractError, RunError) as failure:
                raise QuantizeError(f"{self._source.name} must run to be calibrated: {failure}") from failure

    def _watching(self, values: set[str]) -> ir.Model:
        """The model with `values` for outputs, and without what only others need."""
        model = read_model(self._source)
        model.graph.outputs[:] = [output for node in model.graph for output in node.outputs if output.name in values]
        RemoveUnusedNodesPass()(model)
        return model

    def sample(self, windows: int, tokens: int) -> Array:
        """A few windows of the text, evenly spread, [windows, tokens]; shorter where the model takes no more."""
        return self._cut(windows, min(tokens, self._blueprint.context))

    def _windows(self) -> Iterator[Array]:
        """Inputs of [windows, tokens]: windows of the text, evenly spread."""
        windows = self._cut(_WINDOWS, min(WINDOW_TOKENS, self._blueprint.context))
        for first in range(0, len(windows), _WINDOWS_A_RUN):
            yield windows[first : first + _WINDOWS_A_RUN]

    def _cut(self, most: int, tokens: int) -> Array:
        ids = np.array(self._text_ids, dtype=np.int64)
        if len(ids) < tokens:
            ids = np.random.default_rng(0).integers(0, self._blueprint.vocab, size=most * tokens, dtype=np.int64)
        starts = np.linspace(0, len(ids) - tokens, min(most, len(ids) // tokens)).astype(np.int64)
        windows: Array = ids[starts[:, None] + np.arange(tokens)]
        return windows


def _add_products(gram: Array, rows: Array) -> None:
    """Adds `rows.T @ rows` to a gram, in its upper half and a little more: the rest is the same again."""
    for start in range(0, len(gram), _GRAM_COLUMNS):
        end = start + _GRAM_COLUMNS
        gram[start:end, start:] += rows[:, start:end].T @ rows[:, start:]
