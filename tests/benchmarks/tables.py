"""Figures as Markdown."""

from collections.abc import Sequence
from statistics import median

from measure import Usage, median_ratio


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    rule = [":--", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def cost(runs: Sequence[Usage]) -> list[str]:
    """Wall time, its range, CPU time, peak memory and size: medians of the runs."""
    seconds = walls(runs)
    size_bytes = runs[-1].size_bytes
    return [
        f"{median(seconds):.1f}",
        f"{min(seconds):.1f}–{max(seconds):.1f}",
        f"{median(cpus(runs)):.1f}",
        f"{median(peaks(runs)) / 1e6:.0f}",
        f"{size_bytes / 1e6:.1f}" if size_bytes else "",
    ]


COST = ("wall s", "(range)", "CPU s", "peak MB", "file MB")
"""The columns of `cost`."""


def walls(runs: Sequence[Usage]) -> list[float]:
    """Wall times in s."""
    return [run.wall_s for run in runs]


def cpus(runs: Sequence[Usage]) -> list[float]:
    """CPU times in s."""
    return [run.cpu_s for run in runs]


def peaks(runs: Sequence[Usage]) -> list[float]:
    """Peak resident memory in bytes."""
    return [run.peak_rss_bytes for run in runs]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of the rounds' ratios."""
    return f"{median_ratio(ours, theirs):.2f}"
