"""Counters of one proxy: cheap to keep on the hot path, read at scrape only.

There is one set of counters. A series is what happens between this proxy and one other side; it is
looked up once per connection or way and then kept by whoever counts, so that an exchange costs one
dict look-up and a few additions. What a scrape looks like is decided elsewhere: `write` gives our
own families (`smi_mesh_*`), `dataplane.dialects` those that other meshes' tools query.

The number of series is bounded; what does not fit is folded together, and counted, so that no
client can make the proxy grow. Label values come from configuration, certificates and closed sets,
never straight from a request. This module must not know sockets or config; other parts register
callbacks (`gauge`) that are read at scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from dataplane.page import Bounds, Exemplar, Page, labels

MAX_SERIES: Final = 1000
"""Series of one family before an overflow series takes the rest; half of them may name a pod."""
MAX_OUTCOMES: Final = 64
"""(status, reason, gRPC status) told apart within one series; then only the status' class is."""
OVERFLOW: Final = "overflow"
"""Value of every label of an overflow series."""

MILLISECONDS: Final[tuple[float, ...]] = (
    *(0.5, 1, 2, 2.5, 3, 4, 5, 10, 20, 25, 30, 40, 50, 100, 200, 250, 300, 400, 500),
    *(1000, 2000, 2500, 3000, 4000, 5000, 10_000, 20_000, 30_000, 40_000, 50_000),
    *(60_000, 300_000, 600_000, 1_800_000, 3_600_000),
)
"""Upper bounds, inclusive, of the buckets that durations are counted in: every dialect's are among them."""
SECONDS: Final[tuple[float, ...]] = tuple(bound / 1000 for bound in MILLISECONDS)
LATENCY_BUCKETS: Final[tuple[float, ...]] = (
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
"""Upper bounds in seconds of our own histogram."""
SIZES: Final[tuple[float, ...]] = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000),
    *(600_000, 1_800_000, 3_600_000),
)
"""Upper bounds in bytes of the buckets that body sizes are counted in (Envoy's default ones)."""
EXEMPLAR_SECONDS: Final = 1.0
"""A series looks for a trace to show at most this often."""

_GRPC_STATUSES: Final = frozenset(str(number) for number in range(17))
_OWN_BOUNDS: Final = Bounds(SECONDS, LATENCY_BUCKETS)

_MERGED_AT_ONCE: Final = 16

_Series = TypeVar("_Series")

Labels = tuple[str, ...]
Reading = Callable[[], Iterable[tuple[Labels, float]]]
"""Called at scrape: (label values, value) pairs."""
Outcome = tuple[int, str, str]
"""(status, own reason or "", gRPC status or ""): how an exchange ended. Status 0: there was none."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What a series is about. All empty texts mean: not known, or not said."""

    direction: str
    """"inbound": the other side called us; "outbound": we called it."""
    peer: str
    """SPIFFE id of the other side, proven (inbound) or demanded (outbound)."""
    service: str
    """Root service `namespace/name` (outbound); the Service of the port (inbound)."""
    backend: str
    """Backend service of the split that decided (outbound)."""
    pod: str = ""
    """`namespace/name` of the other side."""
    workload: str = ""
    """What that pod is an instance of, as `smi.names.Workload` writes it."""
    split: str = ""
    """`namespace/name` of the TrafficSplit that decided."""


_UNKNOWN: Final = Edge("", "", "", "")
_Key = tuple[str, str, str, str, str, str, str]


class Exchanges:
    """The exchanges of one series with one outcome."""

    __slots__ = (
        "buckets",
        "exemplars",
        "request_bytes",
        "request_sizes",
        "response_bytes",
        "response_sizes",
        "seconds",
    )

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        """Exchanges per bucket of SECONDS, not cumulative; the last is +Inf."""
        self.seconds = 0.0
        self.request_bytes = 0
        self.response_bytes = 0
        self.request_sizes = [0] * (len(SIZES) + 1)
        """Exchanges whose request had a body, per bucket of SIZES; likewise of responses."""
        self.response_sizes = [0] * (len(SIZES) + 1)
        self.exemplars: dict[int, Exemplar] = {}
        """Bucket → the latest exchange in it whose trace is known."""

    @property
    def count(self) -> int:
        return sum(self.buckets)


