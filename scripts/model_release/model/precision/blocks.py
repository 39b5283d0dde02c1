"""Rows of weights cut into blocks, each with the scale that loses least."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from model_release.base.errors import QuantizeError
from model_release.contract.output_checks import Array
from model_release.contract.storage import Storage
from model_release.model.precision.codebook import codes_of
from model_release.model.precision.graph_edits import require_finite

_CHUNK_WEIGHTS = 1 << 18  # Rounded at a time: what a processor's cache holds with its candidates.


class Blocks:
    """Encodes the rows of one parameter.

    Args:
        storage: Width and blocks.
        dims: [rows, columns].
        name: The parameter, for messages.

    Attributes:
        count: Blocks of a row.
        size: Weights of a block, padding included.
        together: Weights that one code stands for.
        shape: Of the codes, [rows, count, size / together].
    """

    def __init__(self, storage: Storage, dims: tuple[int, ...], name: str) -> None:
        rows, self.columns = dims
        self._name, self.storage = name, storage
        self.count, self.size = storage.blocks(self.columns)
        self.together = storage.weights
        self.shape = (rows, self.count, self.size // self.together)
        self.codes = codes_of(storage)

    def encode(self, rows: Array) -> tuple[Array, Array]:
        """Rounds rows to codes under the scales, among a few, of least error.

        Args:
            rows: [rows, columns], float32.

        Returns:
            Codes [rows, count, size / weights], and scales [rows, count, 1], float16.

        Raises:
            QuantizeError: A weight is not finite, or too large for a float16 scale.
        """
        step = max(1, _CHUNK_WEIGHTS // (self.count * self.size))
        chunks = [rows[start : start + step] for start in range(0, len(rows), step)]
        if len(chunks) == 1:
            return self._encode_some(rows)
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy lets threads run while it computes.
            codes, scales = (np.concatenate(parts) for parts in zip(*pool.map(self._encode_some, chunks), strict=True))
        return codes, scales

    def decode(self, codes: Array, scales: Array) -> Array:
        """What the graph makes of codes and scales: [rows, columns], float32."""
        blocks = self.codes.values(codes) * scales.astype(np.float32)
        rows: Array = blocks.reshape(len(codes), -1)[:, : self.columns]
        return rows

    def _encode_some(self, rows: Array) -> tuple[Array, Array]:
        require_finite(rows, self._name, "integers")
        padded = np.zeros((len(rows), self.count * self.size), dtype=np.float32)
        padded[:, : self.columns] = rows
        blocks = padded.reshape(len(rows), self.count, self.size)
        with np.errstate(over="ignore"):
            scales = self.codes.scales(blocks).astype(np.float16)  # [candidates, rows, count, 1]
        if not np.isfinite(scales).all():
            raise QuantizeError(f"{self._name} is too large for float16 scales. Choose another precision.")
        codes = self.codes.nearest(blocks / divisors(scales))
        errors = np.square(self.codes.values(codes) * scales.astype(np.float32) - blocks).sum(axis=-1, keepdims=True)
        best = errors.argmin(axis=0)[None]
        return np.take_along_axis(codes, best, axis=0)[0], np.take_along_axis(scales, best, axis=0)[0]


def divisors(scales: Array) -> Array:
    """Scales to divide by: a block of zeros has scale 0, and its weights are 0 whatever they are divided by."""
    divisor: Array = np.where(scales == 0, np.float32(1), scales.astype(np.float32))
    return divisor
