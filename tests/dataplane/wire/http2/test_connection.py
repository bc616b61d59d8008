"""Streams, windows, limits and floods of one HTTP/2 connection, and what bytes can do to it."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.http2 import PREFACE, BadConnection, Code, Connection, bounds, frames
from dataplane.wire.http2.hpack import Writer
from tests.dataplane.wire.http2.kit import GET, OK, POST, Events, Pair, end

HELLO = PREFACE + frames.settings([])


def server(*, credit: bool = True) -> tuple[Connection, Events]:
    made, events = end(server=True, credit=credit)
    made.receive(HELLO, 0.0)
    made.take()
    return made, events


def headers(number: int, block: bytes, flags: int = frames.END_HEADERS | frames.END_STREAM) -> bytes:
    return frames.frame(frames.HEADERS, flags, number, block)


def request(number: int, writer: Writer, *, done: bool = True) -> bytes:
    flags = frames.END_HEADERS | (frames.END_STREAM if done else 0)
    return headers(number, writer.write(GET if done else POST), flags)


def sent(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(type, flags, stream, payload) of every frame."""
    found = []
    while data:
        size = int.from_bytes(data[:3], "big")
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
        data = data[9 + size :]
    return found


def code_of(error: pytest.ExceptionInfo[BadConnection]) -> Code:
    return error.value.code


def ended(made: Connection, flood: Iterable[bytes]) -> Code | None:
    """What the connection ended with; None: it bore everything."""
    for data in flood:
        try:
            made.receive(data, 0.0)
        except BadConnection as error:
            return error.code
        made.take()
    return None


def test_request_and_answer_with_bodies_and_trailers() -> None:
    pair = Pair()
    stream = pair.client.open([*POST, (b"x-a", b"1")], "owner", end=False)
    assert pair.client.send_data(stream, b"hello", end=False)
    pair.client.send_head(stream, [(b"x-sum", b"5")], end=True)
    pair.carry()
    assert pair.at_server.seen == [
        ("request", 1, b"POST", b"/", ((b"x-a", b"1"),), False),
        ("trailers", 1, ((b"x-sum", b"5"),)),
    ]
    assert pair.at_server.data == {1: b"hello"}
    served = pair.at_server.streams[1]
    pair.server.send_head(served, [(b":status", b"103")], end=False)
    pair.server.send_head(served, OK, end=False)
    pair.server.send_data(served, b"there", end=True)
    pair.carry()
    assert pair.at_client.seen == [
        ("response", 1, 103, (), False),
        ("response", 1, 200, (), False),
        ("end", 1),
    ]
    assert not pair.client.streams
    assert not pair.server.streams


def test_bodies_larger_than_every_window_arrive_whole() -> None:
    pair = Pair()
    body = bytes(range(256)) * 4096 * 12  # 12 MiB
    stream = pair.client.open(POST, None, end=False)
    assert not pair.client.send_data(stream, body, end=True)
    pair.carry()
    assert pair.at_server.data == {1: body}
    assert pair.at_client.sent == len(body)


def test_without_credit_a_stream_stops_at_its_window_and_others_go_on() -> None:
    pair = Pair(credit=False)
    stuck = pair.client.open(POST, None, end=False)
    pair.client.send_data(stuck, bytes(1 << 22), end=True)
    pair.carry()
    assert len(pair.at_server.data[1]) == bounds.STREAM_WINDOW
    other = pair.client.open(POST, None, end=False)
    pair.client.send_data(other, b"x", end=True)
    pair.carry()
    assert pair.at_server.data[3] == b"x"
    pair.server.reset(pair.at_server.streams[1], Code.CANCEL)  # gives the connection's window back
    for number in range(20):
        late = pair.client.open(POST, None, end=False)
        pair.client.send_data(late, bytes(200_000), end=True)
        pair.carry()
        pair.server.reset(pair.at_server.streams[late.id], Code.CANCEL)
        assert len(pair.at_server.data[late.id]) == 200_000, number