class HttpSeries:
    """Exchanges of one edge. Callers keep it and call `observe` again, which saves the look-up."""

    __slots__ = ("example_due", "exchanges", "exemplar_due")

    def __init__(self) -> None:
        self.exchanges: dict[Outcome, Exchanges] = {}
        self.exemplar_due = 0.0
        """`perf_counter` from which an exchange is looked at at all: for its trace, or by who looks on."""
        self.example_due = 0.0
        """`perf_counter` from which the next trace is welcome; see `example`."""

    def observe(
        self,
        status: int,
        reason: str,
        seconds: float,
        grpc: str = "",
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        """Count one finished exchange. `status` 0: the peer went away before there was one.

        `grpc`: the `grpc-status` a call ended with, as received; "" for what is no gRPC call. Bytes
        are those of the bodies.
        """
        same = self.exchanges.get((status, reason, grpc))
        if same is None:
            same = self._first(status, reason, grpc)
        same.buckets[bisect_left(SECONDS, seconds)] += 1
        same.seconds += seconds
        if request_bytes:
            same.request_bytes += request_bytes
            same.request_sizes[bisect_left(SIZES, request_bytes)] += 1
        if response_bytes:
            same.response_bytes += response_bytes
            same.response_sizes[bisect_left(SIZES, response_bytes)] += 1

    def example(self, outcome: Outcome, trace: str, seconds: float, now: float, time: float) -> None:
        """Show trace `trace` ("": it has none) for an exchange just observed, and want none for a while.

        `now` as `example_due`; `time` is Unix time.
        """
        self.example_due = self.exemplar_due = now + EXEMPLAR_SECONDS
        self.show(outcome, trace, seconds, time)

    def show(self, outcome: Outcome, trace: str, seconds: float, time: float) -> None:
        """Show trace `trace` ("": it has none) for an exchange just observed; `time` is Unix time."""
        same = self.exchanges.get(outcome)
        if trace and same is not None:
            same.exemplars[bisect_left(SECONDS, seconds)] = Exemplar(trace, seconds, time)

    def _first(self, status: int, reason: str, grpc: str) -> Exchanges:
        if grpc and grpc not in _GRPC_STATUSES:
            grpc = "other"
        outcome = (status, reason, grpc)
        if len(self.exchanges) >= MAX_OUTCOMES:
            outcome = (status // 100 * 100, OVERFLOW, "")
        return self.exchanges.setdefault(outcome, Exchanges())

    @property
    def outcomes(self) -> dict[tuple[int, str], int]:
        """(status, reason) → exchanges."""
        found: dict[tuple[int, str], int] = {}
        for (status, reason, _), same in self.exchanges.items():
            found[status, reason] = found.get((status, reason), 0) + same.count
        return found

    @property
    def grpc(self) -> dict[str, int]:
        """gRPC status → calls."""
        found: dict[str, int] = {}
        for (_, _, status), same in self.exchanges.items():
            if status:
                found[status] = found.get(status, 0) + same.count
        return found


class Uncounted(HttpSeries):
    """A series of a proxy without metrics: it says what it is about and counts nothing."""

    __slots__ = ()

    def observe(
        self,
        status: int,
        reason: str,
        seconds: float,
        grpc: str = "",
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        pass


class TcpSeries:
    """Opaque connections of one edge. Bytes as seen by the caller."""

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

    __slots__ = (
        "_counters",
        "_denials",
        "_edges",
        "_folded",
        "_gauges",
        "_http",
        "_limit",
        "_of_http",
        "_target_denials",
        "_tcp",
    )

    def __init__(self, limit: int = MAX_SERIES, *, counting: bool = True) -> None:
        """`counting` False: HTTP exchanges are not counted."""
        self._limit = limit
        self._of_http: type[HttpSeries] = HttpSeries if counting else Uncounted
        self._edges: dict[int, Edge] = {}
        self._http: dict[_Key, HttpSeries] = {}
        self._tcp: dict[_Key, TcpSeries] = {}
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, tuple[str, str, Labels, Reading]] = {}
        self._denials = self.counter(
            "smi_mesh_denials_total", "Refusals by reason and denial id.", ("reason", "id", "target")
        )
        self._target_denials = self.counter(
            "smi_mesh_traffic_target_denials_total",
            "Refusals by the TrafficTargets that came nearest to allowing them (at most three each).",
            ("traffic_target", "reason"),
        )
        self._folded = self.counter(
            "smi_mesh_series_folded_total",
            "Times a series did not fit and was counted under its workload only, or under overflow.",
            ("family", "into"),
        )
        for family in ("http", "tcp"):  # there from the start: 0 is an answer, too
            for into in ("workload", OVERFLOW):
                self._folded.add((family, into), 0)

    # --- hot path ------------------------------------------------------------------------------

    def http_series(
        self,
        direction: str,
        peer: str,
        service: str,
        backend: str,
        pod: str = "",
        workload: str = "",
        split: str = "",
    ) -> HttpSeries:
        """The series of these requests (fields as `Edge` has them); made at first use."""
        key = (direction, peer, service, backend, pod, workload, split)
        series = self._http.get(key)
        if series is None:
            series = self._bounded(self._http, "http", key, self._of_http)
        return series

    def http(
        self, direction: str, peer: str, service: str, backend: str, status: int, reason: str, seconds: float
    ) -> None:
        """Count one finished HTTP exchange (see `http_series`, `HttpSeries.observe`)."""
        self.http_series(direction, peer, service, backend).observe(status, reason, seconds)

    def tcp_series(
        self,
        direction: str,
        peer: str,
        service: str,
        backend: str,
        pod: str = "",
        workload: str = "",
        split: str = "",
    ) -> TcpSeries:
        """The series of these opaque connections; made at first use."""
        key = (direction, peer, service, backend, pod, workload, split)
        series = self._tcp.get(key)
        if series is None:
            series = self._bounded(self._tcp, "tcp", key, TcpSeries)
        return series

    def tcp_open(
        self,
        direction: str,
        peer: str,
        service: str,
        backend: str,
        pod: str = "",
        workload: str = "",
        split: str = "",
    ) -> TcpSeries:
        """Count one opened connection. The series is to be told of its end: `series.close(...)`."""
        series = self.tcp_series(direction, peer, service, backend, pod, workload, split)
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

    def denial(self, reason: str, denial_id: str, target: str, nearest: Sequence[str] = ()) -> None:
        """Count one refusal (or would-be refusal: the caller says so in `reason`).

        `nearest`: what kept the TrafficTargets concerned from allowing it, each line begins with its
        `namespace/name` and a colon.
        """
        self._denials.add((reason, denial_id, target))
        for line in nearest:
            self._target_denials.add((line.partition(":")[0], reason))

    def _bounded(
        self, series: dict[_Key, _Series], family: str, key: _Key, make: Callable[[], _Series]
    ) -> _Series:
        """A new series, or the one its kind is folded into. Which pod it was is given up first."""
        if key[4] and len(series) >= self._limit // 2:
            self._folded.add((family, "workload"))
            key = (*key[:4], "", *key[5:])
            known = series.get(key)
            if known is not None:
                return known
        if len(series) >= self._limit:
            self._folded.add((family, OVERFLOW))
            key = (OVERFLOW, OVERFLOW, OVERFLOW, OVERFLOW, "", "", "")
        return series.setdefault(key, make())

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

    # --- reading -------------------------------------------------------------------------------

    def edge(self, series: HttpSeries) -> Edge:
        """What one of our series is about."""
        known = self._edges.get(id(series))
        if known is None:  # series stay as long as we do
            self._edges = {id(one): edge for edge, one in self.http_edges()}
            known = self._edges.get(id(series), _UNKNOWN)
        return known

    def http_edges(self) -> Iterator[tuple[Edge, HttpSeries]]:
        """Every series of HTTP exchanges."""
        return ((Edge(*key), series) for key, series in list(self._http.items()))

    def tcp_edges(self) -> Iterator[tuple[Edge, TcpSeries]]:
        """Every series of opaque connections."""
        return ((Edge(*key), series) for key, series in list(self._tcp.items()))

    @property
    def folded(self) -> int:
        """How often a series did not fit (see `_bounded`)."""
        return sum(self._folded.values.values())

    def render(self) -> bytes:
        """Our own families as Prometheus text."""
        page = Page()
        for _ in self.write(page):
            pass
        return page.bytes()

    def write(self, page: Page) -> Iterator[None]:
        """Write our own families; a caller with other things to do may stop at every yield."""
        yield from self._write_http(page)
        yield from self._write_tcp(page)
        for counter in self._counters.values():
            page.family("counter", counter.name, counter.help)
            for values, count in counter.values.items():
                page.sample(counter.name, labels(counter.labels, values), count)
            yield
        for name, (kind, help_text, names, read) in self._gauges.items():
            page.family(kind, name, help_text)
            for values, value in read():
                page.sample(name, labels(names, values), value)
            yield

    def _write_http(self, page: Page) -> Iterator[None]:
        names = ("direction", "peer", "service", "backend")
        rows: dict[tuple[str, Outcome], Exchanges] = {}
        counted = (
            (labels(names, key[:4]), outcome, same)
            for key, series in list(self._http.items())
            for outcome, same in list(series.exchanges.items())
        )
        yield from merge(counted, rows)
        counts: dict[str, int] = {}
        calls: dict[str, int] = {}
        durations: dict[str, Exchanges] = {}
        for (where, (status, reason, grpc)), same in rows.items():
            yield
            row = f"{where},{labels(('status', 'reason'), (str(status), reason))}"
            counts[row] = counts.get(row, 0) + same.count
            if grpc:
                row = f'{where},grpc_status="{grpc}"'
                calls[row] = calls.get(row, 0) + same.count
            add(durations.setdefault(where, Exchanges()), same)
        page.family("counter", "smi_mesh_requests_total", "Finished HTTP exchanges.")
        for row, count in counts.items():
            page.sample("smi_mesh_requests_total", row, count)
        yield
        name = "smi_mesh_grpc_responses_total"
        page.family("counter", name, "Finished gRPC calls by the status in their trailers.")
        for row, count in calls.items():
            page.sample(name, row, count)
        name = "smi_mesh_request_duration_seconds"
        page.family("histogram", name, "Time from the end of the request's head to the response's end.")
        for where, same in durations.items():
            page.histogram(name, where, _OWN_BOUNDS, same.buckets, same.seconds, same.exemplars)
            yield

    def _write_tcp(self, page: Page) -> Iterator[None]:
        names = ("direction", "peer", "service", "backend")
        plain: tuple[tuple[str, str, Callable[[TcpSeries], float]], ...] = (
            ("smi_mesh_tcp_opened_total", "Opaque connections opened.", lambda series: series.opened),
            ("smi_mesh_tcp_sent_bytes_total", "Bytes sent to the server side.", lambda series: series.sent),
            ("smi_mesh_tcp_received_bytes_total", "Bytes received from it.", lambda series: series.received),
            ("smi_mesh_tcp_seconds_total", "Time closed ones were open.", lambda series: series.seconds),
        )
        for name, help_text, read in plain:
            page.family("counter", name, help_text)
            for row, value in _sums((labels(names, key[:4]), read(one)) for key, one in self._tcp.items()):
                page.sample(name, row, value)
            yield
        name = "smi_mesh_tcp_closed_total"
        page.family("counter", name, "Opaque connections closed, by the proxy's reason if it closed them.")
        closed = (
            (labels((*names, "reason"), (*key[:4], reason)), count)
            for key, series in self._tcp.items()
            for reason, count in series.closed.items()
        )
        for row, value in _sums(closed):
            page.sample(name, row, value)
        yield


def merge(
    rows: Iterable[tuple[str, Outcome, Exchanges]], found: dict[tuple[str, Outcome], Exchanges]
) -> Iterator[None]:
    """Sum exchanges over equal (labels, outcome) into `found`; may be left at every yield.

    A sum of one is the very counter, not a copy.
    """
    copies: set[tuple[str, Outcome]] = set()
    for number, (where, outcome, same) in enumerate(rows):
        if number % _MERGED_AT_ONCE == 0:
            yield
        key = (where, outcome)
        known = found.get(key)
        if known is None:
            found[key] = same
            continue
        if key not in copies:
            copies.add(key)
            known = add(Exchanges(), known)
            found[key] = known
        add(known, same)


def add(total: Exchanges, one: Exchanges) -> Exchanges:
    """Add `one` to `total`, and return it."""
    total.buckets = [a + b for a, b in zip(total.buckets, one.buckets, strict=True)]
    total.request_sizes = [a + b for a, b in zip(total.request_sizes, one.request_sizes, strict=True)]
    total.response_sizes = [a + b for a, b in zip(total.response_sizes, one.response_sizes, strict=True)]
    total.seconds += one.seconds
    total.request_bytes += one.request_bytes
    total.response_bytes += one.response_bytes
    for bucket, exemplar in one.exemplars.items():
        known = total.exemplars.get(bucket)
        if known is None or known.time < exemplar.time:
            total.exemplars[bucket] = exemplar
    return total


def _sums(rows: Iterable[tuple[str, float]]) -> Iterable[tuple[str, float]]:
    found: dict[str, float] = {}
    for row, value in rows:
        found[row] = found.get(row, 0) + value
    return found.items()


@dataclass(frozen=True, slots=True)
class Own:
    """Whom this proxy speaks for."""

    pod: str
    """`namespace/name`."""
    workload: str = ""
    """What the pod is an instance of, as `smi.names.Workload` writes it."""
    identity: str = ""
    """SPIFFE id; empty before the first config."""

    @property
    def namespace(self) -> str:
        return self.pod.partition("/")[0]


_GRPC_FAILURES: Final = frozenset({"2", "4", "7", "13", "14", "15", "other"})
"""UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS: what Linkerd counts as
the server's failures."""


def is_failure(outcome: Outcome) -> bool:
    """Whether an exchange failed: a 5xx, no answer at all, or a gRPC status that is a failure (S30)."""
    status, _, grpc = outcome
    return grpc in _GRPC_FAILURES or status >= 500 or status == 0
