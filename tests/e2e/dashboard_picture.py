"""Draws our Grafana dashboards from what a real Prometheus answers.

Grafana is not needed and not imitated to the pixel: panels stand where the dashboard puts them, and each
panel's own queries are sent, with the legends and units that the dashboard gives them.
`tests/e2e/test_metrics.py` does so in every run; `python -m tests.e2e.pictures` makes those in docs/.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from controller.monitoring import dashboards

COLUMN, ROW, GAP = 38, 27, 6
"""Pixels of a unit of Grafana's grid (24 columns wide), and between panels."""
HEAD: Final = 46
EDGE: Final = 12
LEFT, RIGHT, TOP, LINE, CHAR = 64, 20, 32, 15, 5.8
"""Within a panel: margins, height of a line of the legend, width of its characters."""
MOST_ROWS: Final = 3
"""Lines of a legend; what does not fit is counted."""
COLOURS: Final = (
    "#3274d9", "#e0752d", "#3f9e4d", "#8f3bb8", "#d6283b",
    "#b8960c", "#158f93", "#7a6652", "#e24d97", "#5c6773",
)  # fmt: skip
INK, PALE, GRID, PAPER, CARD = "#24292e", "#6a737d", "#e5e7ea", "#f4f5f7", "#ffffff"

Ask = Callable[[str, float, float], list[dict[str, Any]]]
"""(PromQL, begin, end in Unix time) → the series of a range query."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its legend, and points of Unix time and value."""

    legend: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Span:
    """The time that is shown."""

    began: float
    ended: float


def picture(name: str, ask: Ask, began: float, ended: float) -> str:
    """The dashboard `name` between two moments, as SVG."""
    dashboard, span = dashboards()[name], Span(began, ended)
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    width = 24 * COLUMN + GAP
    height = HEAD + max(place["y"] + place["h"] for place in places) * ROW + GAP
    date = time.strftime("%Y-%m-%d", time.gmtime(began))
    clock = " to ".join(time.strftime("%H:%M:%S", time.gmtime(at)) for at in (began, ended))
    shapes = [
        f'<rect width="{width}" height="{height}" fill="{PAPER}" rx="6"/>',
        _text(14, 29, dashboard["title"], INK, 'font-size="17" font-weight="600"'),
        _text(width - 14, 29, f"{date} {clock} UTC", PALE, 'font-size="11" text-anchor="end"'),
    ]
    for panel in dashboard["panels"]:
        lines = [line for query in panel["targets"] for line in _lines(ask, query, span)]
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP, HEAD + place["y"] * ROW
        size = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        draw = _stat if panel["type"] == "stat" else _chart
        shapes.append(f'<g transform="translate({x},{y})">{"".join(draw(panel, lines, span, *size))}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="Inter, Helvetica, Arial, sans-serif" role="img" '
        f'aria-label="{escape(dashboard["title"])}">{"".join(shapes)}</svg>\n'
    )


def _lines(ask: Ask, query: dict[str, Any], span: Span) -> Iterator[Line]:
    for series in ask(query["expr"], span.began, span.ended):
        legend = query["legendFormat"]
        for label, value in series["metric"].items():
            legend = legend.replace(f"{{{{{label}}}}}", value)
        points = tuple((at, float(value)) for at, value in series["values"] if value != "NaN")
        if points:
            yield Line(legend, points)


def _card(panel: dict[str, Any], width: float, height: float) -> Iterator[str]:
    yield f'<rect width="{width}" height="{height}" fill="{CARD}" stroke="{GRID}" rx="3"/>'
    yield _text(10, 19, panel["title"], INK, 'font-size="12" font-weight="600"')


def _stat(
    panel: dict[str, Any], lines: list[Line], _span: Span, width: float, height: float
) -> Iterator[str]:
    """The last value, large."""
    yield from _card(panel, width, height)
    said = (
        ", ".join(amount(line.last, panel["fieldConfig"]["defaults"]["unit"]) for line in lines) or "No data"
    )
    style = 'font-size="52" font-weight="600" text-anchor="middle"'
    yield _text(width / 2, height / 2 + 26, said, COLOURS[2], style)


