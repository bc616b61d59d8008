"""One side of an HTTP/2 connection that is fed whatever comes."""

from __future__ import annotations

from dataplane.wire.http2 import BadConnection
from tests.dataplane.wire.http2.kit import end

_MOST_WAITING = 1 << 22
"""Bytes that a peer can make us queue; the bound on answers to pings and settings is far below."""


def feed(data: bytes, *, server: bool) -> None:
    """Let one side read `data` in pieces; only BadConnection may come of it, and a bounded answer."""
    connection, _events = end(server=server)
    if not server:
        connection.open([(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http")], None, end=True)
    try:
        for at in range(0, len(data), 61):
            connection.receive(data[at : at + 61], at / 1000)
    except BadConnection:
        pass
    assert len(connection.take()) < _MOST_WAITING
