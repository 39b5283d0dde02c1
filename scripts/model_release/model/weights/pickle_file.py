"""pytorch_model.bin, read without running what a pickle may ask to run.

torch is imported inside the functions: a model in safetensors never pays for it.
"""

import pickle
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model_release.base.errors import WeightsError
from model_release.base.files import open_file
from model_release.base.text import first_lines, quoted

if TYPE_CHECKING:
    import torch

# PyTorch's restricted unpickler is plain Python and lets through whatever a damaged file makes it raise.
_DAMAGE = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error,
)  # fmt: skip


_STATES = ("model", "state_dict", "model_state_dict", "module")
"""What training programs call a model's tensors."""


class PickledFile:
    """A file written by `torch.save`: today's zip archives, and the format from before 2020.

    An archive is mapped into memory, so only the tensor being read costs memory. The old format can
    only be read whole.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file with PyTorch's restricted unpickler.

        Raises:
            WeightsError: The pickle asks for anything but tensors, or the file is broken.
        """
        loaded = _state_of(path, _load(path))
        if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
            raise WeightsError(f"{path} must hold named tensors, got a {type(loaded).__name__}. Save a state_dict.")
        self._path = path
        self._tensors: dict[str, torch.Tensor] = dict(loaded)
        self.tensors = {name: (_dtype(path, name, tensor), tuple(tensor.shape)) for name, tensor in loaded.items()}

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor as float32, C-contiguous."""
        import torch

        array: npt.NDArray[np.float32] = self._tensors[name].detach().to(torch.float32).contiguous().numpy()
        array.setflags(write=False)  # It may be the mapping itself, which later reads share.
        return array


def _state_of(path: Path, loaded: object) -> object:
    """What a training program saved of its model, among the other things that it goes on with.

    Raises:
        WeightsError: There are tensors in it under names that may mean anything.
    """
    import torch

    if not isinstance(loaded, dict):
        return loaded
    states = {
        str(key): value
        for key, value in loaded.items()
        if isinstance(value, dict) and any(isinstance(item, torch.Tensor) for item in value.values())
    }
    known = [key for key in _STATES if key in states]
    if len(known) == 1:
        return states[known[0]]
    if states:
        raise WeightsError(
            f"{path} must hold the tensors of one model, got a checkpoint with tensors at {quoted(', '.join(states))}. "
            "Save the model's alone: torch.save(torch.load(FILE)[KEY], 'pytorch_model.bin')."
        )
    return loaded


def _load(path: Path) -> object:
    import torch

    try:
        with open_file(path) as file:
            is_archive = file.read(4) == b"PK\x03\x04"
        with warnings.catch_warnings(action="ignore"):  # PyTorch's own remarks on old formats.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as failure:
        raise WeightsError(
            f"{path} must be a pickle of nothing but tensors, got one that PyTorch refuses to read; nothing in it was "
            "run. Do not use this file; look for a model.safetensors."
        ) from failure
    except _DAMAGE as failure:
        raise WeightsError(
            f"{path} must be a whole file of torch.save, got: {first_lines(failure)}. Fetch it again."
        ) from failure


def _dtype(path: Path, name: str, tensor: object) -> str:
    """The dtype as safetensors spells it; torch's own spelling where that has none of ours."""
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise WeightsError(
            f"{path} must hold dense tensors only, got {type(tensor).__name__} at {name[:120]}. Save a state_dict."
        )
    known = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
    return known.get(tensor.dtype, str(tensor.dtype))
