"""Rows of a large array worked on a few at a time, by several threads: numpy lets others run while it computes."""

import ctypes
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")

_LEAST_WEIGHTS, _MOST_WEIGHTS = 1 << 18, 1 << 19
"""Of a chunk: with fewer, threads wait for each other longer than they compute; with more, caches hold too little."""

_M_TOP_PAD = -2  # Of glibc's malloc.h.
_KEPT_BYTES = 64 << 20  # By a thread at most; more than a chunk's arrays take.


def in_chunks(work: Callable[[slice], T], rows: int, row_weights: int) -> list[T]:
    """What work returns for each chunk of rows, in order; chunks are as many for each processor.

    Args:
        work: Given the rows of a chunk. Chunks may be worked on at the same time, in any order.
        rows: Of the array, at least one.
        row_weights: Numbers in a row, at least one.
    """
    _keep_freed_memory()
    weights = rows * row_weights
    threads = min(os.cpu_count() or 1, math.ceil(weights / _LEAST_WEIGHTS))
    rounds = math.ceil(weights / (_MOST_WEIGHTS * threads))
    step = math.ceil(rows / (threads * rounds))
    chunks = [slice(start, start + step) for start in range(0, rows, step)]
    if len(chunks) == 1:
        return [work(chunks[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, chunks))


@cache
def _keep_freed_memory() -> None:
    """Lets the arrays of a chunk have the memory of those of the last one.

    glibc gives it back to the system at once, which then takes as long to hand out pages of zeros as some steps take
    to compute. Other libraries have no such setting.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_TOP_PAD, _KEPT_BYTES)
