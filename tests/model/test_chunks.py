"""Rows of a large array, worked on a few at a time."""

import os
import threading

import pytest

from model_release.model.precision.chunks import in_chunks


@pytest.mark.parametrize("processors", [None, 1, 2, 3, 64])
@pytest.mark.parametrize(
    ("rows", "row_weights"), [(1, 1), (7, 1), (1, 1 << 22), (3, 1 << 19), (768, 3072), (50257, 768)]
)
def test_every_row_is_worked_on_once_and_results_come_in_order(
    rows: int, row_weights: int, processors: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    chunks = in_chunks(lambda chunk: range(rows)[chunk], rows, row_weights)
    assert [row for chunk in chunks for row in chunk] == list(range(rows))
    assert all(len(chunk) * row_weights <= 1 << 19 or len(chunk) == 1 for chunk in chunks)


def test_little_work_is_done_by_the_thread_that_asks() -> None:
    assert in_chunks(lambda _: threading.current_thread(), 12, 3072) == [threading.current_thread()]


def test_what_one_chunk_raises_ends_all() -> None:
    def work(chunk: slice) -> None:
        if chunk.start > 0:
            raise OverflowError("too large")

    with pytest.raises(OverflowError, match="too large"):
        in_chunks(work, 4096, 4096)