def _chart(
    panel: dict[str, Any], lines: list[Line], span: Span, width: float, height: float
) -> Iterator[str]:
    yield from _card(panel, width, height)
    if not lines:
        yield _text(width / 2, height / 2, "No data", PALE, 'font-size="14" text-anchor="middle"')
        return
    rows, hidden = legend_rows([line.legend for line in lines], width - 2 * EDGE)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    bottom = height - 24 - LINE * len(rows)
    wide, high = width - LEFT - RIGHT, bottom - TOP
    marks = ticks(max(value for line in lines for _, value in line.points), unit)

    def place(at: float, value: float) -> str:
        x = LEFT + wide * (at - span.began) / (span.ended - span.began)
        return f"{x:.1f},{bottom - high * value / marks[-1]:.1f}"

    for mark in marks:
        _, _, y = place(span.began, mark).partition(",")
        yield f'<path d="M{LEFT} {y}h{wide}" stroke="{GRID}"/>'
        yield _text(LEFT - 6, float(y) + 3.5, amount(mark, unit), PALE, 'font-size="10" text-anchor="end"')
    for at in _minutes(span):
        x, _, _ = place(at, 0).partition(",")
        yield f'<path d="M{x} {TOP}v{high}" stroke="{GRID}"/>'
        clock = time.strftime("%H:%M", time.gmtime(at))
        yield _text(float(x), bottom + 13, clock, PALE, 'font-size="10" text-anchor="middle"')
    for index, line in reversed(list(enumerate(lines))):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(place(at, max(value, 0.0)) for at, value in line.points)
        dashes = ' stroke-dasharray="5 3"' if line.legend.endswith("wanted") else ""
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}/>'
    yield from _legend(rows, hidden, bottom + 28)


def legend_rows(legends: list[str], room: float) -> tuple[list[list[tuple[float, int, str]]], int]:
    """Legends set in lines of (x, number, text), and how many found no room."""
    rows: list[list[tuple[float, int, str]]] = [[]]
    x = float(EDGE)
    for number, legend in enumerate(legends):
        need = 30 + CHAR * len(legend)
        counter = 30 if len(rows) == MOST_ROWS else 0  # room for the number of those that are left out
        if rows[-1] and x + need > EDGE + room - counter:
            if len(rows) == MOST_ROWS:
                return rows, len(legends) - number
            rows.append([])
            x = float(EDGE)
        rows[-1].append((x, number, legend))
        x += need
    return rows, 0


def _legend(rows: list[list[tuple[float, int, str]]], hidden: int, top: float) -> Iterator[str]:
    for row, entries in enumerate(rows):
        y = top + LINE * row
        for x, number, text in entries:
            colour = COLOURS[number % len(COLOURS)]
            yield f'<path d="M{x:.1f} {y - 3.5:.1f}h14" stroke="{colour}" stroke-width="3"/>'
            yield _text(x + 18, y, text, INK, 'font-size="10"')
    if hidden:
        x, _, text = rows[-1][-1]
        yield _text(
            x + 30 + CHAR * len(text), top + LINE * (len(rows) - 1), f"+{hidden}", PALE, 'font-size="10"'
        )


def _text(x: float, y: float, text: str, colour: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {style}>{escape(text)}</text>'


def _minutes(span: Span) -> Iterator[float]:
    """Whole minutes within the span, at most nine of them."""
    step = 60 * max(1, math.ceil((span.ended - span.began) / 60 / 8))
    at = math.ceil(span.began / step) * step
    while at <= span.ended:
        yield float(at)
        at += step


def ticks(top: float, unit: str = "short") -> list[float]:
    """Round marks from 0 to the first one that is not below `top`: 3 to 6 of them."""
    if top <= 0:
        return [0.0, 1.0]
    base = 1024.0 ** math.floor(math.log(max(top, 1), 1024)) if unit == "bytes" else 1.0
    least = top / base / 4
    decade = 10.0 ** math.floor(math.log10(least))
    step = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * decade >= least * 0.999) * decade
    count = max(1, math.ceil(top / base / step - 1e-9))
    return [round(index * step, 12) * base for index in range(count + 1)]


SCALES: Final[dict[str, tuple[tuple[float, str], ...]]] = {
    "reqps": ((1, " req/s"),),
    "cps": ((1, " c/s"),),
    "percentunit": ((0.01, "%"),),
    "s": ((86400, " d"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")),
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "short": ((1e6, " M"), (1e3, " k"), (1, "")),
}
"""Grafana's name of a unit → how amounts of it are said, the largest scale first."""


def amount(value: float, unit: str) -> str:
    """A value in its unit, with three digits at most."""
    scales = SCALES[unit]
    scale, name = next((one for one in scales if abs(value) >= one[0]), scales[-1])
    if not value:
        scale, name = scales[-1] if unit != "s" else (1.0, " s")
    return f"{value / scale:.3g}{name}"