def test_while_the_socket_is_full_nothing_of_a_stream_is_framed() -> None:
    pair = Pair()
    stream = pair.client.open(GET, None, end=True)
    pair.carry()
    pair.server.blocked = True
    served = pair.at_server.streams[stream.id]
    pair.server.send_head(served, OK, end=False)
    pair.server.send_data(served, b"x" * 1000, end=False)
    pair.server.send_head(served, [(b"x-t", b"1")], end=True)
    assert pair.server.take() == b""
    pair.server.blocked = False
    pair.server.pump()
    pair.carry()
    assert [event[0] for event in pair.at_client.seen] == ["response", "trailers"]
    assert pair.at_client.data == {1: b"x" * 1000}


def test_tiny_pieces_that_wait_take_little_more_than_their_bytes() -> None:
    """Each by itself would take twenty times its bytes, within every window."""
    pair = Pair()
    stream = pair.client.open(POST, None, end=False)
    pair.carry()
    pair.client.blocked = True
    body = bytes(number % 251 for number in range(100_000))
    for at in range(0, len(body), 2):
        pair.client.send_data(stream, body[at : at + 2], end=False)
    pair.client.send_head(stream, [(b"x-t", b"1")], end=True)
    assert stream.outbox is not None
    assert len(stream.outbox) <= len(body) // bounds.SMALL + 2
    pair.client.blocked = False
    pair.client.pump()
    pair.carry()
    assert pair.at_server.data == {1: body}
    assert pair.at_server.seen[-1] == ("trailers", 1, ((b"x-t", b"1"),))


def test_waiting_streams_take_turns() -> None:
    pair = Pair(credit=False)
    pair.client.blocked = True
    streams = [pair.client.open(POST, None, end=False) for _ in range(3)]
    for stream in streams:
        pair.client.send_data(stream, bytes(40_000), end=True)
    pair.client.take()
    pair.client.blocked = False
    pair.client.pump()
    order = [number for kind, _, number, _ in sent(pair.client.take()) if kind == frames.DATA]
    assert order[:3] == [1, 3, 5]


def test_shut_down_lets_requests_under_way_finish() -> None:
    pair = Pair()
    first = pair.client.open(GET, None, end=True)
    pair.server.shut_down()
    second = pair.client.open(GET, None, end=True)  # crosses the GOAWAY
    pair.carry()
    assert ("drained",) in pair.at_server.seen
    assert ("goaway", second.id) in pair.at_client.seen
    assert not pair.client.can_open
    for stream in (first, second):
        pair.server.send_head(pair.at_server.streams[stream.id], OK, end=True)
    pair.carry()
    assert not pair.server.streams
    assert sum(event[0] == "response" for event in pair.at_client.seen) == 2


@pytest.mark.parametrize(
    ("flood", "code"),
    [
        (lambda n, w: frames.frame(frames.PING, 0, 0, bytes(8)), Code.ENHANCE_YOUR_CALM),
        (lambda n, w: frames.settings([]), Code.ENHANCE_YOUR_CALM),
        (lambda n, w: frames.frame(frames.PRIORITY, 0, 2 * n + 1, bytes(5)), Code.PROTOCOL_ERROR),
        (lambda n, w: frames.frame(99, 0, 0, b"what"), Code.ENHANCE_YOUR_CALM),
        (lambda n, w: frames.window_update(0, 1), Code.ENHANCE_YOUR_CALM),
        (lambda n, w: request(2 * n + 1, w) + frames.rst_stream(2 * n + 1, 8), Code.ENHANCE_YOUR_CALM),
        (lambda n, w: request(2 * n + 1, w, done=False) + frames.window_update(2 * n + 1, 0), None),
        (lambda n, w: headers(2 * n + 1, w.write([*GET, (b"Bad", b"")])), Code.ENHANCE_YOUR_CALM),
    ],
    ids=["ping", "settings", "priority", "unknown", "window", "rapid-reset", "made-you-reset", "malformed"],
)
def test_floods_end(flood: object, code: Code | None) -> None:
    made, _ = server()
    writer = Writer()
    found = ended(made, (flood(number, writer) for number in range(5000)))  # type: ignore[operator]  # as parametrized
    assert found in (code, Code.ENHANCE_YOUR_CALM)


