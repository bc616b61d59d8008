"""Where bodies end, however their bytes arrive."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.body import MAX_CHUNK_LINE, MAX_TRAILERS, Chunked, Length, UntilClose
from dataplane.wire.errors import BadMessage


def encode(chunks: list[bytes], trailers: bytes = b"") -> bytes:
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    pieces.append(data[at:])
    return [piece for piece in pieces if piece]


def feed(body: Chunked | Length, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """(bytes taken, bytes left over)."""
    taken = rest = b""
    for piece in pieces:
        size = 0 if body.done else body.take(piece)
        taken += piece[:size]
        rest += piece[size:]
    return taken, rest


@given(st.lists(st.binary(max_size=20), max_size=5), st.booleans(), st.lists(st.integers(1, 7), max_size=40))
def test_chunking_of_the_input_is_invisible(chunks: list[bytes], trailers: bool, sizes: list[int]) -> None:
    data = encode(chunks, b"X-Sum: 1\r\n" if trailers else b"")
    body = Chunked(decode=True)
    assert feed(body, cut(data + b"NEXT", sizes)) == (data, b"NEXT")
    assert body.done
    assert body.decoded() == b"".join(chunks)


@given(st.integers(0, 50), st.lists(st.integers(1, 7), max_size=20))
def test_length_takes_its_own_and_no_more(length: int, sizes: list[int]) -> None:
    data = b"x" * length
    body = Length(length)
    assert feed(body, cut(data + b"NEXT", sizes)) == (data, b"NEXT")
    assert body.done


def test_until_close_takes_everything() -> None:
    body = UntilClose()
    assert body.take(b"abc") == 3
    assert not body.done


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1\n",
        b"1\ra\r\n",
        b"1;\0\r\n",
        b"1;a\nb\r\n",
        b"1111111111111111\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\naXX",
        b"0\r\n\n",
        b"1;\r\na\r\n",
        b"1;a=\r\na\r\n",
        b"1;=b\r\na\r\n",
        b"1; a\r\na\r\n",
        b"1;a =b\r\na\r\n",
        b"1;a;\r\na\r\n",
        b'1;a="b\r\na\r\n',
        b'1;a="b"c\r\na\r\n',
        b'1;a="\\"\r\na\r\n',
        b"1;a\x80\r\na\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n folded: 1\r\n\r\n",
        b"0\r\nA : 1\r\n\r\n",
        b"0\r\nA: \0\r\n\r\n",
        b"0\r\nContent-Length: 1\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nX-Forwarded-Client-Cert: me\r\n\r\n",
        b"0\r\nAuthorization: me\r\n\r\n",
        b"1;" + b"x" * MAX_CHUNK_LINE,
        b"0\r\nA: " + b"x" * MAX_TRAILERS + b"\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 2000,
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_broken_coding_is_refused(data: bytes, step: int) -> None:
    body = Chunked()
    with pytest.raises(BadMessage):  # noqa: PT012 - which piece breaks it does not matter
        for at in range(0, len(data), step):
            body.take(data[at : at + step])


@pytest.mark.parametrize(
    "extension", [b";a", b";a=b", b";a=b;c", b';a="b;c"', b';a="";b', b';a="\\"\t\xff"', b";a;b;c=d"]
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_extensions(extension: bytes, step: int) -> None:
    body = Chunked(decode=True)
    data = b"2" + extension + b"\r\nab\r\n0" + extension + b"\r\n\r\n"
    for at in range(0, len(data), step):
        body.take(data[at : at + step])
    assert body.done
    assert body.decoded() == b"ab"


SMUGGLED = b"GET /b HTTP/1.1\r\rHost: b\r\r"


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\r" + SMUGGLED,
        b"0;a\r\r" + SMUGGLED,
        b"0\r\n\r\r" + SMUGGLED,
        b"0\r\nA: b\r\r" + SMUGGLED,
        b"1\ra",
        b"0\r\nA:\0",
        b"0\r\nA b",
        b"0\r\n:",
        b"x",
        b"1 ",
        b"1\r\naX",
    ],
)
def test_a_line_is_not_passed_on_before_it_is_known_to_be_one(data: bytes) -> None:
    """What has arrived of a line goes on at once: no part of it may be a line's end to anybody."""
    with pytest.raises(BadMessage):
        Chunked().take(data)


@given(st.binary(max_size=60))
def test_only_one_exception_escapes(data: bytes) -> None:
    body = Chunked()
    with contextlib.suppress(BadMessage):  # the only one that may
        assert body.take(data) <= len(data)


def test_a_hundred_thousand_tiny_chunks_cost_no_memory() -> None:
    body = Chunked()
    data = b"1\r\nx\r\n" * 1000
    for _ in range(100):
        assert body.take(data) == len(data)
    assert body.take(b"0\r\n\r\n") == 5
    assert body.done
