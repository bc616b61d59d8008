"""llhttp as the judge: the fields it reads off a head are the ones we read and send on."""

from __future__ import annotations

import httptools
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import Fields, parse_request, parse_response, write_request, write_response


class Seen:
    """Takes llhttp's callbacks."""

    def __init__(self) -> None:
        self.fields: Fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))


def by_llhttp(parser: type, block: bytes) -> Fields | None:
    """The fields llhttp reads off a head, None if it refuses it."""
    seen = Seen()
    try:
        parser(seen).feed_data(block)
    except httptools.HttpParserError:
        return None
    return seen.fields


# llhttp takes "connection: upgrade" and lengths into account: names here mean nothing to it.
LINES = st.lists(
    st.lists(
        st.sampled_from([b"A", b"-", b":", b" ", b"\t", b"b", b"\0", b"\x7f", b"\xff", b"\r", b"\n"]),
        max_size=9,
    ).map(lambda pieces: b"x" + b"".join(pieces)),
    max_size=3,
)


@given(LINES)
def test_what_is_read_off_a_request_is_what_llhttp_reads(lines: list[bytes]) -> None:
    block = b"\r\n".join([b"GET / HTTP/1.1", b"host: a", *lines, b"", b""])
    try:
        head = parse_request(block)
    except BadMessage:
        return
    assert by_llhttp(httptools.HttpRequestParser, block) == [(b"host", b"a"), *head.fields]
    written = write_request(head, b"")
    assert by_llhttp(httptools.HttpRequestParser, written) == [(b"host", b"a"), *head.fields]


@given(LINES)
def test_what_is_read_off_a_response_is_what_llhttp_reads(lines: list[bytes]) -> None:
    block = b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])
    try:
        head = parse_response(block)
    except BadMessage:
        return
    assert by_llhttp(httptools.HttpResponseParser, block) == head.fields
    assert by_llhttp(httptools.HttpResponseParser, write_response(head)) == head.fields