def test_a_flood_of_empty_data_ends() -> None:
    made, _ = server()
    made.receive(request(1, Writer(), done=False), 0.0)
    assert ended(made, [frames.frame(frames.DATA, 0, 1)] * 5000) is Code.ENHANCE_YOUR_CALM


def test_endless_continuation_ends() -> None:
    made, _ = server()
    made.receive(headers(1, b"", 0), 0.0)
    assert ended(made, [frames.frame(frames.CONTINUATION, 0, 1)] * 100) is Code.ENHANCE_YOUR_CALM


def test_pings_at_a_decent_rate_go_on_for_ever() -> None:
    made, _ = server()
    for second in range(10_000):
        made.receive(frames.frame(frames.PING, 0, 0, bytes(8)), float(second))
        assert sent(made.take()) == [(frames.PING, frames.ACK, 0, bytes(8))]


def test_more_streams_than_agreed_are_refused() -> None:
    made, _ = server()
    writer = Writer()
    for number in range(bounds.MAX_STREAMS):
        made.receive(request(2 * number + 1, writer), 0.0)
    made.take()
    made.receive(request(1001, writer), 0.0)
    assert sent(made.take()) == [(frames.RST_STREAM, 0, 1001, struct.pack(">L", Code.REFUSED_STREAM))]


