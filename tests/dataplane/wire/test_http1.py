"""Heads: what is read, what is refused, what is written on."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.inbound import CALLER_FIELDS
from dataplane.wire.body import Chunked, Length, UntilClose
from dataplane.wire.errors import BadMessage, Fault
from dataplane.wire.http1 import (
    MAX_HEAD,
    OWN_FIELDS,
    head_end,
    parse_request,
    parse_response,
    write_request,
    write_response,
)


def request(*fields: str, line: str = "GET / HTTP/1.1", host: bool = True) -> bytes:
    lines = [line, *(["Host: a"] if host else []), *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def response(*fields: str, line: str = "HTTP/1.1 200 OK") -> bytes:
    return ("\r\n".join([line, *fields]) + "\r\n\r\n").encode("latin-1")


REFUSED = {
    "length and coding": request("Content-Length: 3", "Transfer-Encoding: chunked"),
    "coding and length": request("Transfer-Encoding: chunked", "Content-Length: 3"),
    "two lengths": request("Content-Length: 3", "Content-Length: 4"),
    "the same length twice": request("Content-Length: 3", "Content-Length: 3"),
    "list of lengths": request("Content-Length: 3, 3"),
    "signed length": request("Content-Length: +3"),
    "negative length": request("Content-Length: -3"),
    "hexadecimal length": request("Content-Length: 0x3"),
    "empty length": request("Content-Length:"),
    "endless length": request("Content-Length: 99999999999999999999"),
    "coding twice": request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    "coding list": request("Transfer-Encoding: gzip, chunked"),
    "coding not last": request("Transfer-Encoding: chunked, identity"),
    "unknown coding": request("Transfer-Encoding: xchunked"),
    "coding with a control character": request("Transfer-Encoding: \x0bchunked"),
    "coding in HTTP/1.0": request("Transfer-Encoding: chunked", line="POST / HTTP/1.0"),
    "folded field": request("A: b\r\n c"),
    "folded first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "space before the colon": request("A : b"),
    "space before the colon of the length": request("Content-Length : 3"),
    "no name": request(": b"),
    "no colon": request("A"),
    "bare LF behind a field": request("A: b\nC: d"),
    "bare LF behind the line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare CR in a field": request("A: b\rC: d"),
    "NUL in a field": request("A: b\0"),
    "DEL in a field": request("A: \x7f"),
    "control character in a name": request("A\x01: b"),
    "no host": request(host=False),
    "two hosts": request("Host: b"),
    "joined hosts": b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
    "joined hosts, with a space": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with user information": b"GET / HTTP/1.1\r\nX: y\r\nHost: u@a\r\n\r\n",
    "host with a high byte": b"GET / HTTP/1.1\r\nHost: \xd8a\r\n\r\n",
    "host with a query": b"GET / HTTP/1.1\r\nhost:a?b\r\n\r\n",
    "host with a backslash": b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n",
    "the same host twice": request("Host: a"),
    "two spaces": request(line="GET  / HTTP/1.1"),
    "a tab": request(line="GET\t/ HTTP/1.1"),
    "leading space": request(line=" GET / HTTP/1.1"),
    "trailing space": request(line="GET / HTTP/1.1 "),
    "space in the target": request(line="GET /a b HTTP/1.1"),
    "fragment": request(line="GET /#a HTTP/1.1"),
    "control character in the target": request(line="GET /\x01 HTTP/1.1"),
    "no version": request(line="GET /"),
    "HTTP/0.9": request(line="GET / HTTP/0.9"),
    "HTTP/1.2": request(line="GET / HTTP/1.2"),
    "HTTP/2.0": request(line="GET / HTTP/2.0"),
    "lower-case protocol": request(line="GET / http/1.1"),
    "another protocol": request(line="GET / ICE/1.0"),
    "unknown method": request(line="BREW / HTTP/1.1"),
    "lower-case method": request(line="get / HTTP/1.1"),
    "method with a colon": request(line="GET: / HTTP/1.1"),
    "too many fields": request(*(f"A{i}: b" for i in range(300))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_parsers_read_differently_is_refused(name: str) -> None:
    with pytest.raises(BadMessage):
        parse_request(REFUSED[name])


def test_faults_choose_the_status() -> None:
    for block, fault in (
        (REFUSED["HTTP/2.0"], Fault.VERSION),
        (REFUSED["unknown method"], Fault.NOT_IMPLEMENTED),
        (REFUSED["coding list"], Fault.BAD_REQUEST),
        (REFUSED["too many fields"], Fault.TOO_LARGE),
        (REFUSED["no host"], Fault.BAD_REQUEST),
    ):
        with pytest.raises(BadMessage) as caught:
            parse_request(block)
        assert caught.value.fault is fault


def test_request_is_read() -> None:
    head = parse_request(request("X-A: 1", "x-a: 2", "Content-Length: 5", line="POST /p?q HTTP/1.1"))
    assert (head.method, head.target, head.minor, head.host) == (b"POST", b"/p?q", 1, b"a")
    assert head.fields == [(b"x-a", b"1"), (b"x-a", b"2")]
    assert head.header(b"x-a") == b"1, 2"
    assert head.header(b"host") == b"a"
    assert head.header(b"content-length") == b"5"
    assert isinstance(head.body(), Length)


@pytest.mark.parametrize(
    ("minor", "connection", "close"),
    [
        (1, None, False),
        (1, "close", True),
        (1, "Close , x", True),
        (1, "keep-alive, close", True),
        (0, None, True),
        (0, "keep-alive", False),
        (0, "close, keep-alive", True),
    ],
)
def test_persistence_follows_version_and_connection(minor: int, connection: str | None, close: bool) -> None:
    fields = [f"Connection: {connection}"] if connection else []
    assert parse_request(request(*fields, line=f"GET / HTTP/1.{minor}")).close is close
    assert parse_response(response(*fields, line=f"HTTP/1.{minor} 200 OK")).close is close


def test_hop_by_hop_fields_go_no_further() -> None:
    head = parse_request(
        request(
            "Connection: close, X-Hop, keep-alive",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers, deflate",
            "X-End: 2",
        )
    )
    assert head.header(b"x-hop") is None
    assert (
        write_request(head, b"")
        == b"GET / HTTP/1.1\r\nhost: a\r\nX-End: 2\r\nte: trailers\r\nconnection: te\r\n\r\n"
    )


def test_connection_cannot_take_away_what_frames_or_routes() -> None:
    head = parse_request(request("Connection: host, content-length, transfer-encoding", "Content-Length: 2"))
    assert write_request(head, b"") == b"GET / HTTP/1.1\r\nhost: a\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("connection", "upgrade", "expected"),
    [
        ("Upgrade", "websocket", b"websocket"),
        ("keep-alive, upgrade", "websocket, foo/2", b"websocket, foo/2"),
        ("close", "websocket", None),
        ("upgrade", "h2c", None),
        ("upgrade, http2-settings", "H2C, websocket", b"websocket"),
    ],
)
def test_upgrade_is_passed_on_but_for_h2c(connection: str, upgrade: str, expected: bytes | None) -> None:
    head = parse_request(request(f"Connection: {connection}", f"Upgrade: {upgrade}", "HTTP2-Settings: AAM"))
    assert head.upgrade == expected
    written = write_request(head, b"")
    assert (b"connection: upgrade\r\nupgrade: " in written) is (expected is not None)
    assert b"settings" not in written


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Content-Length:3", "Transfer-Encoding: chunked"])
def test_upgrade_of_a_request_with_a_body_is_not_passed_on(framing: str) -> None:
    """Servers on llhttp's Python binding take the body for what follows the upgrade."""
    head = parse_request(request("Connection: upgrade, te", "Upgrade: websocket", "TE: trailers", framing))
    assert head.upgrade is None
    assert b"upgrade" not in write_request(head, b"").lower()
    assert b"connection: te\r\n" in write_request(head, b"")


