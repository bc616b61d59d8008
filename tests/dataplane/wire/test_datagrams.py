"""Frames of datagrams on a byte stream."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.datagrams import MAX_FLOW, MAX_PAYLOAD, Decoder, Frame, Kind, encode, encode_end
from dataplane.wire.errors import BadMessage

frames = st.one_of(
    st.builds(Frame, st.integers(0, MAX_FLOW), st.just(Kind.DATAGRAM), st.binary(max_size=2000)),
    st.builds(Frame, st.integers(0, MAX_FLOW), st.just(Kind.END)),
)


def encoded(frame: Frame) -> bytes:
    return encode_end(frame.flow) if frame.kind is Kind.END else encode(frame.flow, frame.payload)


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 3000), min_size=1, max_size=20))
def test_chunking_is_invisible(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encoded, sent))
    decoder, at = Decoder(), 0
    got: list[Frame] = []
    for cut in [*cuts, len(data)]:
        got += decoder.feed(data[at : at + cut])
        at += cut
    assert got == sent


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_only_one_exception_escapes(chunks: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for chunk in chunks:
            list(decoder.feed(chunk))
    except BadMessage:
        pass


def test_the_largest_datagram_and_the_empty_one() -> None:
    assert list(Decoder().feed(encode(1, b"x" * MAX_PAYLOAD) + encode(2, b""))) == [
        Frame(1, Kind.DATAGRAM, b"x" * MAX_PAYLOAD),
        Frame(2, Kind.DATAGRAM),
    ]


@pytest.mark.parametrize(("length", "kind"), [(MAX_PAYLOAD + 1, 0), (0, 2), (1, Kind.END)])
def test_what_no_peer_of_ours_sends_is_refused(length: int, kind: int) -> None:
    with pytest.raises(BadMessage):
        list(Decoder().feed(struct.pack("!IHB", 7, length, kind)))
