"""Rows of a large array worked on a few at a time, by several threads: numpy lets others run while it computes."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_LEAST_WEIGHTS, _MOST_WEIGHTS = 1 << 18, 1 << 19
"""Of a chunk: with fewer, threads wait for each other longer than they compute; with more, caches hold too little."""


def in_chunks(work: Callable[[slice], T], rows: int, row_weights: int) -> list[T]:
    """What work returns for each chunk of rows, in order; chunks are as many for each processor.

    Args:
        work: Given the rows of a chunk. Chunks may be worked on at the same time, in any order.
        rows: Of the array, at least one.
        row_weights: Numbers in a row, at least one.
    """
    weights = rows * row_weights
    threads = min(os.cpu_count() or 1, math.ceil(weights / _LEAST_WEIGHTS))
    rounds = math.ceil(weights / (_MOST_WEIGHTS * threads))
    step = math.ceil(rows / (threads * rounds))
    chunks = [slice(start, start + step) for start in range(0, rows, step)]
    if len(chunks) == 1:
        return [work(chunks[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, chunks))