def test_fields_can_be_added_and_dropped() -> None:
    head = parse_request(request("X-Spoof: 1", "X-SPOOF: 2"))
    written = write_request(head, b"x-spoof: mine\r\n", frozenset({b"x-spoof"}))
    assert written == b"GET / HTTP/1.1\r\nhost: a\r\nx-spoof: mine\r\n\r\n"


@pytest.mark.parametrize("name", sorted(OWN_FIELDS | {b"x-other"}))
def test_any_field_can_be_dropped(name: bytes) -> None:
    sent = name.decode()
    head = parse_request(request("X-A: 1", f"{sent.title()}: 2", f"{sent}-not: 3", f"{sent.upper()}:4"))
    written = write_request(head, b"", frozenset({name}))
    assert written == b"GET / HTTP/1.1\r\nhost: a\r\nX-A: 1\r\n%b-not: 3\r\n\r\n" % name
    answer = parse_response(response("X-A: 1", f"{sent.title()}: 2"))
    assert write_response(answer, drop=frozenset({name})) == b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n"


def test_what_the_inbound_side_takes_off_is_known_to_heads() -> None:
    """So that it costs nothing where it is not there."""
    assert CALLER_FIELDS <= OWN_FIELDS


def test_a_request_without_an_id_is_given_one() -> None:
    head = parse_request(request())
    for _ in range(2):  # a retry carries the same
        written = write_request(head, b"", new_id=iter([b"1"]).__next__)
        assert written == b"GET / HTTP/1.1\r\nhost: a\r\nx-request-id: 1\r\n\r\n"
    for fields, count in ((["X-Request-Id: 7"], 1), (["X-Request-Id: 7", "Connection: x-request-id"], 1)):
        written = write_request(parse_request(request(*fields)), b"", new_id=lambda: b"1")
        assert written.lower().count(b"x-request-id") == count


