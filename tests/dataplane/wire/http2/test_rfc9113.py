"""RFC 9113's error cases, one by one: what ends a connection, what only its stream, and what nothing.

Stream 1 is open (its request goes on), 3 is half closed by the client, 5 is closed, 7 was reset by
the client, 9 by the server; 11 and above are idle. After what costs a stream, or nothing, the
connection must still serve a new request.
"""

from __future__ import annotations

import struct

import pytest

from dataplane.wire.http2 import PREFACE, BadConnection, Code, Connection, bounds
from dataplane.wire.http2 import frames as f
from dataplane.wire.http2.hpack import Writer
from tests.dataplane.wire.http2.kit import GET, OK, POST, Events, end

E, H, PAD, PRIO, ACK = f.END_STREAM, f.END_HEADERS, f.PADDED, f.PRIORITISED, f.ACK
LARGE = b"\0\0\0\0" + bytes(bounds.FRAME_SIZE)
BLOCK = Writer().write(GET)
OPEN_BLOCK = Writer().write(POST)
TRAILERS = Writer().write([(b"x-t", b"1")])


def setting(number: int, value: int) -> bytes:
    return f.settings([(number, value)])


C, S = "connection", "stream"
CASES: list[tuple[str, bytes, str | None, Code | None]] = [
    # 4.1, 4.2: frames
    ("4.1 unknown type", f.frame(0x16, 0xFF, 0, b"what"), None, None),
    ("4.1 unknown flags of PING", f.frame(f.PING, 0xF6, 0, bytes(8)), None, None),
    ("4.1 reserved bit of the stream", f.frame(f.PING, 0, 1 << 31, bytes(8)), None, None),
    ("4.2 DATA above the frame size", f.frame(f.DATA, 0, 1, LARGE), C, Code.FRAME_SIZE_ERROR),
    ("4.2 HEADERS above the frame size", f.frame(f.HEADERS, H, 11, LARGE), C, Code.FRAME_SIZE_ERROR),
    # 4.3: field blocks
    ("4.3 bad index", f.frame(f.HEADERS, H | E, 11, b"\xff\x7f"), C, Code.COMPRESSION_ERROR),
    ("4.3 bad index in trailers", f.frame(f.HEADERS, H | E, 1, b"\xff\x7f"), C, Code.COMPRESSION_ERROR),
    ("4.3 cut off", f.frame(f.HEADERS, H | E, 11, BLOCK[:-1]), C, Code.COMPRESSION_ERROR),
    ("4.3 interrupted by PRIORITY", f.frame(f.HEADERS, 0, 11, BLOCK) + f.frame(f.PRIORITY, 0, 11, bytes(5)),
     C, Code.PROTOCOL_ERROR),
    ("4.3 interrupted by HEADERS", f.frame(f.HEADERS, 0, 11, BLOCK) + f.frame(f.HEADERS, H, 13, BLOCK),
     C, Code.PROTOCOL_ERROR),
    ("4.3 interrupted by an unknown type", f.frame(f.HEADERS, 0, 11, BLOCK) + f.frame(0x16, 0, 0),
     C, Code.PROTOCOL_ERROR),
    # 5.1: states
    ("5.1 idle: DATA", f.frame(f.DATA, 0, 11, b"x"), C, Code.PROTOCOL_ERROR),
    ("5.1 idle: RST_STREAM", f.rst_stream(11, 8), C, Code.PROTOCOL_ERROR),
    ("5.1 idle: WINDOW_UPDATE", f.window_update(11, 1), C, Code.PROTOCOL_ERROR),
    ("5.1 idle: CONTINUATION", f.frame(f.CONTINUATION, H, 11, BLOCK), C, Code.PROTOCOL_ERROR),
    ("5.1 idle: PRIORITY", f.frame(f.PRIORITY, 0, 11, bytes(5)), None, None),
    ("5.1 half closed: DATA", f.frame(f.DATA, 0, 3, b"x"), S, Code.STREAM_CLOSED),
    ("5.1 half closed: HEADERS", f.frame(f.HEADERS, H | E, 3, TRAILERS), S, Code.STREAM_CLOSED),
    ("5.1 half closed: CONTINUATION", f.frame(f.CONTINUATION, H, 3, BLOCK), C, Code.PROTOCOL_ERROR),
    ("5.1 half closed: WINDOW_UPDATE", f.window_update(3, 1), None, None),
    ("5.1 half closed: RST_STREAM", f.rst_stream(3, 8), None, None),
    ("5.1 half closed: PRIORITY", f.frame(f.PRIORITY, 0, 3, bytes(5)), None, None),
    ("5.1 closed: DATA", f.frame(f.DATA, 0, 5, b"x"), S, Code.STREAM_CLOSED),
    ("5.1 closed: HEADERS", f.frame(f.HEADERS, H | E, 5, BLOCK), C, Code.STREAM_CLOSED),
    ("5.1 closed: CONTINUATION", f.frame(f.CONTINUATION, H, 5, BLOCK), C, Code.PROTOCOL_ERROR),
    ("5.1 closed: WINDOW_UPDATE", f.window_update(5, 1), None, None),
    ("5.1 closed: RST_STREAM", f.rst_stream(5, 8), None, None),
    ("5.1 closed: PRIORITY", f.frame(f.PRIORITY, 0, 5, bytes(5)), None, None),
    ("5.1 closed by the client's reset: DATA", f.frame(f.DATA, 0, 7, b"x"), S, Code.STREAM_CLOSED),
    ("5.1 closed by the client's reset: HEADERS", f.frame(f.HEADERS, H | E, 7, BLOCK), C, Code.STREAM_CLOSED),
    ("5.1 reset by the server: DATA", f.frame(f.DATA, 0, 9, b"x"), None, None),
    ("5.1 reset by the server: HEADERS", f.frame(f.HEADERS, H | E, 9, TRAILERS), None, None),
    ("5.1 reset by the server: WINDOW_UPDATE", f.window_update(9, 1), None, None),
    ("5.1 reset by the server: RST_STREAM", f.rst_stream(9, 8), None, None),
    ("5.1.1 even number", f.frame(f.HEADERS, H | E, 12, BLOCK), C, Code.PROTOCOL_ERROR),
    ("5.1.1 stream 0", f.frame(f.HEADERS, H | E, 0, BLOCK), C, Code.PROTOCOL_ERROR),
    ("5.1.1 lower than an earlier one", f.frame(f.HEADERS, H | E, 13, BLOCK) + f.frame(f.HEADERS, H | E, 11,
     BLOCK), C, Code.STREAM_CLOSED),
    ("5.3.1 HEADERS: depends on itself", f.frame(f.HEADERS, H | E | PRIO, 11, b"\0\0\0\x0b\0" + BLOCK),
     C, Code.PROTOCOL_ERROR),
    ("5.3.1 PRIORITY: depends on itself", f.frame(f.PRIORITY, 0, 1, b"\0\0\0\x01\0"), S, Code.PROTOCOL_ERROR),
    # 6.1: DATA
    ("6.1 DATA on stream 0", f.frame(f.DATA, 0, 0, b"x"), C, Code.PROTOCOL_ERROR),
    ("6.1 padding as long as the frame", f.frame(f.DATA, PAD, 1, b"\x05hell"), C, Code.PROTOCOL_ERROR),
    ("6.1 padding without a length", f.frame(f.DATA, PAD, 1, b""), C, Code.PROTOCOL_ERROR),
    ("6.1 padded", f.frame(f.DATA, PAD, 1, b"\x04hello" + bytes(4)), None, None),
    ("6.1 nothing but padding", f.frame(f.DATA, PAD, 1, b"\x04" + bytes(4)), None, None),
    # 6.2: HEADERS
    ("6.2 padding longer than the frame", f.frame(f.HEADERS, H | E | PAD, 11, b"\xff" + BLOCK),
     C, Code.PROTOCOL_ERROR),
    ("6.2 too short for its priority", f.frame(f.HEADERS, H | E | PRIO, 11, b"\0"), C, Code.FRAME_SIZE_ERROR),
    ("6.2 padded, with priority",
     f.frame(f.HEADERS, H | E | PAD | PRIO, 11, b"\x02" + bytes(5) + BLOCK + bytes(2)), None, None),
    ("6.2 in pieces", f.frame(f.HEADERS, E, 11, BLOCK[:1]) + f.frame(f.CONTINUATION, H, 11, BLOCK[1:]),
     None, None),
    # 6.3: PRIORITY
    ("6.3 PRIORITY on stream 0", f.frame(f.PRIORITY, 0, 0, bytes(5)), C, Code.PROTOCOL_ERROR),
    ("6.3 PRIORITY of 4 octets", f.frame(f.PRIORITY, 0, 1, bytes(4)), S, Code.FRAME_SIZE_ERROR),
    # 6.4: RST_STREAM
    ("6.4 RST_STREAM on stream 0", f.rst_stream(0, 8), C, Code.PROTOCOL_ERROR),
    ("6.4 RST_STREAM of 3 octets", f.frame(f.RST_STREAM, 0, 1, bytes(3)), C, Code.FRAME_SIZE_ERROR),
    ("6.4 RST_STREAM with an unknown code", f.rst_stream(1, 0xFF), None, None),
    # 6.5: SETTINGS
    ("6.5 ACK with a payload", f.frame(f.SETTINGS, ACK, 0, bytes(6)), C, Code.FRAME_SIZE_ERROR),
    ("6.5 ACK that nobody waits for", f.frame(f.SETTINGS, ACK, 0), None, None),
    ("6.5 on a stream", f.frame(f.SETTINGS, 0, 1, bytes(6)), C, Code.PROTOCOL_ERROR),
    ("6.5 of 3 octets", f.frame(f.SETTINGS, 0, 0, bytes(3)), C, Code.FRAME_SIZE_ERROR),
    ("6.5.2 ENABLE_PUSH 2", setting(2, 2), C, Code.PROTOCOL_ERROR),
    ("6.5.2 INITIAL_WINDOW_SIZE too large", setting(4, 1 << 31), C, Code.FLOW_CONTROL_ERROR),
    ("6.5.2 MAX_FRAME_SIZE too small", setting(5, (1 << 14) - 1), C, Code.PROTOCOL_ERROR),
    ("6.5.2 MAX_FRAME_SIZE too large", setting(5, 1 << 24), C, Code.PROTOCOL_ERROR),
    ("6.5.2 unknown setting", setting(0xFF, 1), None, None),
    ("6.5.2 HEADER_TABLE_SIZE 0", setting(1, 0), None, None),
    ("6.5.3 the last of equal settings counts", f.settings([(4, 1), (4, 1000)]), None, None),
    # 6.6: PUSH_PROMISE
    ("6.6 PUSH_PROMISE of a client", f.frame(f.PUSH_PROMISE, H, 1, bytes(4) + BLOCK), C, Code.PROTOCOL_ERROR),
    # 6.7: PING
    ("6.7 PING", f.frame(f.PING, 0, 0, b"12345678"), None, None),
    ("6.7 PING on a stream", f.frame(f.PING, 0, 1, bytes(8)), C, Code.PROTOCOL_ERROR),
    ("6.7 PING of 6 octets", f.frame(f.PING, 0, 0, bytes(6)), C, Code.FRAME_SIZE_ERROR),
    ("6.7 ACK that nobody waits for", f.frame(f.PING, ACK, 0, bytes(8)), None, None),
    # 6.8: GOAWAY
    ("6.8 GOAWAY on a stream", f.frame(f.GOAWAY, 0, 1, bytes(8)), C, Code.PROTOCOL_ERROR),
    ("6.8 GOAWAY of 7 octets", f.frame(f.GOAWAY, 0, 0, bytes(7)), C, Code.FRAME_SIZE_ERROR),
    # 6.9: WINDOW_UPDATE
    ("6.9 by 0 on the connection", f.window_update(0, 0), C, Code.PROTOCOL_ERROR),
    ("6.9 by 0 on a stream", f.window_update(1, 0), S, Code.PROTOCOL_ERROR),
    ("6.9 of 3 octets", f.frame(f.WINDOW_UPDATE, 0, 0, bytes(3)), C, Code.FRAME_SIZE_ERROR),
    ("6.9.1 connection's window above 2^31-1", f.window_update(0, (1 << 31) - 1), C, Code.FLOW_CONTROL_ERROR),
    ("6.9.1 stream's window above 2^31-1", f.window_update(1, (1 << 31) - 1), S, Code.FLOW_CONTROL_ERROR),
    ("6.9.2 a setting lifts a window above 2^31-1", f.window_update(1, 1 << 30) + setting(4, (1 << 31) - 1),
     C, Code.FLOW_CONTROL_ERROR),
    ("6.9.2 windows may become negative", setting(4, 0), None, None),
    # 6.10: CONTINUATION
    ("6.10 without HEADERS", f.frame(f.CONTINUATION, H, 1, TRAILERS), C, Code.PROTOCOL_ERROR),
    ("6.10 on another stream", f.frame(f.HEADERS, 0, 11, BLOCK) + f.frame(f.CONTINUATION, H, 13, BLOCK),
     C, Code.PROTOCOL_ERROR),
    ("6.10 on stream 0", f.frame(f.HEADERS, 0, 11, BLOCK) + f.frame(f.CONTINUATION, H, 0, BLOCK),
     C, Code.PROTOCOL_ERROR),
    ("6.10 behind END_HEADERS",
     f.frame(f.HEADERS, H, 11, OPEN_BLOCK) + f.frame(f.CONTINUATION, H, 11, TRAILERS),
     C, Code.PROTOCOL_ERROR),
    # 8.1: messages
    ("8.1 trailers without END_STREAM", f.frame(f.HEADERS, H, 1, TRAILERS), S, Code.PROTOCOL_ERROR),
    ("8.1 trailers", f.frame(f.HEADERS, H | E, 1, TRAILERS), None, None),
    ("8.1 trailers with a method", f.frame(f.HEADERS, H | E, 1, b"\x82"), S, Code.PROTOCOL_ERROR),
]  # fmt: skip


