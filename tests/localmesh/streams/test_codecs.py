"""The codecs: what is written is read back however it is cut, and what a peer sends costs within bounds."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.streams import channels, spdy
from localmesh.streams.outcome import Outcome
from localmesh.streams.portforward import parse_ports
from localmesh.streams.remotecommand import SPDY_VERSIONS, choose_dialect, choose_version, parse_size

streams = st.integers(1, spdy.STREAM_MASK)
words = st.integers(0, 2**32 - 1)
names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
headers = st.dictionaries(names, st.text(max_size=20), max_size=6)
frames = st.one_of(
    st.builds(spdy.Data, streams, st.binary(max_size=300), st.booleans()),
    st.builds(
        spdy.SynStream,
        streams,
        headers,
        st.booleans(),
        st.booleans(),
        st.integers(0, spdy.STREAM_MASK),
        st.integers(0, 7),
    ),
    st.builds(spdy.SynReply, streams, headers, st.booleans()),
    st.builds(spdy.Headers, streams, headers, st.booleans()),
    st.builds(spdy.RstStream, streams, words),
    st.builds(spdy.Ping, words),
    st.builds(spdy.GoAway, streams, words),
    st.builds(spdy.WindowUpdate, streams, st.integers(0, spdy.STREAM_MASK)),
)


def written(encoder: spdy.Encoder, wanted: Iterable[spdy.Frame]) -> bytes:
    return b"".join(encoder.encode(frame) for frame in wanted)


@given(st.lists(frames, max_size=8), st.integers(1, 40))
def test_frames_are_read_back_however_they_are_cut(wanted: list[spdy.Frame], size: int) -> None:
    wire = written(spdy.Encoder(), wanted)
    decoder = spdy.Decoder()
    found = [
        frame for start in range(0, len(wire), size) for frame in decoder.feed(wire[start : start + size])
    ]
    assert found == wanted


@given(st.lists(frames, min_size=1, max_size=4), st.data())
def test_damage_is_an_error_or_other_frames_and_never_more(
    wanted: list[spdy.Frame], data: st.DataObject
) -> None:
    wire = bytearray(written(spdy.Encoder(), wanted))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))
    decoder = spdy.Decoder()
    try:
        found = list(decoder.feed(bytes(wire)))
    except spdy.SpdyError:
        return
    assert len(found) <= len(wire) // 8


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_an_error(wire: bytes) -> None:
    decoder = spdy.Decoder()
    with suppress(spdy.SpdyError):  # any other exception fails the test
        for frame in decoder.feed(wire):
            assert isinstance(frame, spdy.Frame)


def test_the_dictionary_is_that_of_the_draft() -> None:
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


def test_a_frame_as_the_draft_lays_it_out() -> None:
    assert spdy.Encoder().encode(spdy.Ping(7)) == bytes.fromhex("8003 0006 00 000004 00000007")
    assert spdy.Encoder().encode(spdy.Data(5, b"hi", fin=True)) == bytes.fromhex("00000005 01 000002") + b"hi"
    assert spdy.Encoder().encode(spdy.RstStream(3, 5)) == bytes.fromhex(
        "8003 0003 00 000008 00000003 00000005"
    )


def block(plain: bytes) -> bytes:
    deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
    packed = deflate.compress(plain) + deflate.flush(zlib.Z_SYNC_FLUSH)
    payload = struct.pack("!IIH", 1, 0, 0) + packed
    return struct.pack("!HHI", 0x8003, 1, len(payload)) + payload


def pair(name: bytes, value: bytes) -> bytes:
    return b"".join(struct.pack("!I", len(part)) + part for part in (name, value))


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (struct.pack("!II", 1, spdy.MAX_FRAME + 1), "longer than"),
        (struct.pack("!HHI", 0x8002, 6, 4) + bytes(4), "version 2"),
        (struct.pack("!HHI", 0x8003, 6, 2) + bytes(2), "only 2 bytes"),
        (struct.pack("!HHI", 0x8003, 1, 14) + bytes(14), "header block"),
        (block(struct.pack("!I", 1) + pair(b"bomb", bytes(10_000_000))), "longer than"),
        (block(struct.pack("!I", 300)), "more than 256"),
        (block(struct.pack("!I", 2) + 2 * pair(b"a", b"b")), "repeated"),
        (block(struct.pack("!I", 1) + pair(b"", b"b")), "empty"),
        (block(struct.pack("!I", 1) + struct.pack("!I", 9) + b"a"), "ends early"),
        (block(b""), "ends early"),
    ],
)
def test_what_breaks_the_protocol_is_named(wire: bytes, why: str) -> None:
    with pytest.raises(spdy.SpdyError, match=why):
        list(spdy.Decoder().feed(wire))


def test_unknown_control_frames_are_skipped() -> None:
    wire = struct.pack("!HHI", 0x8003, 4, 4) + bytes(4) + spdy.Encoder().encode(spdy.Ping(1))
    assert list(spdy.Decoder().feed(wire)) == [spdy.Unknown(4), spdy.Ping(1)]


@given(st.sampled_from(channels.DIALECTS), st.integers(0, 4), st.binary(max_size=100))
def test_channel_messages_are_read_back(dialect: channels.Dialect, channel: int, payload: bytes) -> None:
    assert channels.decode(dialect, channels.encode(dialect, channel, payload)) == (channel, payload)


@given(st.sampled_from(channels.DIALECTS), st.binary(max_size=60))
def test_any_message_is_a_channel_or_an_error(dialect: channels.Dialect, message: bytes) -> None:
    with suppress(channels.ChannelError):
        channel, _ = channels.decode(dialect, message)
        assert 0 <= channel <= 255


def test_the_outcome_is_what_clients_look_for() -> None:
    assert json.loads(Outcome().status()) == {"metadata": {}, "status": "Success"}
    failed = json.loads(Outcome(3).status())
    assert failed["reason"] == "NonZeroExitCode"
    assert failed["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    broken = json.loads(Outcome(error="no such thing").status())
    assert (broken["reason"], broken["code"]) == ("InternalError", 500)
    assert Outcome().text() == b""
    assert b"3" in Outcome(3).text()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (b'{"Width":80,"Height":24}', (24, 80)),
        (b'{"width":1,"height":2}', (2, 1)),
        (b'{"Width":0,"Height":24}', None),
        (b'{"Width":65536,"Height":24}', None),
        (b'{"Width":"80","Height":24}', None),
        (b"[80,24]", None),
        (b"{", None),
        (b"\xff", None),
    ],
)
def test_terminal_sizes(text: bytes, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size


def test_negotiation_prefers_the_newest() -> None:
    assert choose_version(["channel.k8s.io, v3.channel.k8s.io", "v4.channel.k8s.io"], SPDY_VERSIONS) == (
        "v4.channel.k8s.io"
    )
    assert choose_version(["v9.channel.k8s.io"], SPDY_VERSIONS) is None
    chosen = choose_dialect(["v4.channel.k8s.io, v5.channel.k8s.io"])
    assert chosen is not None
    assert chosen.half_close
    assert choose_dialect(["v9.channel.k8s.io"]) is None
    oldest = choose_dialect([])
    assert oldest is not None
    assert not oldest.status


@pytest.mark.parametrize(
    "values", [[], ["x"], ["0"], ["65536"], ["80,,81"], ["²"], [str(n) for n in range(1, 66)]]
)
def test_ports_that_cannot_be_forwarded(values: list[str]) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_ports(values)


def test_ports_may_be_repeated_or_separated_by_commas() -> None:
    assert parse_ports(["80,443", "8080"]) == [80, 443, 8080]
