"""Istio's standard metrics (istio.io, "Istio Standard Metrics"), as Istio's sidecars report them.

`reporter` is `destination` for what reached our app and `source` for what it sent. Histograms have
Envoy's default buckets. A route to a split's backend is reported with the backend as the destination
service, as Istio reports a route to another host. What is not known is `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dataplane.dialects.sides import UNKNOWN, Side, far_side, own_side
from dataplane.page import Bounds, Page, labels
from dataplane.telemetry import SECONDS, SIZES, Edge, Exchanges, Outcome, Own, Telemetry, merge

_BOUNDS: Final = (
    *(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000),
    *(600_000, 1_800_000, 3_600_000),
)
_MILLISECONDS: Final = Bounds(SECONDS, (bound / 1000 for bound in _BOUNDS), 1000)
_BYTES: Final = Bounds(SIZES, _BOUNDS)

_FLAGS: Final[Mapping[str, str]] = {
    "no-endpoint": "UH",
    "no-backend": "NR",
    "destination-not-known": "NR",
    "no-config": "NR",
    "loop": "NR",
    "connect-failed": "UF",
    "connect-timeout": "UF",
    "wrong-peer": "UF",
    "peer-expired": "UF",
    "overflow": "UO",
    "rate-limited": "RL",
    "overload": "OM",
    "upstream-reset": "UC",
    "truncated": "UC",
    "bad-response": "UPE",
    "response-timeout": "UT",
    "deadline": "UT",
    "client-gone": "DC",
    "request-timeout": "DT",
    "bad-request": "DPE",
    "head-too-large": "DPE",
    "version": "DPE",
}
"""Our reasons → Envoy's response flags. Refusals by policy have none, as with Envoy's RBAC filter."""

_SIDE: Final = (
    "workload",
    "canonical_service",
    "canonical_revision",
    "workload_namespace",
    "principal",
    "app",
    "version",
)
_COMMON: Final = (
    "reporter",
    *(f"source_{name}" for name in _SIDE),
    *(f"destination_{name}" for name in _SIDE),
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "connection_security_policy",
    "request_protocol",
    "response_flags",
)


class Istio:
    """Writes the dialect. `cluster_domain`: of the names of Services."""

    def __init__(self, cluster_domain: str) -> None:
        self._domain = cluster_domain
        self._own = Own("")
        self._texts: dict[tuple[Edge, Outcome | None], str] = {}

    def write(self, page: Page, telemetry: Telemetry, own: Own) -> Iterator[None]:
        """Write every family; a caller with other things to do may stop at every yield."""
        if own != self._own:
            self._own = own
            self._texts.clear()
        rows: dict[tuple[str, Outcome], Exchanges] = {}
        counted = (
            (self._labels(edge, outcome), outcome, same)
            for edge, series in telemetry.http_edges()
            for outcome, same in list(series.exchanges.items())
        )
        yield from merge(counted, rows)
        yield
        page.family("counter", "istio_requests_total", "Requests handled.")
        for (row, _), same in rows.items():
            page.sample("istio_requests_total", row, same.count)
        yield
        name = "istio_request_duration_milliseconds"
        page.family("histogram", name, "Duration of requests.")
        for (row, _), same in rows.items():
            page.histogram(name, row, _MILLISECONDS, same.buckets, same.seconds, same.exemplars)
            yield
        name = "istio_request_bytes"
        page.family("histogram", name, "Sizes of request bodies.")
        for (row, _), same in rows.items():
            page.histogram(name, row, _BYTES, _all(same.request_sizes, same.count), same.request_bytes)
            yield
        name = "istio_response_bytes"
        page.family("histogram", name, "Sizes of response bodies.")
        for (row, _), same in rows.items():
            page.histogram(name, row, _BYTES, _all(same.response_sizes, same.count), same.response_bytes)
            yield
        yield from self._write_tcp(page, telemetry)

    def _write_tcp(self, page: Page, telemetry: Telemetry) -> Iterator[None]:
        opened: dict[str, int] = {}
        closed: dict[str, int] = {}
        sent: dict[str, int] = {}
        received: dict[str, int] = {}
        for edge, series in telemetry.tcp_edges():
            row = self._labels(edge, None)
            opened[row] = opened.get(row, 0) + series.opened
            closed[row] = closed.get(row, 0) + sum(series.closed.values())
            # Istio's view is the response's: what the server sends is sent.
            sent[row] = sent.get(row, 0) + series.received
            received[row] = received.get(row, 0) + series.sent
        for name, text, values in (
            ("connections_opened", "Opaque connections opened.", opened),
            ("connections_closed", "Opaque connections closed.", closed),
            ("sent_bytes", "Bytes of responses on opaque connections.", sent),
            ("received_bytes", "Bytes of requests on opaque connections.", received),
        ):
            page.family("counter", f"istio_tcp_{name}_total", text)
            for row, value in values.items():
                page.sample(f"istio_tcp_{name}_total", row, value)
            yield

    def _labels(self, edge: Edge, outcome: Outcome | None) -> str:
        text = self._texts.get((edge, outcome))
        if text is None:
            text = self._texts[edge, outcome] = self._text(edge, outcome)
        return text

    def _text(self, edge: Edge, outcome: Outcome | None) -> str:
        inbound = edge.direction == "inbound"
        own, far = own_side(self._own), far_side(edge)
        source, destination = (far, own) if inbound else (own, far)
        namespace, _, name = (edge.backend or edge.service).partition("/")
        service = f"{name}.{namespace}.svc.{self._domain}" if name else UNKNOWN
        status, reason, grpc = outcome or (0, "", "")
        encrypted = "mutual_tls" if edge.peer else "none"
        text = labels(
            _COMMON,
            (
                "destination" if inbound else "source",
                *_side(source),
                *_side(destination),
                service,
                name or UNKNOWN,
                namespace or UNKNOWN,
                encrypted if inbound else UNKNOWN,
                "tcp" if outcome is None else "grpc" if grpc else "http",
                _FLAGS.get(reason, "-"),
            ),
        )
        if outcome is None:
            return text
        return f'{text},response_code="{status}",grpc_response_status="{grpc}"'


def _side(side: Side) -> tuple[str, ...]:
    return (
        side.workload or UNKNOWN,
        side.app or side.workload or UNKNOWN,
        side.version or "latest",
        side.namespace or UNKNOWN,
        side.identity or UNKNOWN,
        side.app or UNKNOWN,
        side.version or UNKNOWN,
    )


def _all(sizes: list[int], count: int) -> list[int]:
    """With the exchanges that had no body, which are not counted one by one."""
    return [sizes[0] + count - sum(sizes), *sizes[1:]]
