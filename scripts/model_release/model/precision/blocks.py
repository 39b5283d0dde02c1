"""Rows of weights cut into blocks, each with the scale that loses least."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from model_release.base.errors import QuantizeError
from model_release.contract.measures import Array
from model_release.contract.storage import Storage
from model_release.model.precision.chunks import in_chunks
from model_release.model.precision.codebook import codes_of, divisors
from model_release.model.precision.graph_edits import require_finite

T = TypeVar("T")


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
        codes = np.empty((len(rows) * self.count, self.shape[2]), dtype=self.codes.dtype)
        scales = np.empty(len(codes), dtype=np.float16)

        def encode(chunk: slice) -> None:
            blocks = slice(chunk.start * self.count, chunk.stop * self.count)
            codes[blocks], scales[blocks] = self._of_blocks(self.codes.encode, rows[chunk])

        in_chunks(encode, len(rows), self._padded)
        return codes.reshape(-1, *self.shape[1:]), scales.reshape(-1, self.count, 1)

    def scales(self, rows: Array) -> Array:
        """The scales that `encode` finds for rows, [rows, count, 1], float16.

        Raises:
            QuantizeError: See `encode`.
        """
        parts = in_chunks(lambda chunk: self._of_blocks(self.codes.scales, rows[chunk]), len(rows), self._padded)
        return np.concatenate(parts).reshape(-1, self.count, 1)

    def rounding(self, scales: Array) -> Callable[[slice, Array], tuple[Array, Array]]:
        """How to round rows to codes under given scales.

        Args:
            scales: Of all rows that are to come, [rows, count, 1].

        Returns:
            Which of these rows, and their weights [n, columns] -> codes [n, count, size / weights], and the weights
            that they stand for, [n, columns].
        """
        # A number for each weight: nothing is stretched anew for each row.
        factors, divided_by = (
            np.repeat(each, self.size, axis=2) for each in (scales.astype(np.float32), divisors(scales))
        )

        def round_rows(rows: slice, weights: Array) -> tuple[Array, Array]:
            codes = self.codes.nearest(self._cut(weights) / divided_by[rows])
            values = self.codes.values(codes)
            values *= factors[rows]
            return codes, values.reshape(len(codes), -1)[:, : self.columns]

        return round_rows

    def decode(self, codes: Array, scales: Array) -> Array:
        """What the graph makes of codes and scales: [rows, columns], float32."""
        blocks = self.codes.values(codes) * scales.astype(np.float32)
        rows: Array = blocks.reshape(len(codes), -1)[:, : self.columns]
        return rows

    @property
    def _padded(self) -> int:
        """Weights of a row, padding included."""
        return self.count * self.size

    def _of_blocks(self, find: Callable[[Array], T], rows: Array) -> T:
        """What is found for the blocks of rows, [n, size]."""
        try:
            return find(self._cut(rows).reshape(-1, self.size))
        except OverflowError as failure:
            require_finite(rows, self._name, "integers")
            raise QuantizeError(f"{self._name} is too large for float16 scales. Choose another precision.") from failure

    def _cut(self, rows: Array) -> Array:
        """Rows [rows, columns] as blocks [rows, count, size], the last ones padded with zeros."""
        if self._padded != self.columns:
            padded = np.zeros((len(rows), self._padded), dtype=np.float32)
            padded[:, : self.columns] = rows
            rows = padded
        return np.ascontiguousarray(rows).reshape(-1, self.count, self.size)
