"""Spans to encode."""

from __future__ import annotations

from dataplane.telemetry import Edge
from dataplane.tracing.tracer import Finished, Span
from dataplane.wire.http1 import RequestHead

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00f067aa0ba902b7"
OWN = b"b7ad6b7169203331"
START = 1_700_000_000_000_000_000


def finished(
    direction: str = "outbound",
    *,
    method: bytes = b"GET",
    path: bytes = b"/items?secret=1",
    host: bytes = b"api.shop:8080",
    parent: bytes = PARENT,
    status: int = 200,
    **said: object,
) -> Finished:
    """A span that took 5 ms; `said` are attributes of a Finished."""
    head = RequestHead(method, path, 1, b"\nuser-agent: test/1\r\nx-request-id: id-1\r\n")
    head.host = host
    edge = Edge(
        direction,
        "spiffe://cluster.local/ns/shop/sa/api",
        "shop/api",
        "shop/api-v1",
        "shop/api-1",
        "Deployment/api-v1/api",
        "shop/split",
    )
    done = Finished(Span(TRACE, OWN, parent, [b"a=1", b"b=2"]), edge, head, START, START + 5_000_000)
    done.status = status
    for name, value in said.items():
        setattr(done, name, value)
    return done