@pytest.mark.parametrize("text", ["Content-Length:2", "Content-Length: \t2 ", "content-length:  2"])
def test_a_length_is_written_plainly(text: str) -> None:
    """Whatever white space it came with."""
    assert write_request(parse_request(request(text)), b"").endswith(b"\r\ncontent-length: 2\r\n\r\n")
    assert write_response(parse_response(response(text))).endswith(b"\r\ncontent-length: 2\r\n\r\n")


@pytest.mark.parametrize(
    ("fields", "method", "line", "framing"),
    [
        (["Content-Length: 5"], b"GET", "HTTP/1.1 200 OK", Length),
        (["Content-Length: 5"], b"HEAD", "HTTP/1.1 200 OK", type(None)),
        (["Content-Length: 5"], b"GET", "HTTP/1.1 304 Not Modified", type(None)),
        (["Content-Length: 0"], b"GET", "HTTP/1.1 200 OK", type(None)),
        ([], b"GET", "HTTP/1.1 204 No Content", type(None)),
        (["Transfer-Encoding: chunked"], b"GET", "HTTP/1.1 200 OK", Chunked),
        (["Transfer-Encoding: Chunked "], b"GET", "HTTP/1.1 200 OK", Chunked),
        ([], b"GET", "HTTP/1.1 200 OK", UntilClose),
        ([], b"GET", "HTTP/1.0 200 OK", UntilClose),
    ],
)
def test_response_framing(fields: list[str], method: bytes, line: str, framing: type) -> None:
    assert isinstance(parse_response(response(*fields, line=line)).body(method), framing)


@pytest.mark.parametrize(
    "block",
    [
        response("Content-Length: 3", "Transfer-Encoding: chunked"),
        response("Content-Length: 3", "Content-Length: 3"),
        response("Content-Length: 3", "Content-Length:3"),
        response("Transfer-Encoding: chunked", "Content-Length:3"),
        response("Transfer-Encoding: chunked, gzip"),
        response("Transfer-Encoding: gzip, chunked"),
        response("Transfer-Encoding: chunked, chunked"),
        response("Transfer-Encoding: ,chunked"),
        response("Transfer-Encoding: \xa0,chunked"),
        response("Transfer-Encoding: chunked", line="HTTP/1.0 200 OK"),
        response("A : b"),
        response(line="HTTP/1.1 99 Odd"),
        response(line="HTTP/1.1 2000 Odd"),
        response(line="HTTP/2 200"),
        b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
def test_ambiguous_responses_are_refused(block: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_response(block)


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Content-Length:3", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("status", [100, 103, 199, 204, 304])
def test_an_answer_without_a_body_says_nothing_about_one(status: int, framing: str) -> None:
    """RFC 9110 §8.6; llhttp waits for the body of a 103, Python's http.client for the chunks of a 204."""
    head = parse_response(response("A: b", framing, "C: d", line=f"HTTP/1.1 {status} x"))
    written = write_response(head)
    if status == 304 and framing.startswith("Content"):
        assert b"\r\ncontent-length:" in written.lower()  # of what there is
        return
    assert not head.verbatim
    assert written == b"HTTP/1.1 %d x\r\nA: b\r\nC: d\r\n\r\n" % status
    assert head.body(b"GET") is None


def test_switching_says_nothing_about_a_body() -> None:
    lines = ("Connection: upgrade", "Upgrade: a", "Content-Length: 3")
    written = write_response(parse_response(response(*lines, line="HTTP/1.1 101 x")))
    assert written == b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n"


def test_response_is_written_in_our_version() -> None:
    head = parse_response(
        response("X: 1", "Connection: close", "Content-Length: 2", line="HTTP/1.0 200 Fine")
    )
    assert write_response(head) == b"HTTP/1.1 200 Fine\r\nX: 1\r\nContent-Length: 2\r\n\r\n"


def test_decoded_response_loses_its_coding() -> None:
    head = parse_response(response("Transfer-Encoding: chunked"))
    assert write_response(head) == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert write_response(head, decoded=True) == b"HTTP/1.1 200 OK\r\n\r\n"


def test_switching_protocols_keeps_the_protocol() -> None:
    head = parse_response(
        response("Connection: Upgrade", "Upgrade: websocket", line="HTTP/1.1 101 Switching Protocols")
    )
    assert b"connection: upgrade\r\nupgrade: websocket\r\n" in write_response(head)


def test_heads_are_bounded() -> None:
    with pytest.raises(BadMessage) as caught:
        head_end(b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD)
    assert caught.value.fault is Fault.TOO_LARGE
    with pytest.raises(BadMessage):
        head_end(b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD + b"\r\n\r\n")


def test_a_bare_lf_is_refused_before_the_head_is_complete() -> None:
    with pytest.raises(BadMessage):
        head_end(b"GET / HTTP/1.1\nHost: a\n\n")


@given(st.integers(0, 60), st.integers(1, 9))
def test_the_end_is_found_however_the_bytes_arrive(length: int, step: int) -> None:
    block = request("A: " + "x" * length) + b"rest"
    arrived, scanned, end = b"", 0, 0
    for at in range(0, len(block), step):
        arrived += block[at : at + step]
        end = head_end(arrived, 0, scanned)
        if end:
            break
        scanned = max(len(arrived) - 3, 0)
    assert end == len(block) - 4


_FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"GET / HTTP/1.1\r\n",
            b"Host: a\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Content-Length: 1\r\n",
            b"Connection: upgrade\r\n",
            b"Upgrade: h2c\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b": ",
            b" ",
            b"HTTP/1.1 101 x\r\n",
        ]
    )
    | st.binary(max_size=6),
    max_size=12,
)


