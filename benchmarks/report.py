"""The rows as a table for the terminal and as a chart (SVG) for the docs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from rich.table import Table

from benchmarks.rows import Row

_WIDTH: Final = 860
_BAR: Final = 26
_LEFT: Final = 380
_SPAN: Final = 330
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
    """Ratios as bars on a logarithmic scale, with a mark at each goal. Self-contained SVG."""
    shown = [row for row in rows if row.ratio is not None and row.ratio > 0]
    height = 70 + _BAR * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_STYLE}>',
        "<title>Ratios of smi-mesh to its peers</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="15" fill="#1b1f24">smi-mesh ÷ peer, with goals</text>',
        '<text x="16" y="42" fill="#57606a">logarithmic; ▲ goal, green: met; for ≤ shorter is better</text>',
    ]
    base = _place(1.0)
    bottom = 56 + _BAR * len(shown)
    parts.append(
        f'<line x1="{base}" y1="52" x2="{base}" y2="{bottom}" stroke="#8c959f" stroke-dasharray="3 3"/>'
    )
    for index, row in enumerate(shown):
        parts += _bar(row, 56 + index * _BAR)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _place(ratio: float) -> float:
    """x of a ratio between 1/8 and 8."""
    part = (math.log2(min(max(ratio, 1 / 8), 8)) + 3) / 6
    return round(_LEFT + part * _SPAN, 1)


def _bar(row: Row, top: int) -> list[str]:
    assert row.ratio is not None
    colour = {True: "#2da44e", False: "#cf222e", None: "#6e7781"}[row.met]
    end, start = _place(row.ratio), _place(1 / 8)
    width, tall = max(end - start, 1.0), _BAR - 10
    label = escape(f"{row.work} — {row.metric}"[:62])
    against = escape(f"{row.ratio:.2f} × {row.peer}")
    parts = [
        f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end" fill="#1b1f24">{label}</text>',
        f'<rect x="{start}" y="{top + 4}" width="{width:.1f}" height="{tall}" fill="{colour}"/>',
        f'<text x="{_LEFT + _SPAN + 10}" y="{top + 15}" fill="#1b1f24">{against}</text>',
    ]
    if row.goal is not None:
        x = _place(row.goal.bound)
        parts.append(f'<path d="M{x} {top + 16} l-4 7 h8 z" fill="#1b1f24"/>')
    return parts
