"""Where the points of a plot with two logarithmic axes lie, in the units of its SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 56, 48, 56


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point, or a tick of an axis, with its text."""

    at: float
    label: str
    y: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Ticks along both axes, and the points between them.

    Attributes:
        left: Where the horizontal axis begins; `right`, `top` and `bottom` bound the plot likewise.
    """

    points: tuple[Mark, ...]
    x_ticks: tuple[Mark, ...]
    y_ticks: tuple[Mark, ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def log_plot(values: Sequence[tuple[str, float, float]], *, floor: float) -> Plot:
    """Places labelled points by the logarithms of their values.

    Args:
        values: Label, x and y of each point; x is positive.
        floor: The smallest y that is told apart; what is below stands on it.
    """
    x_low, x_high = _reach([x for _, x, _ in values], steps=(1, 2, 5))
    y_low, y_high = _reach([max(y, floor) for _, _, y in values], steps=(1,))
    plot = Plot(points=(), x_ticks=(), y_ticks=())

    def across(x: float) -> float:
        return round(plot.left + (plot.right - plot.left) * _share(x, x_low, x_high), 1)

    def up(y: float) -> float:
        return round(plot.bottom - (plot.bottom - plot.top) * _share(y, y_low, y_high), 1)

    decades = _ticks(y_low, y_high, (1,))
    every = math.ceil(len(decades) / 6)
    return Plot(
        points=tuple(Mark(label=label, at=across(x), y=up(max(y, floor))) for label, x, y in values),
        x_ticks=tuple(Mark(label=f"{x:g}", at=across(x)) for x in _ticks(x_low, x_high, (1, 2, 5))),
        y_ticks=tuple(Mark(label=f"{y:.0e}".replace("e-0", "e-"), at=up(y)) for y in decades[::every]),
    )


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


def _reach(values: Sequence[float], *, steps: Sequence[int]) -> tuple[float, float]:
    """The ticks just below and just above all values; two different ones.

    >>> _reach([3.7, 7.1], steps=(1, 2, 5)), _reach([1e-7, 3e-4], steps=(1,))
    ((2.0, 10.0), (1e-08, 0.001))
    """
    ticks = _ticks(min(values) / 100, max(values) * 100, steps)
    return max(tick for tick in ticks if tick < min(values)), min(tick for tick in ticks if tick > max(values))


def _ticks(low: float, high: float, steps: Sequence[int]) -> list[float]:
    """Round numbers from `low` to `high`.

    >>> _ticks(2, 60, (1, 2, 5))
    [2.0, 5.0, 10.0, 20.0, 50.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    numbers = [float(f"{step}e{power}") for power in range(first, last + 1) for step in steps]
    return [number for number in numbers if low <= number <= high]
