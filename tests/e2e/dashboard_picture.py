"""Draws panels of our Grafana dashboards from a real run: `python -m tests.e2e.dashboard_picture FILE.svg`.

Grafana is not needed and not imitated: each panel's own queries are sent to the Prometheus of a real mesh
under load, and what they answer is drawn as lines.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from html import escape
from pathlib import Path
from typing import Any, Final

from controller.monitoring import dashboards
from tests.e2e import policies
from tests.e2e.harness import NAMESPACE, start_cluster
from tests.e2e.test_metrics import CANARY, CANARY_SPLIT, PRIMARY, SHOP, Observed

SHOWN: Final = (
    ("smi-mesh-services", "Requests per second"),
    ("smi-mesh-services", "Share of failures"),
    ("smi-mesh-services", "Latency (p50, p90, p99)"),
    ("smi-mesh-policy", "Share of each backend, wanted and observed"),
    ("smi-mesh-policy", "Refusals per second"),
    ("smi-mesh-proxies", "Idle pooled connections"),
)
STEPS: Final = ((0, ""), (25, ""), (50, ""), (75, "&status=503"))
"""Weight of the canary, and what a twentieth of the requests ask of it, one after the other."""
STEP_SECONDS: Final = 25
WIDTH, HEIGHT, MARGIN, LEGEND = 460, 190, 46, 6
COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")


def main(target: Path) -> None:
    """Run the mesh, play the load, write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "cluster"
        cluster = start_cluster(state, "--prometheus", "--scrape-seconds", "1")
        try:
            observed = Observed(cluster, cluster.local("status")["prometheus"])
            began, ended = _play(observed)
            target.write_text(_picture(observed, began, ended), encoding="utf-8")
        finally:
            subprocess.run(
                [*cluster.command, "local", "down", "--state-dir", str(state)], check=True, timeout=60
            )


def _play(observed: Observed) -> tuple[float, float]:
    cluster = observed.cluster
    cluster.kubectl("apply", "-f", "-", text=SHOP)
    everything = "[{kind: TCPRoute, name: everything}]"
    grants = "".join(policies.allow("web", to, rules=everything) for to in (CANARY, PRIMARY))
    cluster.apply(policies.tcp_route("everything") + grants)
    available = ("--for=condition=Available", "deployment", "--all", "--timeout=60s")
    cluster.kubectl("wait", "-n", NAMESPACE, *available)
    began = time.time()
    for weight, wish in STEPS:
        split = CANARY_SPLIT.replace("weight: 25", f"weight: {weight}").replace(
            "weight: 75", f"weight: {100 - weight}"
        )
        cluster.apply(split)
        cluster.programmed("trafficsplit", "podinfo")
        calls = [("web", "bytes=100", 0.005)]
        if wish:
            calls += [("web", wish.lstrip("&"), 0.1), ("stranger", "", 0.2)]
        threads = [threading.Thread(target=_call, args=(observed, *call)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return began, time.time()


def _call(observed: Observed, app: str, query: str, interval: float) -> None:
    url = f"http://podinfo.{NAMESPACE}:8080/?{query}"
    observed.cluster.call(app, url=url, seconds=STEP_SECONDS, interval=interval, concurrency=1)


def _picture(observed: Observed, began: float, ended: float) -> str:
    panels = []
    for place, (name, title) in enumerate(SHOWN):
        (panel,) = [panel for panel in dashboards()[name]["panels"] if panel["title"] == title]
        lines = [line for query in panel["targets"] for line in _lines(observed, query, began, ended)]
        x, y = (WIDTH + 20) * (place % 2) + 10, (HEIGHT + 20) * (place // 2) + 10
        panels.append(f'<g transform="translate({x},{y})">{_panel(panel, lines, ended - began)}</g>')
    width, height = 2 * WIDTH + 40, (HEIGHT + 20) * ((len(SHOWN) + 1) // 2) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="10"><rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


Line = tuple[str, list[tuple[float, float]]]


def _lines(observed: Observed, query: dict[str, Any], began: float, ended: float) -> list[Line]:
    """(legend, points of seconds and value) of every series a query of a panel gives."""
    data = observed.ask("query_range", query=query["expr"], start=str(began), end=str(ended), step="1")
    found = []
    for series in data["result"]:
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
    inner, floor = WIDTH - MARGIN - 10, HEIGHT - 62
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
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
