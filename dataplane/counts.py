"""Counters on their way from one process to another: taken out of the one, added to the other.

JSON-able, and known to this module only: both ends are the same version of the sidecar.
"""

from __future__ import annotations

from typing import Any

from dataplane.page import Exemplar
from dataplane.telemetry import Exchanges, Labels, Telemetry

Counts = dict[str, Any]


def take(telemetry: Telemetry) -> Counts:
    """Everything counted since the last call. Gauges stay where they are and are read."""
    http = []
    for key, series in telemetry._http.items():
        if series.exchanges:
            http.append([key, [[*outcome, *_columns(same)] for outcome, same in series.exchanges.items()]])
            series.exchanges.clear()  # whoever counts keeps the series, not what is in it
    tcp = []
    for key, one in telemetry._tcp.items():
        if one.opened or one.closed:
            tcp.append([key, one.opened, one.closed, one.sent, one.received, one.seconds])
            one.opened = one.sent = one.received = 0
            one.seconds = 0.0
            one.closed = {}
    counters = []
    for counter in telemetry._counters.values():
        if counter.values:
            counters.append([counter.name, counter.help, counter.labels, list(counter.values.items())])
            counter.values.clear()
    gauges = [
        [name, kind, text, labels, list(read())]
        for name, (kind, text, labels, read) in telemetry._gauges.items()
    ]
    return {"http": http, "tcp": tcp, "counters": counters, "gauges": gauges}


def add(telemetry: Telemetry, counts: Counts) -> None:
    """Count what another process counted. Its gauges are not looked at."""
    for key, outcomes in counts["http"]:
        exchanges = telemetry.http_series(*key).exchanges
        for status, reason, grpc, *columns in outcomes:
            _add(exchanges.setdefault((status, reason, grpc), Exchanges()), *columns)
    for key, opened, closed, sent, received, seconds in counts["tcp"]:
        one = telemetry.tcp_series(*key)
        one.opened += opened
        one.sent += sent
        one.received += received
        one.seconds += seconds
        for reason, number in closed.items():
            one.closed[reason] = one.closed.get(reason, 0) + number
    for name, text, labels, values in counts["counters"]:
        counter = telemetry.counter(name, text, labels)
        for label_values, number in values:
            counter.add(tuple(label_values), number)


def _columns(same: Exchanges) -> list[Any]:
    exemplars = [[bucket, one.trace, one.value, one.time] for bucket, one in same.exemplars.items()]
    return [
        same.buckets,
        same.seconds,
        same.request_bytes,
        same.response_bytes,
        same.request_sizes,
        same.response_sizes,
        exemplars,
    ]


def _add(
    same: Exchanges,
    buckets: list[int],
    seconds: float,
    request_bytes: int,
    response_bytes: int,
    request_sizes: list[int],
    response_sizes: list[int],
    exemplars: list[tuple[int, str, float, float]],
) -> None:
    _sum(same.buckets, buckets)
    same.seconds += seconds
    same.request_bytes += request_bytes
    same.response_bytes += response_bytes
    _sum(same.request_sizes, request_sizes)
    _sum(same.response_sizes, response_sizes)
    for bucket, trace, value, time in exemplars:
        same.exemplars[bucket] = Exemplar(trace, value, time)


def _sum(into: list[int], more: list[int]) -> None:
    for place, number in enumerate(more):
        into[place] += number


class Readings:
    """The gauges of several processes, each summed with the reading of this one, if it has one."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._latest: dict[int, dict[str, dict[Labels, float]]] = {}
        self._ended: dict[str, dict[Labels, float]] = {}
        self._kinds: dict[str, str] = {}

    def note(self, process: int, counts: Counts) -> None:
        """What the gauges of `process` say now."""
        latest: dict[str, dict[Labels, float]] = {}
        for name, kind, text, labels, values in counts["gauges"]:
            latest[name] = {tuple(label_values): value for label_values, value in values}
            if name not in self._kinds:
                self._kinds[name] = kind
                self._register(name, kind, text, tuple(labels))
        self._latest[process] = latest

    def forget(self, process: int) -> None:
        """It has ended: what it only counted up stays counted."""
        for name, values in self._latest.pop(process, {}).items():
            if self._kinds[name] == "counter":
                _accumulate(self._ended.setdefault(name, {}), values)

    def _register(self, name: str, kind: str, text: str, labels: Labels) -> None:
        own = self._telemetry._gauges.get(name)
        read_own = own[3] if own is not None else None

        def read() -> list[tuple[Labels, float]]:
            found: dict[Labels, float] = dict(self._ended.get(name, {}))
            if read_own is not None:
                _accumulate(found, dict(read_own()))
            for latest in self._latest.values():
                _accumulate(found, latest.get(name, {}))
            return list(found.items())

        self._telemetry.gauge(name, text, labels, read, kind)


def _accumulate(into: dict[Labels, float], more: dict[Labels, float]) -> None:
    for values, number in more.items():
        into[values] = into.get(values, 0.0) + number
