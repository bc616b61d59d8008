"""Field lines: what is one, that remembering them is invisible and bounded, and what llhttp says."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire import fields
from dataplane.wire.errors import BadMessage
from dataplane.wire.fields import FIELDS, LINES


class Seen:
    """Takes llhttp's callbacks."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))


def by_llhttp(line: bytes) -> list[tuple[bytes, bytes]] | None:
    """The fields llhttp reads off the line, None if it refuses it."""
    seen = Seen()
    try:
        httptools.HttpRequestParser(seen).feed_data(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n")
    except httptools.HttpParserError:
        return None
    return seen.fields


def read(line: bytes) -> tuple[bytes, bytes] | None:
    try:
        return FIELDS[line]
    except BadMessage:
        return None


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"A: b", (b"a", b"b")),
        (b"a:b", (b"a", b"b")),
        (b"A: \t b c \t", (b"a", b"b c")),
        (b"A:", (b"a", b"")),
        (b"A: \xff", (b"a", b"\xff")),
    ],
)
def test_lines_are_read(line: bytes, field: tuple[bytes, bytes]) -> None:
    assert FIELDS[line] == field
    assert FIELDS[line] == field


@pytest.mark.parametrize(
    "line", [b"", b"A", b" A: b", b"A : b", b": b", b"A: b\0", b"A: b\rc", b"A: b\nC: d", b"A\x80: b"]
)
def test_what_is_no_field_is_refused_each_time(line: bytes) -> None:
    for _ in range(2):
        with pytest.raises(BadMessage):
            FIELDS[line]


@given(
    st.lists(
        st.sampled_from([b"A", b"-", b":", b" ", b"\t", b"b", b"\0", b"\x7f", b"\xff", b"\r", b"\n"]),
        max_size=9,
    )
)
def test_what_is_read_is_what_llhttp_reads(pieces: list[bytes]) -> None:
    # llhttp takes "connection: upgrade" and lengths into account: names here mean nothing to it.
    line = b"x" + b"".join(pieces)
    field = read(line)
    if field is not None:
        assert by_llhttp(line) == [field]


def test_memory_is_bounded_and_keeps_no_secrets() -> None:
    for number in range(3 * fields._MOST_LINES):
        FIELDS[b"x-number: %d" % number]
        LINES[(b"x-number", b"%d" % number)]
    assert len(FIELDS) <= fields._MOST_LINES
    assert len(LINES) <= fields._MOST_LINES
    for line in (b"Authorization: secret", b"Cookie: secret", b"x-long: " + b"x" * 600):
        field = FIELDS[line]
        assert LINES[field] == b"%b: %b\r\n" % field
        assert line not in FIELDS
        assert field not in LINES
