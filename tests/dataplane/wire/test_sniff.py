"""First bytes and what they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.sniff import SNIFF_BYTES, Spoken, guess, sniff

WHOLE = {
    b"GET / HTTP/1.1\r\n": Spoken.HTTP1,
    b"\r\nGET / HTTP/1.0\r\n": Spoken.HTTP1,
    b"OPTIONS * HTTP/1.1\r\n": Spoken.HTTP1,
    b"CONNECT a:1 HTTP/1.1\r\n": Spoken.HTTP1,
    b"PURGE http://a/ HTTP/1.1\r\n": Spoken.HTTP1,
    b"GET / HTTP/1.1\n": Spoken.HTTP1,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": Spoken.HTTP2,
    b"\x16\x03\x01\x02\x00": Spoken.TLS,
    b"GET key\r\n": Spoken.OTHER,
    b"PING\r\n": Spoken.OTHER,
    b"hello\n": Spoken.OTHER,
    b"\x00\x00\x00\x08\x04\xd2\x16\x2f": Spoken.OTHER,
    b"EHLO example.org\r\n": Spoken.OTHER,
    b"*1\r\n$4\r\nPING\r\n": Spoken.OTHER,
}


@pytest.mark.parametrize("data", WHOLE)
def test_protocols_are_told_apart(data: bytes) -> None:
    assert sniff(data) is WHOLE[data]


@pytest.mark.parametrize("data", WHOLE)
def test_no_verdict_is_taken_back(data: bytes) -> None:
    """Byte by byte: undecided, then the right verdict."""
    verdicts = [sniff(data[: end + 1]) for end in range(len(data))]
    final = [verdict for verdict in verdicts if verdict is not None]
    assert set(final) == {WHOLE[data]}


def test_silence_in_the_middle_of_a_request_means_http() -> None:
    assert sniff(b"GET /items HT") is None
    assert guess(b"GET /items HT") is Spoken.HTTP1
    assert guess(b"") is Spoken.OTHER
    assert guess(b"GE") is Spoken.OTHER


def test_endless_lines_are_decided() -> None:
    assert sniff(b"GET /" + b"a" * SNIFF_BYTES) is Spoken.HTTP1


@given(st.binary(max_size=40))
def test_any_bytes_have_a_meaning(data: bytes) -> None:
    assert sniff(data) in (None, *Spoken)
    assert guess(data) in Spoken
