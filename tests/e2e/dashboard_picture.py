"""Draws panels of our Grafana dashboards from what a real Prometheus answers.

Grafana is not needed and not imitated: each panel's own queries are sent, and the answers drawn as lines.
`tests/e2e/test_metrics.py` does so in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any, Final

from controller.monitoring import dashboards

SHOWN: Final = (
    ("smi-mesh-services", "Requests per second"),
    ("smi-mesh-services", "Share of failures"),
    ("smi-mesh-services", "Latency (p50, p90, p99)"),
    ("smi-mesh-policy", "Share of each backend, wanted and observed"),
    ("smi-mesh-policy", "Refusals per second"),
    ("smi-mesh-proxies", "Idle pooled connections"),
)
WIDTH, HEIGHT, MARGIN, LEGEND = 460, 190, 46, 6
COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")

Ask = Callable[[str, float, float], list[dict[str, Any]]]
"""(PromQL, begin, end in Unix time) → the series of a range query, a point a second."""
Line = tuple[str, list[tuple[float, float]]]
"""Legend, and points of seconds and value."""


def picture(ask: Ask, began: float, ended: float) -> str:
    """The panels of SHOWN between two moments, as SVG."""
    panels = []
    for place, (name, title) in enumerate(SHOWN):
        (panel,) = [panel for panel in dashboards()[name]["panels"] if panel["title"] == title]
        lines = [line for query in panel["targets"] for line in _lines(ask, query, began, ended)]
        x, y = (WIDTH + 20) * (place % 2) + 10, (HEIGHT + 20) * (place // 2) + 10
        panels.append(f'<g transform="translate({x},{y})">{_panel(panel, lines, ended - began)}</g>')
    width, height = 2 * WIDTH + 40, (HEIGHT + 20) * ((len(SHOWN) + 1) // 2) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="10"><rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


def _lines(ask: Ask, query: dict[str, Any], began: float, ended: float) -> list[Line]:
    found = []
    for series in ask(query["expr"], began, ended):
        legend = query["legendFormat"]
        for label, value in series["metric"].items():
            legend = legend.replace(f"{{{{{label}}}}}", value)
        points = [(at - began, float(value)) for at, value in series["values"] if value != "NaN"]
        if points:
            found.append((legend, points))
    return found


def _panel(panel: dict[str, Any], lines: list[Line], seconds: float) -> str:
    top = max((value for _, points in lines for _, value in points), default=0.0) or 1.0
    unit = panel["fieldConfig"]["defaults"]["unit"]
    inner, floor = WIDTH - MARGIN - 10, HEIGHT - 72
    shapes = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>',
        f'<text x="8" y="16" font-size="12" font-weight="bold">{escape(panel["title"])}</text>',
    ]
    for part in (0.0, 0.5, 1.0):
        y = 30 + floor * (1 - part)
        shapes.append(f'<path d="M{MARGIN} {y:.1f}h{inner}" stroke="#eee"/>')
        text = _amount(top * part, unit)
        shapes.append(f'<text x="{MARGIN - 4}" y="{y + 3:.1f}" text-anchor="end" fill="#666">{text}</text>')
    for index, (legend, points) in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(
            f"{MARGIN + inner * at / seconds:.1f},{30 + floor * (1 - value / top):.1f}"
            for at, value in points
        )
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        if index < LEGEND:
            x, y = 8 + (WIDTH // 2) * (index % 2), HEIGHT - 24 + 10 * (index // 2)
            shapes.append(f'<text x="{x}" y="{y}" font-size="8" fill="{colour}">{escape(legend[:52])}</text>')
    return "".join(shapes)


def _amount(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.0%}"
    if unit == "s":
        return f"{value * 1000:.0f} ms"
    return f"{value:.3g}"
