"""Open Service Mesh's SMI metrics (its `stats` filter), as its sidecars report them.

OSM's proxies report what their own app sends, and only that: each request is counted once, at its
source. Histograms have Envoy's default buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dataplane.dialects.sides import UNKNOWN, Side, far_side, own_side
from dataplane.page import Bounds, Page, labels
from dataplane.telemetry import SECONDS, Edge, Exchanges, Outcome, Own, Telemetry, add, merge

_BOUNDS: Final = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000),
    *(600_000, 1_800_000, 3_600_000),
)
_MILLISECONDS: Final = Bounds(SECONDS, (bound / 1000 for bound in _BOUNDS), 1000)
_LABELS: Final = (
    *(f"source_{name}" for name in ("namespace", "kind", "name", "pod")),
    *(f"destination_{name}" for name in ("namespace", "kind", "name", "pod")),
)


class Osm:
    """Writes the dialect."""

    def __init__(self) -> None:
        self._own = Own("")
        self._texts: dict[Edge, str] = {}

    def write(self, page: Page, telemetry: Telemetry, own: Own) -> Iterator[None]:
        """Write every family; a caller with other things to do may stop at every yield."""
        if own != self._own:
            self._own = own
            self._texts.clear()
        rows: dict[tuple[str, Outcome], Exchanges] = {}
        counted = (
            (self._labels(edge), outcome, same)
            for edge, series in telemetry.http_edges()
            if edge.direction != "inbound"
            for outcome, same in list(series.exchanges.items())
        )
        yield from merge(counted, rows)
        requests: dict[str, int] = {}
        durations: dict[str, Exchanges] = {}
        for (where, (status, _, _)), same in rows.items():
            yield
            row = f'response_code="{status}",{where}'
            requests[row] = requests.get(row, 0) + same.count
            add(durations.setdefault(where, Exchanges()), same)
        yield
        page.family("counter", "osm_request_total", "Requests sent.")
        for row, count in requests.items():
            page.sample("osm_request_total", row, count)
        yield
        name = "osm_request_duration_ms"
        page.family("histogram", name, "Duration of requests sent.")
        for row, same in durations.items():
            page.histogram(name, row, _MILLISECONDS, same.buckets, same.seconds, same.exemplars)
            yield

    def _labels(self, edge: Edge) -> str:
        text = self._texts.get(edge)
        if text is None:
            sides = (*_side(own_side(self._own)), *_side(far_side(edge)))
            text = self._texts[edge] = labels(_LABELS, sides)
        return text


def _side(side: Side) -> tuple[str, ...]:
    return (
        side.namespace or UNKNOWN,
        side.kind or UNKNOWN,
        side.workload or UNKNOWN,
        side.pod or UNKNOWN,
    )
