"""Trace ids are taken from requests that have one, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.traces import trace_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({b"traceparent": b"00-%s-00f067aa0ba902b7-01" % TRACE.encode()}, TRACE),
        ({b"traceparent": b"01-%s-00f067aa0ba902b7-01-more" % TRACE.encode()}, TRACE),
        ({b"traceparent": b"00-%s-00f067aa0ba902b7-01" % (b"0" * 32)}, ""),
        ({b"traceparent": b"00-%s-00f067aa0ba902b7-01" % TRACE.upper().encode()}, ""),
        ({b"traceparent": b"nonsense", b"b3": b"%s-00f067aa0ba902b7-1" % TRACE.encode()}, TRACE),
        ({b"b3": b"0"}, ""),
        ({b"x-b3-traceid": b"463ac35c9f6413ad"}, "463ac35c9f6413ad"),
        ({}, ""),
    ],
)
def test_the_trace_of_a_request(fields: dict[bytes, bytes], expected: str) -> None:
    assert trace_of(fields.get) == expected


@given(st.binary(max_size=80))
def test_whatever_a_client_sends_is_an_id_or_nothing(value: bytes) -> None:
    found = trace_of(lambda _name: value)
    assert len(found) in (0, 16, 32)
    assert all(letter in "0123456789abcdef" for letter in found)
