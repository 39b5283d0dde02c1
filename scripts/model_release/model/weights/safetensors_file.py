"""A safetensors file: checked by the format's own library, then mapped into memory tensor by tensor."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from model_release.base.errors import WeightsError
from model_release.base.files import open_file
from model_release.base.text import first_lines

FloatArray = npt.NDArray[np.float32]

DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
"""The dtypes that are read, and NumPy's of their bytes."""

_HEADER_LIMIT_BYTES = 64 << 20


class SafetensorsFile:
    """A safetensors file, mapped into memory tensor by tensor."""

    def __init__(self, path: Path) -> None:
        """Checks the file with the format's own library and reads its header.

        Raises:
            WeightsError: The file is truncated, corrupt or unreadable.
        """
        self._path = path
        try:
            length, header = _read_header(path)
            with safe_open(path, framework="np"):  # Checks bounds, overlaps, and sizes against shapes.
                pass
        except (SafetensorError, OSError, ValueError, struct.error, RecursionError) as failure:
            raise WeightsError(
                f"{path} must be a whole safetensors file, got: {first_lines(failure)}. Fetch the file again."
            ) from failure
        header.pop("__metadata__", None)
        self.tensors = {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
        self._offsets = {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}

    def read(self, name: str) -> FloatArray:
        """One tensor as float32; a float32 tensor is a read-only view of the file."""
        dtype, shape = self.tensors[name]
        try:
            stored = np.memmap(self._path, DTYPES[dtype], mode="r", offset=self._offsets[name], shape=shape)
        except (OSError, ValueError) as failure:
            raise WeightsError(
                f"{self._path} must stay as it is while it is read, got: {failure}. Run again."
            ) from failure
        if dtype == "BF16":  # The upper half of a float32.
            return (stored.astype(np.uint32) << 16).view(np.float32).view(np.ndarray)
        with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite, as in PyTorch.
            return np.require(stored.view(np.ndarray), np.float32, ["C", "ALIGNED"])


def _read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """The length of a file's header, and the header, before anything maps the file.

    Raises:
        ValueError: It is none.
        OSError: The file cannot be read.
    """
    with open_file(path) as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 0 < length <= _HEADER_LIMIT_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"a {type(header).__name__} for a header")  # noqa: TRY004 - of the file, not of an argument
    return length, header
