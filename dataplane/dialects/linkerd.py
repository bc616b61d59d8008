"""Linkerd's proxy metrics (linkerd.io, "Proxy Metrics"), as Linkerd's sidecars report them.

With Linkerd the scrape job adds the pod's own labels (`namespace`, `pod`, `deployment` …); here they
are in the series, so that any scrape by annotations will do. Connections are the opaque ones only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dataplane.dialects.sides import far_side, own_side, service_account
from dataplane.page import Bounds, Page, labels
from dataplane.telemetry import SECONDS, Edge, Exchanges, Outcome, Own, Telemetry, add, is_failure, merge

_BOUNDS: Final = (
    *(1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1000, 2000, 3000, 4000, 5000),
    *(10_000, 20_000, 30_000, 40_000, 50_000),
)
_MILLISECONDS: Final = Bounds(SECONDS, (bound / 1000 for bound in _BOUNDS), 1000)
_KINDS: Final = frozenset(
    {"Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "ReplicationController", "Job", "CronJob"}
)
"""Kinds that Linkerd has a label for: their names in lower case."""


class Linkerd:
    """Writes the dialect. `cluster_domain`: of the names of Services."""

    def __init__(self, cluster_domain: str) -> None:
        self._domain = cluster_domain
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
            for outcome, same in list(series.exchanges.items())
        )
        yield from merge(counted, rows)
        requests: dict[str, int] = {}
        responses: dict[str, int] = {}
        latencies: dict[str, Exchanges] = {}
        for (where, outcome), same in rows.items():
            yield
            status, reason, grpc = outcome
            code = f',status_code="{status}"' if status else ""
            requests[where] = requests.get(where, 0) + same.count
            row = f"{where}{code},{_ending(outcome, reason, grpc)}"
            responses[row] = responses.get(row, 0) + same.count
            add(latencies.setdefault(where + code, Exchanges()), same)
        yield
        page.family("counter", "request_total", "Requests whose exchange has ended.")
        for row, count in requests.items():
            page.sample("request_total", row, count)
        yield
        page.family("counter", "response_total", "Responses by status and classification.")
        for row, count in responses.items():
            page.sample("response_total", row, count)
        yield
        page.family("histogram", "response_latency_ms", "Time from the request's head to the response's end.")
        for row, same in latencies.items():
            page.histogram(
                "response_latency_ms", row, _MILLISECONDS, same.buckets, same.seconds, same.exemplars
            )
            yield
        yield from self._write_tcp(page, telemetry)

    def _write_tcp(self, page: Page, telemetry: Telemetry) -> Iterator[None]:
        opened: dict[str, int] = {}
        open_now: dict[str, int] = {}
        closed: dict[str, int] = {}
        read: dict[str, int] = {}
        written: dict[str, int] = {}
        for edge, series in telemetry.tcp_edges():
            # Towards the one who called us (src), or the one we call (dst).
            inbound = edge.direction == "inbound"
            row = f'{self._labels(edge)},peer="{"src" if inbound else "dst"}"'
            ended = sum(series.closed.values())
            opened[row] = opened.get(row, 0) + series.opened
            open_now[row] = open_now.get(row, 0) + series.opened - ended
            closed[row] = closed.get(row, 0) + ended
            from_peer, to_peer = (series.sent, series.received) if inbound else (series.received, series.sent)
            read[row] = read.get(row, 0) + from_peer
            written[row] = written.get(row, 0) + to_peer
        for kind, name, text, values in (
            ("counter", "tcp_open_total", "Opaque connections opened.", opened),
            ("gauge", "tcp_open_connections", "Opaque connections open now.", open_now),
            ("counter", "tcp_close_total", "Opaque connections closed.", closed),
            ("counter", "tcp_read_bytes_total", "Bytes read from the peer, of closed connections.", read),
            (
                "counter",
                "tcp_write_bytes_total",
                "Bytes written to the peer, of closed connections.",
                written,
            ),
        ):
            page.family(kind, name, text)
            for row, value in values.items():
                page.sample(name, row, value)
            yield

    def _labels(self, edge: Edge) -> str:
        text = self._texts.get(edge)
        if text is None:
            text = self._texts[edge] = self._text(edge)
        return text

    def _text(self, edge: Edge) -> str:
        own, far = own_side(self._own), far_side(edge)
        inbound = edge.direction == "inbound"
        namespace, _, name = edge.service.partition("/")
        pairs = [("direction", edge.direction)]
        if name:
            pairs.append(("authority", f"{name}.{namespace}.svc.{self._domain}"))
        if edge.peer:
            pairs += [("tls", "true"), ("client_id" if inbound else "server_id", edge.peer)]
        else:
            why = "not_provided_by_remote" if inbound else "not_provided_by_service_discovery"
            pairs += [("tls", "no_identity"), ("no_tls_reason", why)]
        pairs += [("namespace", own.namespace), ("pod", own.pod)]
        if own.kind in _KINDS:
            pairs.append((own.kind.lower(), own.workload))
        if not inbound:
            backend_namespace, _, backend = (edge.backend or edge.service).partition("/")
            pairs += [
                ("dst_namespace", far.namespace or backend_namespace),
                ("dst_pod", far.pod),
                ("dst_service", backend),
                ("dst_serviceaccount", service_account(edge.peer)),
            ]
            if far.kind in _KINDS:
                pairs.append((f"dst_{far.kind.lower()}", far.workload))
        shown = [(label, value) for label, value in pairs if value]
        return labels([label for label, _ in shown], [value for _, value in shown])


def _ending(outcome: Outcome, reason: str, grpc: str) -> str:
    names = ("classification", "grpc_status", "error")
    error = reason if outcome[0] == 0 else ""
    return labels(names, ("failure" if is_failure(outcome) else "success", grpc, error))