def prepared() -> tuple[Connection, Events]:
    """A server with its streams in the states that the module's text names."""
    made, events = end(server=True)
    made.receive(PREFACE + f.settings([]), 0.0)
    made.receive(f.frame(f.HEADERS, H, 1, OPEN_BLOCK) + f.frame(f.HEADERS, H | E, 3, BLOCK), 0.0)
    made.receive(f.frame(f.HEADERS, H | E, 5, BLOCK), 0.0)
    made.send_head(events.streams[5], OK, end=True)
    made.receive(f.frame(f.HEADERS, H, 7, OPEN_BLOCK) + f.rst_stream(7, 8), 0.0)
    made.receive(f.frame(f.HEADERS, H, 9, OPEN_BLOCK), 0.0)
    made.reset(events.streams[9], Code.CANCEL)
    made.take()
    return made, events


def resets(data: bytes) -> list[tuple[int, int]]:
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        if data[3] == f.RST_STREAM:
            found.append((int.from_bytes(data[5:9], "big"), struct.unpack(">L", data[9:13])[0]))
        data = data[9 + size :]
    return found


@pytest.mark.parametrize(
    ("data", "scope", "code"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_case(data: bytes, scope: str | None, code: Code | None) -> None:
    made, events = prepared()
    if scope == C:
        with pytest.raises(BadConnection) as error:
            made.receive(data, 0.0)
        assert error.value.code is code
        return
    made.receive(data, 0.0)
    assert [found for _, found in resets(made.take())] == ([code] if scope == S else [])
    made.receive(f.frame(f.HEADERS, H | E, 101, BLOCK), 0.0)
    assert events.seen[-1][:2] == ("request", 101)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", PREFACE[:-1] + b"x", PREFACE + f.frame(f.PING, 0, 0, bytes(8)),
     PREFACE + f.frame(f.SETTINGS, ACK, 0), PREFACE + f.frame(f.HEADERS, H | E, 1, BLOCK)],
)  # fmt: skip
def test_preface(data: bytes) -> None:
    """RFC 9113 §3.4: the preface, then SETTINGS."""
    made, _ = end(server=True)
    with pytest.raises(BadConnection) as error:
        made.receive(data, 0.0)
    assert error.value.code is Code.PROTOCOL_ERROR


