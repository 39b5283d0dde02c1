"""How a precision lays the elements of a matrix out in bytes: widths, blocks and their scales."""

import math
from dataclasses import dataclass

CODEBOOK_ENTRIES = 256
"""Values of a byte; each stands for a few weights."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The stored form of a matrix or table.

    Attributes:
        bits: Bits of one code. With fewer than 8, codes lie in bytes as runtimes multiply them: [channels, inputs], a
            channel's last block padded.
        weights: Weights that one code stands for. From two on, codes index a codebook.
        block: Most weights of a row that share a scale; 0 where whole channels share one, or nothing has any.
        scale_bits: Bits of a scale.
    """

    bits: int
    weights: int
    block: int
    scale_bits: int

    @property
    def is_packed(self) -> bool:
        """Whether several codes share a byte."""
        return self.bits < 8

    @property
    def is_codebook(self) -> bool:
        """Whether a code is the index of several weights."""
        return self.weights > 1

    def blocks(self, columns: int) -> tuple[int, int]:
        """Number and size of a row's blocks: equal ones, so that little is padded, unless a runtime has its own size.

        >>> Storage(bits=8, weights=3, block=192, scale_bits=16).blocks(768)
        (4, 192)
        >>> Storage(bits=8, weights=2, block=32, scale_bits=16).blocks(21)
        (1, 22)
        >>> Storage(bits=4, weights=1, block=32, scale_bits=16).blocks(48)
        (2, 32)
        """
        count = math.ceil(columns / self.block)
        if self.is_packed:
            return count, self.block
        return count, math.ceil(math.ceil(columns / count) / self.weights) * self.weights

    def size_bytes(self, rows: int, columns: int, channels: int) -> int:
        """Bytes of a matrix with its scales, codebook not included."""
        scales = channels
        if self.block:
            count, size = self.blocks(columns)
            scales, columns = rows * count, count * size
        return (rows * columns * self.bits // self.weights + scales * self.scale_bits) // 8