def test_a_head_that_is_too_large_can_be_answered() -> None:
    made, events = server()
    writer = Writer()
    made.receive(headers(1, writer.write([*GET, *[(b"x-many", b"")] * 300])), 0.0)
    assert events.seen == [("refused", 1, 431)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.frame(frames.DATA, 0, 1), Code.PROTOCOL_ERROR),
        (frames.frame(frames.DATA, 0, 0), Code.PROTOCOL_ERROR),
        (frames.window_update(0, 0), Code.PROTOCOL_ERROR),
        (frames.window_update(1, 1), Code.PROTOCOL_ERROR),
        (frames.window_update(0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
        (frames.rst_stream(1, 0), Code.PROTOCOL_ERROR),
        (frames.frame(frames.RST_STREAM, 0, 1, b"123"), Code.FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (frames.frame(frames.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        (frames.frame(frames.SETTINGS, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (frames.frame(frames.SETTINGS, frames.ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        (frames.settings([(frames.ENABLE_PUSH, 2)]), Code.PROTOCOL_ERROR),
        (frames.settings([(frames.INITIAL_WINDOW_SIZE, 1 << 31)]), Code.FLOW_CONTROL_ERROR),
        (frames.settings([(frames.MAX_FRAME_SIZE, 100)]), Code.PROTOCOL_ERROR),
        (frames.frame(frames.PUSH_PROMISE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
        (frames.frame(frames.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
        (frames.frame(frames.CONTINUATION, 0, 1), Code.PROTOCOL_ERROR),
        (frames.frame(frames.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
        (headers(2, b"\x82"), Code.PROTOCOL_ERROR),
        (headers(1, b"\x82", 0) + frames.frame(frames.PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
        (headers(1, b"\x80"), Code.COMPRESSION_ERROR),
        (headers(1, b"\x40"), Code.COMPRESSION_ERROR),
        (headers(1, b"\x82\x20"), Code.COMPRESSION_ERROR),
        (frames.frame(frames.HEADERS, 0x2C, 1, b"\xff\x00"), Code.PROTOCOL_ERROR),
        (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", Code.FRAME_SIZE_ERROR),
    ],
)
def test_what_ends_a_connection(data: bytes, code: Code) -> None:
    made, _ = server()
    with pytest.raises(BadConnection) as error:
        made.receive(data, 0.0)
    assert code_of(error) is code


@pytest.mark.parametrize(
    "fields",
    [
        [(b":path", b"/")],
        [*GET, (b":path", b"/")],
        [(b"x", b"y"), *GET],
        [*GET, (b":status", b"200")],
        [*GET, (b":other", b"200")],
        [*GET, (b"connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"host", b"other")],
        [*GET, (b"X-Upper", b"y")],
        [*GET, (b"", b"y")],
        [*GET, (b"x\n", b"y")],
        [*GET, (b"x", b"a\r\nb: c")],
        [*GET, (b"x", b"a\nb")],
        [*GET, (b"x", b"a\x00")],
        [*GET, (b"x", b" a")],
        [*GET, (b"content-length", b"1")],
        [*GET, (b"content-length", b"-1")],
        [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
        [*GET[:2], (b":path", b""), GET[3]],
        [*GET[:2], (b":path", b"x"), GET[3]],
        GET[:3],
    ],
)
def test_malformed_requests_cost_only_their_stream(fields: list[tuple[bytes, bytes, bool]]) -> None:
    made, events = server()
    writer = Writer()
    made.receive(headers(1, writer.write(fields)), 0.0)
    assert [event[0] for event in events.seen] == ["malformed"]
    assert sent(made.take()) == [(frames.RST_STREAM, 0, 1, struct.pack(">L", Code.PROTOCOL_ERROR))]
    made.receive(request(3, writer), 0.0)
    assert events.seen[1][:2] == ("request", 3)


@pytest.mark.parametrize("pieces", [[b"12345"], [b"1"], [b"1234", b"5"]])
def test_body_must_have_the_length_it_announced(pieces: list[bytes]) -> None:
    made, events = server()
    fields = [*POST, (b"content-length", b"3")]
    made.receive(headers(1, Writer().write(fields), frames.END_HEADERS), 0.0)
    for number, piece in enumerate(pieces):
        flags = frames.END_STREAM if number == len(pieces) - 1 else 0
        made.receive(frames.frame(frames.DATA, flags, 1, piece), 0.0)
    assert ("reset", 1, Code.PROTOCOL_ERROR) in events.seen


def test_late_frames_of_a_stream_we_reset_are_ignored() -> None:
    made, events = server()
    writer = Writer()
    made.receive(request(1, writer, done=False), 0.0)
    made.reset(events.streams[1], Code.CANCEL)
    made.take()
    made.receive(frames.frame(frames.DATA, 0, 1, b"late"), 0.0)
    made.receive(headers(1, writer.write([(b"x-trailer", b"1")])), 0.0)
    assert made.take() == b""
    made.receive(request(3, writer), 0.0)  # the compression tables are still in step
    assert events.seen[-1][:2] == ("request", 3)


FRAMES = st.builds(
    frames.frame,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x25, 0x2D]),
    st.sampled_from([0, 1, 1, 2, 3, 5]),
    st.one_of(
        st.binary(max_size=40),
        st.just(Writer().write(GET)),
        st.just(Writer().write([*POST, (b"content-length", b"7")])),
        st.just(bytes(8)),
        st.just(struct.pack(">L", 1000)),
    ),
)


@given(st.booleans(), st.lists(FRAMES, max_size=30))
def test_only_one_exception_escapes(as_server: bool, sequence: list[bytes]) -> None:
    made, _ = end(server=as_server)
    if not as_server:
        made.open(GET, None, end=True)
        made.open(POST, None, end=False)
    with contextlib.suppress(BadConnection):
        made.receive(HELLO if as_server else frames.settings([]), 0.0)
        for one in sequence:
            made.receive(one, 0.0)
    assert len(made.take()) < 100_000


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_chunking_is_invisible(cuts: list[int]) -> None:
    writer = Writer()
    data = HELLO + request(1, writer) + request(3, writer, done=False)
    data += frames.frame(frames.DATA, frames.PADDED, 3, b"\x04hello" + bytes(4))
    data += frames.frame(frames.PING, 0, 0, bytes(8))
    data += frames.frame(frames.DATA, 0, 3, bytes(300)) + frames.frame(
        frames.DATA, frames.END_STREAM, 3, b"!"
    )
    block = writer.write([*GET, (b"x-long", b"v" * 300)])
    data += headers(5, block[:50], frames.END_STREAM)
    data += frames.frame(frames.CONTINUATION, frames.END_HEADERS, 5, block[50:])
    whole, expected = end(server=True)
    whole.receive(data, 0.0)
    pieced, events = end(server=True)
    at = 0
    for size in [*cuts, len(data)]:
        if data[at : at + size]:
            pieced.receive(data[at : at + size], 0.0)
        at += size
    assert (events.seen, events.data) == (expected.seen, expected.data)
    assert pieced.take() == whole.take()


def test_pings_that_measure_round_trips_are_free() -> None:
    """gRPC asks at most once for every DATA frame that it gets (grpc-go, bdp_estimator.go)."""
    pair = Pair()
    stream = pair.client.open(POST, None, end=False)
    pair.carry()
    for _ in range(3 * int(bounds.ALLOWANCE)):
        pair.client.send_data(stream, b"x", end=False)
        pair.carry()
        pair.server.ping()
        pair.carry()
    for _ in range(1 + int(bounds.ALLOWANCE)):
        pair.server.ping()
    with pytest.raises(BadConnection, match="bring nothing"):
        pair.carry()


def test_an_answer_goes_out_before_the_rest_of_the_request_is_refused() -> None:
    """Who wants no more says so by NO_ERROR behind an answer, which may have to wait (RFC 9113 §8.1)."""
    pair = Pair(credit=False)
    stream = pair.client.open(POST, None, end=False)
    pair.client.send_data(stream, b"half", end=False)
    pair.carry()
    served = pair.at_server.streams[stream.id]
    pair.server.send_head(served, OK, end=False)
    pair.server.blocked = True
    pair.server.send_data(served, b"answer", end=False)
    pair.server.send_head(served, [(b"grpc-status", b"0")], end=True)
    pair.server.finish(served, Code.NO_ERROR)
    assert not served.held
    pair.server.blocked = False
    pair.server.pump()
    pair.carry()
    told = [event[0] for event in pair.at_client.seen]
    assert told == ["response", "trailers", "reset"]
    assert pair.at_client.data[stream.id] == b"answer"
    assert not pair.server.streams


def test_credit_owed_for_a_closed_stream_is_given_when_its_owner_gives_up() -> None:
    """Both sides have ended, what came is not on its way yet, and will not be."""
    pair = Pair(credit=False)
    for _ in range(2 * bounds.CONNECTION_WINDOW // bounds.STREAM_WINDOW):
        stream = pair.client.open(GET, None, end=True)
        pair.carry()
        served = pair.at_server.streams[stream.id]
        pair.server.send_head(served, OK, end=False)
        pair.server.send_data(served, bytes(bounds.STREAM_WINDOW), end=True)
        pair.carry()
        assert stream.closed
        assert len(pair.at_client.data[stream.id]) == bounds.STREAM_WINDOW
        pair.client.reset(stream, Code.CANCEL)
    assert not pair.client.crowded


@pytest.mark.parametrize(("cost", "most"), [(bounds.RESET_COST, 500), (bounds.PROXY_RESET_COST, 8000)])
def test_withdrawn_requests_are_paid_by_answered_ones(cost: float, most: int) -> None:
    """A client may withdraw as many requests as it has had answered, and then what its allowance pays for."""
    made, _ = server()
    made.reset_cost = cost
    writer, number = Writer(), 1

    def withdraw() -> None:
        nonlocal number
        made.receive(request(number, writer, done=False) + frames.rst_stream(number, Code.CANCEL), 0.0)
        number += 2

    for _ in range(1000):
        made.receive(request(number, writer), 0.0)
        made.send_head(made.streams[number], OK, end=True)
        number += 2
        withdraw()
        made.take()
    for _ in range(most):
        withdraw()
    with pytest.raises(BadConnection, match="bring nothing"):
        withdraw()


def test_a_body_that_is_under_way_when_it_is_refused_is_no_flood() -> None:
    pair = Pair()
    for _ in range(100):
        stream = pair.client.open(POST, None, end=False)
        pair.carry()
        served = pair.at_server.streams[stream.id]
        for _ in range(15):
            pair.client.send_data(stream, bytes(frames.DEFAULT_FRAME), end=False)
        pair.server.send_head(served, OK, end=True)
        pair.server.reset(served, Code.NO_ERROR)
        pair.carry()
    assert not pair.server.going_away
