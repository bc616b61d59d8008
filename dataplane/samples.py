"""The proxy's counters as data: one row per edge, for whoever adds up many proxies (TrafficMetrics, S30).

Cumulative since the start, or of the last seconds: every TICK_SECONDS a `Ring` notes where the
counters stand. Knows no clock and no sockets. The form is described in docs/metrics.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dataplane.telemetry import MILLISECONDS, Edge, HttpSeries, Own, TcpSeries, Telemetry, is_failure
from smi.names import Workload

VERSION: Final = 1
TICK_SECONDS: Final = 5.0
LONGEST_WINDOW: Final = 60
"""Seconds."""


@dataclass(frozen=True, slots=True)
class HttpCounts:
    """Exchanges of one edge. `buckets` as MILLISECONDS and +Inf, not cumulative."""

    success: int
    failure: int
    seconds: float
    buckets: tuple[int, ...]

    def since(self, before: HttpCounts | None) -> HttpCounts:
        """What came after `before`."""
        if before is None:
            return self
        return HttpCounts(
            self.success - before.success,
            self.failure - before.failure,
            self.seconds - before.seconds,
            tuple(now - then for now, then in zip(self.buckets, before.buckets, strict=True)),
        )


@dataclass(frozen=True, slots=True)
class TcpCounts:
    """Opaque connections of one edge."""

    opened: int
    closed: int
    sent: int
    received: int

    def since(self, before: TcpCounts | None) -> TcpCounts:
        """What came after `before`."""
        if before is None:
            return self
        return TcpCounts(
            self.opened - before.opened,
            self.closed - before.closed,
            self.sent - before.sent,
            self.received - before.received,
        )


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where all counters stood at one moment."""

    time: float
    http: Mapping[Edge, HttpCounts]
    tcp: Mapping[Edge, TcpCounts]


class Ring:
    """Where the counters stood over the last LONGEST_WINDOW seconds. `started`: Unix time of the start."""

    def __init__(self, telemetry: Telemetry, started: float) -> None:
        self._telemetry = telemetry
        self._started = started
        self._past: deque[_Standing] = deque(maxlen=int(LONGEST_WINDOW / TICK_SECONDS) + 1)
        self._past.append(_Standing(started, {}, {}))

    def tick(self, now: float) -> None:
        """Note where the counters stand; to be called every TICK_SECONDS. `now`: Unix time."""
        self._past.append(self._standing(now))

    def samples(self, own: Own, now: float, window: int | None) -> dict[str, Any]:
        """The rows of the last `window` seconds (as near as ticks allow), or of all time."""
        standing = self._standing(now)
        before = _Standing(self._started, {}, {})
        if window is not None:
            before = min(self._past, key=lambda past: abs(now - window - past.time))
        http = ((edge, counts.since(before.http.get(edge))) for edge, counts in standing.http.items())
        tcp = ((edge, counts.since(before.tcp.get(edge))) for edge, counts in standing.tcp.items())
        return {
            "version": VERSION,
            "pod": own.pod,
            "workload": _workload(own.workload),
            "identity": own.identity,
            "started": self._started,
            "now": now,
            "window_seconds": max(0.0, now - before.time),
            "bounds_ms": list(MILLISECONDS),
            "http": [_http_row(edge, counts) for edge, counts in http if counts.success or counts.failure],
            "tcp": [_tcp_row(edge, counts) for edge, counts in tcp if counts.opened or counts.closed],
            "folded": self._telemetry.folded,
        }

    def _standing(self, now: float) -> _Standing:
        before = self._past[-1]
        return _Standing(
            now,
            {
                edge: _http_counts(series, before.http.get(edge))
                for edge, series in self._telemetry.http_edges()
            },
            {edge: _tcp_counts(series) for edge, series in self._telemetry.tcp_edges()},
        )


def _http_counts(series: HttpSeries, before: HttpCounts | None) -> HttpCounts:
    """Where nothing happened the former counts are kept: memory follows what is busy."""
    success, failure, seconds = 0, 0, 0.0
    found = list(series.exchanges.items())
    for outcome, same in found:
        if is_failure(outcome):
            failure += same.count
        else:
            success += same.count
        seconds += same.seconds
    if before is not None and (before.success, before.failure) == (success, failure):
        return before
    columns: Iterable[tuple[int, ...]] = zip(*(same.buckets for _, same in found), strict=True)
    buckets = tuple(sum(column) for column in columns) or (0,) * (len(MILLISECONDS) + 1)
    return HttpCounts(success, failure, seconds, buckets)


def _tcp_counts(series: TcpSeries) -> TcpCounts:
    return TcpCounts(series.opened, sum(series.closed.values()), series.sent, series.received)


def _http_row(edge: Edge, counts: HttpCounts) -> dict[str, Any]:
    return {
        **_edge(edge),
        "success": counts.success,
        "failure": counts.failure,
        "sum_ms": counts.seconds * 1000,
        "buckets": list(counts.buckets),
    }


def _tcp_row(edge: Edge, counts: TcpCounts) -> dict[str, Any]:
    return {
        **_edge(edge),
        "opened": counts.opened,
        "closed": counts.closed,
        "sent_bytes": counts.sent,
        "received_bytes": counts.received,
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "direction": edge.direction,
        "service": edge.service,
        "backend": edge.backend,
        "split": edge.split,
        "peer": {
            "pod": edge.pod,
            "namespace": edge.pod.partition("/")[0],
            "workload": _workload(edge.workload),
            "identity": edge.peer,
        },
    }


def _workload(text: str) -> dict[str, str]:
    workload = Workload.parse(text)
    return {
        "kind": workload.kind,
        "name": workload.name,
        "app": workload.app,
        "version": workload.version,
    }
