"""Cost against work as an SVG: one panel for each kind of cost and work, both axes logarithmic.

It needs no font, script or style sheet, and its colours are legible on white and on black.
"""

import sys
from collections.abc import Sequence
from xml.sax.saxutils import escape

from results import Series
from workshop import OURS, PRECISIONS, SCRIPTS

sys.path.insert(0, str(SCRIPTS))

from model_release.browser.pages.plot import (
    HEIGHT,
    WIDTH,
    Plot,
    log_plot,
)

_COLUMNS = 2
_COLOURS = ("#3987e5", "#d95926", "#199e70", "#c98500", "#9085e9", "#d55181")
_DASHES = ("", "8 5", "2 4", "12 4 2 4", "5 3", "16 6")
_GREY = "#797979"
_LABELS = {OURS: "export.py (fp32)", **{name: f"{name} (ours)" for name in PRECISIONS}}


def draw(all_series: Sequence[Series]) -> str:
    """The plot, panel after panel, and a legend in the last place."""
    names = list(dict.fromkeys(series.name for series in all_series))
    panels = list(dict.fromkeys((series.panel, series.work) for series in all_series))
    cells = []
    for panel, work in panels:
        shown = [series for series in all_series if (series.panel, series.work) == (panel, work)]
        cells.append(_panel(panel, work, shown, names))
    cells.append(_legend(names))
    rows = -(-len(cells) // _COLUMNS)
    placed = [
        f'<g transform="translate({index % _COLUMNS * WIDTH} {index // _COLUMNS * HEIGHT})">{cell}</g>'
        for index, cell in enumerate(cells)
    ]
    width, height = _COLUMNS * WIDTH, rows * HEIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="system-ui, sans-serif" font-size="15" fill="{_GREY}">',
            "<title>Cost against work, on log axes</title>",
            *placed,
            "</svg>\n",
        ]
    )


def _panel(title: str, work: str, shown: Sequence[Series], names: Sequence[str]) -> str:
    values = [(series.name, work_done, cost) for series in shown for work_done, cost in series.points]
    plot = log_plot(values, floor=min(cost for _, _, cost in values))
    lines = [_axes(plot, title, work)]
    for series in shown:
        points = [point for point in plot.points if point.label == series.name]
        path = " ".join(f"{point.at},{point.y}" for point in points)
        colour = _COLOURS[names.index(series.name) % len(_COLOURS)]
        lines.append(f'<polyline points="{path}" fill="none" {_stroke(series.name, names)}/>')
        lines += [f'<circle cx="{point.at}" cy="{point.y}" r="4.5" fill="{colour}"/>' for point in points]
    return "\n".join(lines)


def _axes(plot: Plot, title: str, work: str) -> str:
    rule = f'stroke="{_GREY}" stroke-opacity="0.35"'
    lines = [
        f'<text x="{plot.left}" y="24" font-weight="600">{escape(title)}</text>',
        f'<text x="{plot.right}" y="{plot.height - 10}" text-anchor="end">{escape(work)}</text>',
    ]
    for tick in plot.y_ticks:
        lines += [
            f'<line x1="{plot.left}" x2="{plot.right}" y1="{tick.at}" y2="{tick.at}" {rule}/>',
            f'<text x="{plot.left - 8}" y="{tick.at + 5}" text-anchor="end">{float(tick.label):g}</text>',
        ]
    for tick in plot.x_ticks:
        lines += [
            f'<line x1="{tick.at}" x2="{tick.at}" y1="{plot.top}" y2="{plot.bottom}" {rule}/>',
            f'<text x="{tick.at}" y="{plot.bottom + 20}" text-anchor="middle">{tick.label}</text>',
        ]
    return "\n".join(lines)


def _legend(names: Sequence[str]) -> str:
    lines = []
    for index, name in enumerate(names):
        y = 60 + 34 * index
        lines += [
            f'<line x1="80" x2="150" y1="{y}" y2="{y}" {_stroke(name, names)}/>',
            f'<text x="165" y="{y + 5}">{escape(_LABELS.get(name, name))}</text>',
        ]
    return "\n".join(lines)


def _stroke(name: str, names: Sequence[str]) -> str:
    index = names.index(name) % len(_COLOURS)
    return f'stroke="{_COLOURS[index]}" stroke-width="2.5" stroke-dasharray="{_DASHES[index]}"'
