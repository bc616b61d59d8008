"""The rows as a table for the terminal and as a chart (SVG) for the docs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from rich.table import Table

from benchmarks.rows import Row

_WIDTH: Final = 860
_BAR: Final = 28
_HEADING: Final = 34
_LEFT: Final = 350
_SPAN: Final = 360
_INK: Final = "#1b1f24"
_GREY: Final = "#57606a"
_STYLE: Final = 'role="img" font-family="system-ui, sans-serif" font-size="12"'


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> Table:
    """One line per row."""
    made = Table(title="smi-mesh beside other proxies, same run, one core each", expand=False)
    for name in ("work", "metric", "ours", "peer", "peer's", "ratio", "goal", "met"):
        made.add_column(name, justify="right" if name in ("ours", "peer's", "ratio") else "left")
    words = {True: "[green]yes[/green]", False: "[red]no[/red]", None: ""}
    for row in rows:
        mine = row.note or "not yet" if row.ours is None else _number(row.ours)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        goal = "" if row.goal is None else f"{row.goal}"
        made.add_row(
            row.work, row.metric, mine, row.peer, _number(row.peer_value), ratio, goal, words[row.met]
        )
    return made


def chart(rows: Sequence[Row]) -> str:
    """Ratios as bars that begin at the peer's value, on a logarithmic scale, with a mark at each goal.

    Self-contained SVG, in two parts: what should be more than the peer's, and what should be less.
    """
    shown = [row for row in rows if row.ratio is not None and row.ratio > 0]
    less = {(row.work, row.metric) for row in shown if row.goal is not None and not row.goal.at_least}
    parts = [
        "<title>Ratios of smi-mesh to its peers</title>",
        f'<text x="16" y="24" font-size="15" fill="{_INK}">smi-mesh ÷ peer</text>',
        f'<text x="16" y="42" fill="{_GREY}">logarithmic, from the peer’s value; ▲ goal; green: met</text>',
    ]
    top = 56
    for title, below in (("More is better", False), ("Less is better", True)):
        part = [row for row in shown if ((row.work, row.metric) in less) is below]
        if part:
            drawn, top = _part(title, part, top)
            parts += drawn
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" {_STYLE}>',
            f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _part(title: str, rows: Sequence[Row], top: int) -> tuple[list[str], int]:
    """A heading and a bar for each row from `top` down; (what is drawn, where it ends)."""
    end = top + _HEADING + _BAR * len(rows)
    base = _place(1.0)
    parts = [
        f'<text x="16" y="{top + 20}" font-size="14" font-weight="600" fill="{_INK}">{title}</text>',
        f'<line x1="{base}" y1="{top + _HEADING - 4}" x2="{base}" y2="{end}" stroke="#8c959f"/>',
    ]
    labelled = None
    for index, row in enumerate(rows):
        place = top + _HEADING + index * _BAR
        if labelled != (row.work, row.metric):
            labelled = (row.work, row.metric)
            right = f'x="{_LEFT - 8}" text-anchor="end"'
            work, metric = escape(row.work), escape(row.metric)
            parts += [
                f'<text y="{place + 12}" {right} fill="{_INK}">{work}</text>',
                f'<text y="{place + 24}" {right} fill="{_GREY}" font-size="10">{metric}</text>',
            ]
        parts += _bar(row, place)
    return parts, end + 12


def _place(ratio: float) -> float:
    """x of a ratio between 1/8 and 4."""
    part = (math.log2(min(max(ratio, 1 / 8), 4)) + 3) / 5
    return round(_LEFT + part * _SPAN, 1)


def _bar(row: Row, top: int) -> list[str]:
    assert row.ratio is not None
    colour = {True: "#2da44e", False: "#cf222e", None: "#8c959f"}[row.met]
    ends = sorted((_place(row.ratio), _place(1.0)))
    width = max(ends[1] - ends[0], 1.0)
    against = escape(f"{row.ratio:.2f} × {row.peer}")
    parts = [
        f'<rect x="{ends[0]}" y="{top + 4}" width="{width:.1f}" height="{_BAR - 12}" fill="{colour}"/>',
        f'<text x="{_LEFT + _SPAN + 10}" y="{top + 15}" fill="{_INK}">{against}</text>',
    ]
    if row.goal is not None:
        x = _place(row.goal.bound)
        parts.append(f'<path d="M{x} {top + _BAR - 9} l-4 7 h8 z" fill="{_INK}"/>')
    return parts
