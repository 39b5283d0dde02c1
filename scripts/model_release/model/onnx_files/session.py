"""Runs model files with onnxruntime."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

# onnxruntime's Linux wheels report usage to their makers by default, and leave an id in the temporary folder.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

from model_release.base.errors import ContractError, ReleaseError
from model_release.base.text import first_lines
from model_release.contract.activations import load_contract
from model_release.contract.measures import Array
from model_release.contract.tensor_names import parse_tensor_name
from model_release.model.onnx_files.limits import check_limits


class RunError(ReleaseError):
    """A loaded model that cannot run an input; the contract calls it RUN01."""

    exit_code = 3


class Session:
    """A model file loaded on the CPU.

    Args:
        path: An ONNX file.
        name: What to call it in messages, if not by its own name.
        threads: Threads within an operator; 0 lets onnxruntime choose.
        decode_in_runs: Weights are decoded where they are read and freed after it, in each run, in place of once and
            for all: a run takes some twelve times as long, and the session a fraction of the memory.

    Raises:
        ContractError: The graph is absurd, see `limits.check_limits`; or onnxruntime cannot load the file.
    """

    def __init__(self, path: Path, *, name: str = "", threads: int = 0, decode_in_runs: bool = False) -> None:
        check_limits(path, name=name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # Failures raise; its warnings are for its developers.
        if decode_in_runs:
            options.add_session_config_entry(_LARGEST_FOLDED, str(_SMALL_BYTES))
            options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # Both keep what was freed.
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except _FAILURES as failure:
            called = name or path.name
            reason = first_lines(failure).replace(str(path), called)
            raise ContractError(
                f"RUN01: onnxruntime must load {called}, it says: {reason}. Export it again."
            ) from failure
        self._input = self._session.get_inputs()[0].name if self._session.get_inputs() else ""
        self._past = [
            value
            for value in self._session.get_inputs()
            if parse_tensor_name(value.name)[0] in ("past_key", "past_value")
        ]
        neutral = {row.name: row.neutral for row in load_contract().interventions}
        self._untouched = {
            value.name: np.full(value.shape, neutral[value.name], dtype=np.float32)
            for value in self._session.get_inputs()
            if value.name in neutral and all(isinstance(dim, int) for dim in value.shape)
        }
        self.output_names: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())

    def run(
        self,
        input_ids: Array,
        names: Sequence[str] | None = None,
        *,
        past: Mapping[str, Array] | None = None,
        weights: Mapping[str, Array] | None = None,
        touch: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """Runs `[batch, seq]` int64 ids; returns the named outputs (by default all).

        Args:
            input_ids: `[batch, seq]`, int64.
            names: Of outputs.
            past: Keys and values of the tokens before, by the names of the inputs; by default of none, where the
                file takes them.
            weights: Instead of the file's own, where it takes others.
            touch: Gains and vectors, by the names of the inputs; those that are not given are neutral, where the
                file takes them.

        Raises:
            RunError: onnxruntime cannot run the model on this input.
        """
        wanted = list(self.output_names if names is None else names)
        try:
            past = self._no_past(input_ids.shape[0]) if past is None else past
            given = {**past, **self._untouched, **(touch or {}), **(weights or {})}
            arrays = self._session.run(wanted, {self._input: np.asarray(input_ids, dtype=np.int64), **given})
            return dict(zip(wanted, (np.asarray(array) for array in arrays), strict=True))
        except _FAILURES as failure:
            raise RunError(
                f"onnxruntime must run it at batch and seq {list(input_ids.shape)}, it says: {first_lines(failure)}"
            ) from failure

    def _no_past(self, batch: int) -> dict[str, Array]:
        """Keys and values of no tokens, `[batch, kv_heads, 0, head_dim]`."""
        sizes = {"batch_size": batch, "past": 0}
        return {
            value.name: np.zeros([sizes.get(dim, dim) for dim in value.shape], dtype=np.float32) for value in self._past
        }


_LARGEST_FOLDED = "optimization.constant_folding_max_output_size_in_bytes"
_SMALL_BYTES = 1 << 18
_state = onnxruntime.capi.onnxruntime_pybind11_state
_FAILURES = (
    _state.Fail,
    _state.InvalidArgument,
    _state.InvalidGraph,
    _state.InvalidProtobuf,
    _state.NoSuchFile,
    _state.NotImplemented,
    _state.RuntimeException,
    ValueError,  # Raised by the Python layer for an input of a wrong name, and for text that is no UTF-8.
    RuntimeError,  # Raised by it for a type that numpy has not.
    TypeError,  # Raised by numpy for an input of keys or values whose sizes are no numbers.
)
