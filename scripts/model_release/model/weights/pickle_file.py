"""pytorch_model.bin, read without running what a pickle may ask to run.

torch is imported inside the functions: a model in safetensors never pays for it.
"""

import io
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from model_release.base.errors import WeightsError
from model_release.base.files import open_file

if TYPE_CHECKING:
    import torch

# PyTorch's restricted unpickler is plain Python and lets through whatever a damaged file makes it raise.
_DAMAGE = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile, NotImplementedError,
)  # fmt: skip

_ARCHIVE = b"PK\x03\x04"
_PICKLE_LIMIT_BYTES = 1 << 22  # Names and shapes of ten thousand tensors.
_MOST_TUPLES = 50_000  # Four a tensor. What is nested deeper than that overflows the stack when it is hashed.
_CALLED = frozenset({
    "collections OrderedDict", "torch Size",
    "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor", "torch.serialization _get_layout",
})  # fmt: skip
_NAMED = re.compile(r"torch (\w+Storage|[a-z][a-z0-9]*)|torch\.storage UntypedStorage", re.ASCII)
"""With `_CALLED` all that a state dict is made of. More of what PyTorch lets through, called, takes any memory."""

_OLD_MAGIC = 0x1950A86A20F9469CFC6C


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
        loaded = _load(path)
        if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
            raise WeightsError(f"{path} must hold named tensors, got a {type(loaded).__name__}. Save a state_dict.")
        self._path = path
        self._tensors: dict[str, torch.Tensor] = dict(loaded)
        self.tensors = {name: (_dtype(path, name, tensor), tuple(tensor.shape)) for name, tensor in loaded.items()}

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """One tensor as float32, C-contiguous."""
        import torch

        tensor = self._tensors[name].detach().resolve_neg().to(torch.float32).contiguous()
        array: npt.NDArray[np.float32] = tensor.numpy()
        array.setflags(write=False)  # It may be the mapping itself, which later reads share.
        return array


def _load(path: Path) -> object:
    import torch

    try:
        with open_file(path) as file:
            is_archive = file.read(4) == _ARCHIVE
            file.seek(0)
            _judge(file, is_archive=is_archive)
        with warnings.catch_warnings(action="ignore"):  # PyTorch's own remarks on old formats.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as failure:
        raise WeightsError(
            f"{path} must be a pickle of nothing but tensors, got one that PyTorch refuses to read; nothing in it was "
            "run. Do not use this file; look for a model.safetensors."
        ) from failure
    except _DAMAGE as failure:
        reason = str(failure).partition("\n")[0][:200] or type(failure).__name__
        raise WeightsError(f"{path} must be a whole file of torch.save, got: {reason}. Fetch it again.") from failure


def _judge(file: BinaryIO, *, is_archive: bool) -> None:
    """Refuses what would take memory out of proportion to the file, or is no state dict, before it is loaded.

    Raises:
        pickle.UnpicklingError: It asks for more than tensors.
        ValueError: Its sizes are lies.
    """
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    if not is_archive:
        if _read_pickle(file, size_bytes) != _OLD_MAGIC:
            raise ValueError("no file of torch.save")
        for _ in range(3):  # The protocol, the system it was written on, the tensors.
            _read_pickle(file, size_bytes)
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size_bytes for entry in entries):
            raise ValueError("an archive with compressed parts")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                with archive.open(entry) as inner:
                    _read_pickle(io.BytesIO(inner.read(_PICKLE_LIMIT_BYTES + 1)), size_bytes)


def _read_pickle(file: BinaryIO, size_bytes: int) -> object:
    """The next pickle of a file as plain data: what it names is not looked up, and nothing is made."""
    start = file.tell()
    head = io.BytesIO(file.read(_PICKLE_LIMIT_BYTES))
    tuples = 0
    for opcode, argument, _ in pickletools.genops(head):
        tuples += opcode.name.startswith("TUPLE")
        if opcode.name == "GLOBAL" and argument not in _CALLED and not _NAMED.fullmatch(str(argument)):
            raise pickle.UnpicklingError(str(argument))
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "BYTEARRAY8"):
            raise pickle.UnpicklingError(opcode.name)
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > _PICKLE_LIMIT_BYTES:
            raise ValueError("a pickle with more parts than bytes")
        if tuples > _MOST_TUPLES:
            raise ValueError(f"more than {_MOST_TUPLES // 4} tensors")
    end = head.tell()
    head.seek(0)
    found = _Plain(head, size_bytes).load()
    file.seek(start + end)
    return found


class _Part(dict[object, object]):
    """In the place of what a pickle calls: it is made of anything, and holds nothing."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class _Plain(pickle.Unpickler):
    """Reads a pickle of known names as plain data."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        super().__init__(file, encoding="utf-8")
        self._size_bytes = size_bytes

    def find_class(self, module: str, name: str, /) -> object:
        """Nothing is looked up, and types cannot be called."""
        return _Part if f"{module} {name}" in _CALLED else name

    def persistent_load(self, parts: object, /) -> _Part:
        """A storage: its kind, key, device, and number of elements, which must be in the file."""
        if not isinstance(parts, tuple) or any(isinstance(part, int) and part > self._size_bytes for part in parts):
            raise ValueError("a tensor with more elements than the file has bytes")
        return _Part()


def _dtype(path: Path, name: str, tensor: object) -> str:
    """The dtype as safetensors spells it; torch's own spelling where that has none of ours."""
    import torch

    if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided or tensor.device.type != "cpu":
        raise WeightsError(
            f"{path} must hold dense tensors only, got {type(tensor).__name__} at {name[:120]}. Save a state_dict."
        )
    known = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
    return known.get(tensor.dtype, str(tensor.dtype))
