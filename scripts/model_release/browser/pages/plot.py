"""Where the points of a plot with two logarithmic axes lie, in the units of its SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 56, 48, 56
_POINT = 8
_LETTER_WIDTH = 11.5
"""Of a label's text on a phone, where letters are largest."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point, or a tick of an axis, with its text.

    Attributes:
        at: Where it is, from the left.
        label: Its text.
        y: Where it is, from the top.
        label_at: Where the text of a point has its middle; `label_y` is its base line.
    """

    at: float
    label: str
    y: float = 0.0
    label_at: float = 0.0
    label_y: float = 0.0


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
        points=_labelled([(label, across(x), up(max(y, floor))) for label, x, y in values]),
        x_ticks=tuple(Mark(label=f"{x:g}", at=across(x)) for x in _ticks(x_low, x_high, (1, 2, 5))),
        y_ticks=tuple(Mark(label=f"{y:.0e}".replace("e-0", "e-"), at=up(y)) for y in decades[::every]),
    )


def _labelled(points: Sequence[tuple[str, float, float]]) -> tuple[Mark, ...]:
    """Puts each text where it covers neither a point nor another text: above, below, beside, or further away.

    >>> [mark.label_y for mark in _labelled([("int8", 100, 100), ("int8-more", 110, 100)])]
    [88, 128]
    """
    marks: list[Mark] = []
    taken = [(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for _, x, y in points]
    for label, x, y in points:
        width = len(label) * _LETTER_WIDTH
        places = [
            (x + aside * (width / 2 + 12), y + below)
            for distance in (0, 1, 2, 3)
            for aside, below in ((0, -12 - 26 * distance), (0, 28 + 26 * distance), (-1, 6 - 26 * distance), (1, 6))
        ]
        boxes = {place: (place[0] - width / 2, place[1] - 16, place[0] + width / 2, place[1] + 4) for place in places}
        free = [place for place in places if not any(_overlap(boxes[place], other) for other in taken)]
        inside = [place for place in free if boxes[place][0] >= 0 and boxes[place][2] <= WIDTH and _inside(place[1])]
        at, base = (inside or free or places)[0]
        taken.append(boxes[at, base])
        marks.append(Mark(label=label, at=x, y=y, label_at=round(at, 1), label_y=round(base, 1)))
    return tuple(marks)


def _inside(y: float) -> bool:
    return _TOP - 8 <= y <= HEIGHT - _BOTTOM  # Above is the name of the axis, below are ticks.


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


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
