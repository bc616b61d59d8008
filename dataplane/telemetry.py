"""Counters of one proxy: cheap to keep on the hot path, rendered as Prometheus text at scrape.

Series are plain lists in dicts keyed by small tuples. The number of series of a family is bounded;
what does not fit is counted in one overflow series, so that no client can make the proxy grow.
Label values come from configuration and from closed sets of reasons, never straight from a request.
This module must not know sockets or config; other parts register callbacks (`gauge`) that are read
at scrape. Text format: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

MAX_SERIES: Final = 1000
"""Series of one family before the overflow series takes the rest."""
OVERFLOW: Final = "overflow"
"""Value of every label of an overflow series."""
LATENCY_BUCKETS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds in seconds, inclusive."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_GRPC_STATUSES: Final = frozenset(str(number) for number in range(17))

_Series = TypeVar("_Series")

Labels = tuple[str, ...]
Reading = Callable[[], Iterable[tuple[Labels, float]]]
"""Called at scrape: (label values, value) pairs."""


class HttpSeries:
    """Requests of one (direction, peer, service, backend): outcomes and durations.

    Callers may keep it and call `observe` again, which saves the look-up.
    """

    __slots__ = ("buckets", "grpc", "outcomes", "seconds")

    def __init__(self) -> None:
        self.grpc: dict[str, int] = {}
        """`grpc-status` -> calls; what is no status of gRPC's is counted as "other"."""
        self.outcomes: dict[tuple[int, str], int] = {}
        """(status, own reason or "") -> requests. Statuses and reasons are closed sets."""
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        """Requests per bucket, not cumulative; the last is +Inf."""
        self.seconds = 0.0

    def observe(self, status: int, reason: str, seconds: float) -> None:
        """Count one finished exchange. `status` 0: the peer went away before there was one."""
        outcome = (status, reason)
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.buckets[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def observe_grpc(self, status: str) -> None:
        """Count how a gRPC call ended, beside `observe`: its HTTP status is 200 even when it failed."""
        key = status if status in _GRPC_STATUSES else "other"
        self.grpc[key] = self.grpc.get(key, 0) + 1


class TcpSeries:
    """Opaque connections of one (direction, peer, service, backend). Bytes as seen by the caller."""

    __slots__ = ("closed", "opened", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.opened = 0
        self.closed: dict[str, int] = {}
        self.sent = 0
        self.received = 0
        self.seconds = 0.0

    def close(self, sent: int, received: int, seconds: float, reason: str = "") -> None:
        """Count one finished connection; `reason` is "" or one of the proxy's own reasons."""
        self.closed[reason] = self.closed.get(reason, 0) + 1
        self.sent += sent
        self.received += received
        self.seconds += seconds


class Counter:
    """A family of plain counters with fixed label names."""

    __slots__ = ("_limit", "help", "labels", "name", "values")

    def __init__(self, name: str, help_text: str, labels: Sequence[str], limit: int = MAX_SERIES) -> None:
        self.name = name
        self.help = help_text
        self.labels = tuple(labels)
        self.values: dict[Labels, int] = {}
        self._limit = limit

    def add(self, values: Labels, amount: int = 1) -> None:
        """Add to the series with these label values, in the order of `labels`."""
        known = self.values.get(values)
        if known is None:
            if len(self.values) >= self._limit:
                values = (OVERFLOW,) * len(self.labels)
            known = self.values.get(values, 0)
        self.values[values] = known + amount


class Telemetry:
    """All counters of this proxy. One instance, made by `main` and handed to whoever counts."""

    __slots__ = ("_counters", "_denials", "_gauges", "_http", "_limit", "_tcp")

    def __init__(self, limit: int = MAX_SERIES) -> None:
        self._limit = limit
        self._http: dict[Labels, HttpSeries] = {}
        self._tcp: dict[Labels, TcpSeries] = {}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, tuple[str, str, Labels, Reading]] = {}
        self._denials = self.counter(
            "smi_mesh_denials_total", "Refusals by reason and denial id.", ("reason", "id", "target")
        )

    # --- hot path ------------------------------------------------------------------------------

    def http_series(self, direction: str, peer: str, service: str, backend: str) -> HttpSeries:
        """The series of these requests; made at first use.

        `direction` is "inbound" or "outbound"; `peer` the SPIFFE id of the other side ("" if it has
        none); `service` the root `namespace/name` or ""; `backend` the backend service of a split or "".
        """
        key = (direction, peer, service, backend)
        series = self._http.get(key)
        if series is None:
            series = _bounded(self._http, key, self._limit, HttpSeries)
        return series

    def http(
        self, direction: str, peer: str, service: str, backend: str, status: int, reason: str, seconds: float
    ) -> None:
        """Count one finished HTTP exchange (see `http_series`, `HttpSeries.observe`)."""
        self.http_series(direction, peer, service, backend).observe(status, reason, seconds)

    def tcp_series(self, direction: str, peer: str, service: str, backend: str) -> TcpSeries:
        """The series of these opaque connections; made at first use."""
        key = (direction, peer, service, backend)
        series = self._tcp.get(key)
        if series is None:
            series = _bounded(self._tcp, key, self._limit, TcpSeries)
        return series

    def tcp_open(self, direction: str, peer: str, service: str, backend: str) -> TcpSeries:
        """Count one opened connection. The series is to be told of its end: `series.close(...)`."""
        series = self.tcp_series(direction, peer, service, backend)
        series.opened += 1
        return series

    def tcp_close(
        self,
        direction: str,
        peer: str,
        service: str,
        backend: str,
        sent: int,
        received: int,
        seconds: float,
        reason: str = "",
    ) -> None:
        """Count one closed connection, for callers that kept no series."""
        self.tcp_series(direction, peer, service, backend).close(sent, received, seconds, reason)

    def denial(self, reason: str, denial_id: str, target: str) -> None:
        """Count one refusal (or would-be refusal: the caller says so in `reason`)."""
        self._denials.add((reason, denial_id, target))

    # --- set-up --------------------------------------------------------------------------------

    def counter(self, name: str, help_text: str, labels: Sequence[str], limit: int = MAX_SERIES) -> Counter:
        """A counter family of that name; the same one on a second call. `limit`: most series of it."""
        known = self._counters.get(name)
        if known is None:
            known = self._counters[name] = Counter(name, help_text, labels, min(limit, self._limit))
        if known.labels != tuple(labels):
            raise ValueError(f"{name} already has labels {known.labels}, not {tuple(labels)}")
        return known

    def gauge(
        self, name: str, help_text: str, labels: Sequence[str], read: Reading, kind: str = "gauge"
    ) -> None:
        """Register a callback that is read at scrape (connections, pools, revision, expiry …).

        `kind` "counter" is for monotonic values that are kept elsewhere.
        """
        self._gauges[name] = (kind, help_text, tuple(labels), read)

    # --- scrape --------------------------------------------------------------------------------

    def render(self) -> bytes:
        """All families as Prometheus text."""
        lines: list[str] = []
        self._render_http(lines)
        self._render_tcp(lines)
        for counter in self._counters.values():
            _family(lines, "counter", counter.name, counter.help)
            lines.extend(_line(counter.name, counter.labels, *item) for item in counter.values.items())
        for name, (kind, help_text, labels, read) in self._gauges.items():
            _family(lines, kind, name, help_text)
            lines.extend(_line(name, labels, *item) for item in read())
        lines.append("")
        return "\n".join(lines).encode()

    def _render_http(self, lines: list[str]) -> None:
        names = ("direction", "peer", "service", "backend")
        _family(lines, "counter", "smi_mesh_requests_total", "Finished HTTP exchanges.")
        lines.extend(
            _line("smi_mesh_requests_total", (*names, "status", "reason"), (*key, str(status), reason), count)
            for key, series in self._http.items()
            for (status, reason), count in series.outcomes.items()
        )
        name = "smi_mesh_grpc_responses_total"
        _family(lines, "counter", name, "Finished gRPC calls by the status in their trailers.")
        lines.extend(
            _line(name, (*names, "grpc_status"), (*key, status), count)
            for key, series in self._http.items()
            for status, count in series.grpc.items()
        )
        name = "smi_mesh_request_duration_seconds"
        _family(lines, "histogram", name, "Time from the end of the request's head to the response's end.")
        for key, series in self._http.items():
            total = 0
            for bound, count in zip((*LATENCY_BUCKETS, None), series.buckets, strict=True):
                total += count
                text = "+Inf" if bound is None else f"{bound:g}"
                lines.append(_line(f"{name}_bucket", (*names, "le"), (*key, text), total))
            lines.append(_line(f"{name}_sum", names, key, series.seconds))
            lines.append(_line(f"{name}_count", names, key, total))

    def _render_tcp(self, lines: list[str]) -> None:
        names = ("direction", "peer", "service", "backend")
        plain: tuple[tuple[str, str, Callable[[TcpSeries], float]], ...] = (
            ("smi_mesh_tcp_opened_total", "Opaque connections opened.", lambda series: series.opened),
            ("smi_mesh_tcp_sent_bytes_total", "Bytes sent to the server side.", lambda series: series.sent),
            ("smi_mesh_tcp_received_bytes_total", "Bytes received from it.", lambda series: series.received),
            ("smi_mesh_tcp_seconds_total", "Time closed ones were open.", lambda series: series.seconds),
        )
        for name, help_text, read in plain:
            _family(lines, "counter", name, help_text)
            lines.extend(_line(name, names, key, read(series)) for key, series in self._tcp.items())
        name = "smi_mesh_tcp_closed_total"
        _family(lines, "counter", name, "Opaque connections closed, by the proxy's reason if it closed them.")
        lines.extend(
            _line(name, (*names, "reason"), (*key, reason), count)
            for key, series in self._tcp.items()
            for reason, count in series.closed.items()
        )


def _bounded(series: dict[Labels, _Series], key: Labels, limit: int, make: Callable[[], _Series]) -> _Series:
    if len(series) >= limit:
        key = (OVERFLOW,) * len(key)
    return series.setdefault(key, make())


def _family(lines: list[str], kind: str, name: str, help_text: str) -> None:
    lines.append(f"# HELP {name} {help_text}")
    lines.append(f"# TYPE {name} {kind}")


def _line(name: str, labels: Labels, values: Labels, value: float) -> str:
    inner = ",".join(f'{label}="{_escape(text)}"' for label, text in zip(labels, values, strict=True))
    return f"{name}{{{inner}}} {value!r}" if inner else f"{name} {value!r}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
