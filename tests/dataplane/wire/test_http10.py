"""What HTTP/1.0 may leave out, and what it may not do all the same."""

from __future__ import annotations

import pytest

from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import parse_request

LINE = b"GET / HTTP/1.0\r\n"


def test_no_host_is_needed() -> None:
    assert parse_request(LINE + b"\r\n").host == b""
    assert parse_request(LINE + b"Host: a\r\n\r\n").host == b"a"


@pytest.mark.parametrize(
    "fields",
    [b"Host: a\r\nHost: b\r\n", b"X: y\r\nHost: a\r\nhost: a\r\n", b"HOST: a\r\nX: y\r\nHost: b\r\n"],
)
def test_two_hosts_are_refused(fields: bytes) -> None:
    """Servers differ in which of them they believe (RFC 9112 §3.2)."""
    with pytest.raises(BadMessage):
        parse_request(LINE + fields + b"\r\n")


def test_there_is_no_upgrade() -> None:
    """RFC 9110 §7.8: a server ignores the field in an HTTP/1.0 request."""
    head = parse_request(LINE + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert head.upgrade is None
    assert b"pgrade" not in head.framing + head.lines