@given(_FRAGMENTS)
def test_only_one_exception_escapes(fragments: list[bytes]) -> None:
    block = b"".join(fragments) + b"\r\n\r\n"
    for parse in (parse_request, parse_response):
        with contextlib.suppress(BadMessage):  # the only one that may
            parse(block)


@given(_FRAGMENTS)
def test_what_is_written_reads_the_same(fragments: list[bytes]) -> None:
    """What the next hop sees is what was decided on."""
    try:
        head = parse_request(b"GET / HTTP/1.1\r\n" + b"".join(fragments) + b"\r\n")
    except BadMessage:
        return
    again = parse_request(write_request(head, b""))
    assert (again.method, again.target, again.host) == (head.method, head.target, head.host)
    assert (again.fields, again.content_length, again.upgrade) == (
        head.fields,
        head.content_length,
        head.upgrade,
    )


TRACED = (
    "Host: a",
    "TraceParent:  00-x ",
    "X-A: 1",
    "tracestate: a=1",
    "X-B3-TraceId: 2",
    "tracestate: b=2",
    "B3: 1",
)
TRACE_FIELDS = [
    (b"traceparent", b"00-x"),
    (b"tracestate", b"a=1"),
    (b"x-b3-traceid", b"2"),
    (b"tracestate", b"b=2"),
    (b"b3", b"1"),
]


@pytest.mark.parametrize(
    "more", [(), ("Content-Length: 2",), ("Connection: close", "X-Forwarded-Client-Cert: x")]
)
def test_what_a_request_says_about_its_trace_is_looked_for_where_it_is_wanted(more: tuple[str, ...]) -> None:
    block = ("GET / HTTP/1.1\r\n" + "\r\n".join([*TRACED, *more]) + "\r\n\r\n").encode()
    head = parse_request(block, traced=True)
    assert head.trace == TRACE_FIELDS
    assert not head.identified
    assert parse_request(block).trace is None
    assert dict(head.fields)[b"traceparent"] == b"00-x"  # it goes on as it came


def test_a_trace_field_that_is_nominated_ends_here() -> None:
    head = parse_request(request("traceparent: 00-x", "b3: 1", "Connection: TraceParent"), traced=True)
    assert head.trace == [(b"b3", b"1")]


def test_trace_fields_are_put_in_the_place_of_those_that_came() -> None:
    head = parse_request(("GET / HTTP/1.1\r\n" + "\r\n".join(TRACED) + "\r\n\r\n").encode(), traced=True)
    head.put_trace([(b"traceparent", b"1"), (b"b3", b"2")])
    assert head.fields == [(b"x-a", b"1"), (b"traceparent", b"1"), (b"b3", b"2")]
    assert write_request(head, b"").endswith(b"\r\nX-A: 1\r\ntraceparent: 1\r\nb3: 2\r\n\r\n")


@pytest.mark.parametrize("given", ["", "X-Request-Id: mine"])
def test_a_request_that_is_not_traced_says_so_with_its_own_id_if_it_has_none(given: str) -> None:
    head = parse_request(request(*([given] if given else [])), traced=True)
    head.put_no_trace(b"7" * 32, b"-1-00")
    written = write_request(head, b"", new_id=lambda: b"another")
    assert b"\r\ntraceparent: 00-" + b"7" * 32 + b"-1-00\r\n" in written
    expected = b"mine" if given else b"7" * 32
    assert head.header(b"x-request-id") == expected
    assert b"another" not in written