STATUS = Writer().write(OK)
ANSWERS: list[tuple[str, bytes, str | None, Code | None]] = [
    ("8.1.1 no status", f.frame(f.HEADERS, H | E, 1, TRAILERS), S, Code.PROTOCOL_ERROR),
    ("8.3.2 a status of two digits", f.frame(f.HEADERS, H | E, 1, Writer().write([(b":status", b"20")])),
     S, Code.PROTOCOL_ERROR),
    ("8.3.2 two statuses", f.frame(f.HEADERS, H | E, 1, STATUS + STATUS), S, Code.PROTOCOL_ERROR),
    ("8.6 101", f.frame(f.HEADERS, H, 1, Writer().write([(b":status", b"101")])), S, Code.PROTOCOL_ERROR),
    ("8.1 interim and final at once", f.frame(f.HEADERS, H | E, 1, Writer().write([(b":status", b"103")])),
     S, Code.PROTOCOL_ERROR),
    ("8.1 DATA before the head", f.frame(f.DATA, 0, 1, b"x"), S, Code.PROTOCOL_ERROR),
    ("8.1 more than the content-length",
     f.frame(f.HEADERS, H, 1, STATUS + b"\x0f\x0d\x011") + f.frame(f.DATA, E, 1, b"xy"),
     S, Code.PROTOCOL_ERROR),
    ("8.2.2 connection", f.frame(f.HEADERS, H | E, 1, STATUS + b"\x00\x0aconnection\x05close"),
     S, Code.PROTOCOL_ERROR),
    ("8.2.1 upper case", f.frame(f.HEADERS, H | E, 1, STATUS + b"\x00\x01X\x01y"), S, Code.PROTOCOL_ERROR),
    ("8.4 PUSH_PROMISE", f.frame(f.PUSH_PROMISE, H, 1, b"\0\0\0\2" + BLOCK), C, Code.PROTOCOL_ERROR),
    ("5.1.1 a stream we did not open", f.frame(f.HEADERS, H | E, 3, STATUS), C, Code.PROTOCOL_ERROR),
    ("5.1.1 a stream of the server", f.frame(f.HEADERS, H | E, 2, STATUS), C, Code.PROTOCOL_ERROR),
    ("6.5.2 ENABLE_PUSH 1 from a server", setting(2, 1), C, Code.PROTOCOL_ERROR),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "scope", "code"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
def test_case_of_an_answer(data: bytes, scope: str | None, code: Code | None) -> None:
    """The client's side; a stream's error resets it, and the connection takes another."""
    made, events = end(server=False)
    made.receive(f.settings([]), 0.0)
    made.open(GET, None, end=True)
    made.take()
    if scope == C:
        with pytest.raises(BadConnection) as error:
            made.receive(data, 0.0)
        assert error.value.code is code
        return
    made.receive(data, 0.0)
    assert resets(made.take()) == [(1, code)]
    assert ("reset", 1, code) in events.seen
    made.open(GET, None, end=True)
    made.receive(f.frame(f.HEADERS, H | E, 3, STATUS), 0.0)
    assert events.seen[-1][:3] == ("response", 3, 200)
