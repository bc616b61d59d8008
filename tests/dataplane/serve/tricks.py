"""Messages put together from what is known to be read differently: a grammar whose input is plain bytes.

Each byte of the input is a choice, so that Hypothesis shrinks and libFuzzer mutates it well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

STARTS: Final = (
    b"GET / HTTP/1.1",
    b"POST / HTTP/1.1",
    b"GET /a?b=c HTTP/1.1",
    b"POST /p HTTP/1.0",
    b"HEAD /h HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET http://a/abs HTTP/1.1",
    b"POST http://a?q HTTP/1.1",
    b"PUT //x//y/../z HTTP/1.1",
    b"DELETE /%2e%2e/%2F HTTP/1.1",
    b"GET  / HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b"GET\t/ HTTP/1.1",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / http/1.1",
    b"GET /",
    b"get / HTTP/1.1",
    b"CONNECT a:80 HTTP/1.1",
    b"GET /\xff\xc0\xaf HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET /\\..\\a HTTP/1.1",
    b"PATCH /;a=b/. HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b'QUERY /{}|^`" HTTP/1.1',
    b"GET /a\rb HTTP/1.1",
    b"\r\nGET / HTTP/1.1",
    b"\nGET / HTTP/1.1",
    b"M-SEARCH * HTTP/1.1",
    b"PRI * HTTP/2.0",
)
NAMES: Final = (
    b"Host",
    b"Content-Length",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"TE",
    b"Trailer",
    b"Expect",
    b"Keep-Alive",
    b"Proxy-Connection",
    b"HTTP2-Settings",
    b"Content_Length",
    b"Transfer_Encoding",
    b"X-Forwarded-Client-Cert",
    b"x_forwarded-client_cert",
    b"X-Forwarded-For",
    b"X",
    b"Content-Type",
    b"Content-Encoding",
    b"Cookie",
    b"Sec-WebSocket-Key",
    b"X-Smi-Mesh-Reason",
)
SOUND: Final = 10
"""So many of the first lines are."""
LINES: Final = (
    b"X: y",
    b"x-empty:",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Connection: upgrade, te",
    b"Connection: x",
    b"Connection: content-length, transfer-encoding, host",
    b"Connection: x-forwarded-for, expect",
    b"Upgrade: websocket",
    b"Upgrade: h2c, websocket",
    b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"TE: trailers",
    b"TE: gzip, trailers",
    b"Trailer: X",
    b"Expect: 100-continue",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Content_Length: 9",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b" Transfer-Encoding: chunked",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 0003",
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding:\t chunked \t",
    b"Host: a",
    b"Host: b:80",
    b"host:a",
    b"X-Forwarded-Client-Cert: URI=spiffe://x/y",
    b"x_forwarded_client-cert: URI=spiffe://x/y",
    b"X-Request-Id: 7",
    b"Content-Type: multipart/byteranges; boundary=a",
    b"Content-Encoding: gzip",
    b"Set-Cookie: a=b; c",
    b"Location: //x/",
)
COLONS: Final = (b": ", b":", b":\t ", b" : ", b"\t:", b"", b": \r\n ", b":\x0b", b":\x00", b":\xa0")
VALUES: Final = (
    b"a",
    b"",
    b"0",
    b"3",
    b"5",
    b"5 ",
    b"05",
    b"+5",
    b"5,5",
    b"0x5",
    b"5\x0b",
    b"10",
    b"999999999999999999",
    b"9999999999999999999",
    b"-1",
    b"chunked",
    b"Chunked",
    b"chunked ",
    b"gzip, chunked",
    b"chunked, chunked",
    b"chunked, identity",
    b"identity",
    b",chunked",
    b"chunked;a=b",
    b"xchunked",
    b'"chunked"',
    b"close",
    b"keep-alive",
    b"upgrade",
    b"close, keep-alive",
    b"content-length",
    b"transfer-encoding, host",
    b"te, trailers",
    b"trailers",
    b"websocket",
    b"h2c",
    b"h2c, websocket",
    b"100-continue",
    b"a:80",
    b"a, b",
    b"a/b",
    b"a@b",
    b"a\rb",
    b"a\nContent-Length: 5",
    b"a\r\n b",
    b"a\r\n\tTransfer-Encoding: chunked",
    b"a\x00b",
    b"\xff\x85\xa0",
    b"a\x7f",
    b"x" * 300,
    b"gzip",
    b"multipart/byteranges; boundary=a",
)
ENDS: Final = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"")
BODIES: Final = (
    b"",
    b"abc",
    b"hello",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;a=b\r\nabc\r\n0\r\n\r\n",
    b'3;a="b"\r\nabc\r\n0\r\nX: y\r\n\r\n',
    b"3;\r\nabc\r\n0;\r\n\r\n",
    b"3;=\r\nabc\r\n0\r\n\r\n",
    b"3; a = b\r\nabc\r\n0\r\n\r\n",
    b'3;a="\r\nabc\r\n0\r\n\r\n',
    b"3;a\x80\r\nabc\r\n0\r\n\r\n",
    b"3;a;b=c;;\r\nabc\r\n0\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"3\r\nabc0\r\n\r\n",
    b"003\r\nabc\r\n000\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\rX\r\nabc\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    b"fffffffffffffff\r\nabc\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\n0\r\nContent-Length: 3\r\n\r\n",
    b"0\r\nX: y\r\n Z\r\n\r\n",
    b"0\r\nX : y\r\n\r\n",
    b"0\r\nX: \xff\t\r\nY:\r\n\r\n",
    b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n",
    b"0\r\n\r\nX",
    b"0\r\nGET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n",
    b"abc\r\n",
)
STATUSES: Final = (
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 205 Reset Content",
    b"HTTP/1.1 206 Partial",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 101 Switching Protocols",
    b"HTTP/1.1 404 \xff\t!",
    b"HTTP/1.1 502 Bad Gateway",
    b"HTTP/1.1 199 x",
    b"HTTP/1.1 999 x",
    b"HTTP/1.1 099 x",
    b"HTTP/1.1 2000 x",
    b"HTTP/1.1  200 OK",
    b"HTTP/1.2 200 OK",
    b"ICY 200 OK",
    b"\r\nHTTP/1.1 200 OK",
    b"HTTP/1.1 +20 OK",
)


class _Choices:
    """Bytes as choices; 0 behind their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def number(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def one(self, of: Sequence[bytes]) -> bytes:
        return of[self.number() % len(of)]


def _message(choices: _Choices, starts: Sequence[bytes], host: bool) -> bytes:
    """Mostly sound: of two tricks in one message, the second is hardly ever reached."""
    shape, odd = choices.number(), choices.number()
    out = bytearray(choices.one(starts if odd & 7 == 7 else starts[:SOUND]))
    ends = ENDS if odd & 0x38 == 0x38 else ENDS[:1]
    out += choices.one(ends)
    if host and shape & 0xE0 != 0xE0:
        out += b"Host: a\r\n"
    for _ in range(shape & 3):
        if shape & 4 or odd & 6 != 6:
            out += choices.one(LINES) + choices.one(ends)
        else:
            colon = choices.one(COLONS if odd & 0x38 == 0x28 else COLONS[:3])
            out += choices.one(NAMES) + colon + choices.one(VALUES) + choices.one(ends)
    out += (b"", b"Content-Length: 3", b"Content-Length:5", b"Transfer-Encoding: chunked")[shape >> 3 & 3]
    out += (b"\r\n" if shape & 0x18 else b"") + b"\r\n"
    framing = shape >> 3 & 3
    body = choices.one(BODIES if odd & 8 else BODIES[3:7]) if framing else b""
    if framing in (1, 2) and odd & 1:
        body = body.ljust(5)[: 2 * framing + 1]  # as long as it says
    out += body
    if odd & 0xC0 == 0xC0:  # a slip of the pen
        at = (choices.number() * 256 + choices.number()) % (len(out) + 1)
        out[at : at + choices.number() % 2] = bytes((choices.number(),))
    return bytes(out)


def requests(data: bytes) -> bytes:
    """One to four requests, the last of which is sound where those before it are."""
    choices = _Choices(data)
    out = _message(choices, STARTS, host=True)
    while choices.left and len(out) < 2000:
        out += _message(choices, STARTS, host=True)
    return out + b"GET /last HTTP/1.1\r\nHost: last\r\n\r\n"


METHODS: Final = (b"GET", b"HEAD", b"POST", b"OPTIONS")


def response(data: bytes) -> tuple[bytes, bytes]:
    """A method, and what a server answers: a response, perhaps with interim ones before it."""
    choices = _Choices(data)
    method = choices.one(METHODS)
    out = _message(choices, STATUSES, host=False)
    while choices.left and len(out) < 2000:
        out += _message(choices, STATUSES, host=False)
    return method, out


# --- HTTP/2 ------------------------------------------------------------------------------------------

Pair = tuple[bytes, bytes]
PSEUDO: Final[tuple[Pair, ...]] = (
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":method", b"CONNECT"),
    (b":method", b"G T"),
    (b":path", b"/a"),
    (b":path", b""),
    (b":path", b"*"),
    (b":path", b"a"),
    (b":path", b"http://a/b"),
    (b":path", b"/a b"),
    (b":path", b"/\xff?\xff#"),
    (b":path", b"/a/..//%2e"),
    (b":scheme", b"https"),
    (b":scheme", b""),
    (b":scheme", b"ftp\x00"),
    (b":authority", b"b"),
    (b":authority", b""),
    (b":authority", b"u@a"),
    (b":authority", b"a:80"),
    (b":protocol", b"websocket"),
    (b":status", b"200"),
    (b":odd", b"1"),
    (b":", b"1"),
)
SOUND_FIELDS: Final[tuple[Pair, ...]] = (
    (b"x", b"y"),
    (b"x", b""),
    (b"te", b"trailers"),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d; e"),
    (b"content-length", b"0"),
    (b"content-length", b"3"),
    (b"x-high", b"\xff\x80"),
    (b"host", b"a"),
    (b"x-request-id", b"7"),
    (b"content-type", b"application/grpc"),
    (b"traceparent", b"00-1"),
    (b"x-forwarded-client-cert", b"URI=x"),
    (b"set-cookie", b"a=b"),
    (b"authorization", b"Basic YTpi"),
    (b"grpc-status", b"0"),
)
ODD_FIELDS: Final[tuple[Pair, ...]] = (
    (b"X", b"y"),
    (b"x y", b"z"),
    (b"x:", b"z"),
    (b"x\r", b"z"),
    (b"x\x00", b"z"),
    (b"\xff", b"z"),
    (b"", b"z"),
    (b"x", b"a\rb"),
    (b"x", b"a\nb"),
    (b"x", b"a\x00b"),
    (b"x", b" a"),
    (b"x", b"a\t"),
    (b"x", b"a\tb"),
    (b"x", b"\x01\x1f\x7f"),
    (b"te", b"gzip"),
    (b"te", b"trailers, gzip"),
    (b"te", b"Trailers"),
    (b"connection", b"close"),
    (b"connection", b"x"),
    (b"keep-alive", b"5"),
    (b"proxy-connection", b"close"),
    (b"transfer-encoding", b"chunked"),
    (b"upgrade", b"h2c"),
    (b"http2-settings", b"AAM"),
    (b"host", b"other"),
    (b"host", b"A"),
    (b"host", b""),
    (b"content-length", b"+3"),
    (b"content-length", b"3, 3"),
    (b"content-length", b""),
    (b"content-length", b"03"),
    (b"content-length", b"5"),
    (b"x_forwarded-client_cert", b"URI=x"),
)
CONTENTS: Final = (b"", b"abc", b"hello", b"ab")


def _fields(choices: _Choices, begin: list[Pair], most: int) -> list[Pair]:
    fields = begin
    odd = choices.number()
    for _ in range(odd & most):
        of = ODD_FIELDS if odd & 0x70 == 0x70 else SOUND_FIELDS
        fields.append(of[choices.number() % len(of)])
    if odd & 0x88 == 0x88 and fields:
        at = choices.number() % (len(fields) + 1)
        fields[at : at + choices.number() % 2] = [PSEUDO[choices.number() % len(PSEUDO)]]
    return fields


def _parts(choices: _Choices, head: list[Pair]) -> list[tuple[str, list[Pair] | bytes]]:
    parts: list[tuple[str, list[Pair] | bytes]] = [("head", _fields(choices, head, 3))]
    shape = choices.number()
    parts += [("data", choices.one(CONTENTS)) for _ in range(shape & 3)]
    if shape & 4:
        parts.append(("head", _fields(choices, [], 3)))
    if shape & 0xF8 == 0xF8:
        parts.append(("data", choices.one(CONTENTS)))
    return parts


def http2_request(data: bytes) -> list[tuple[str, list[Pair] | bytes]]:
    """The parts of a request; the last ends its stream."""
    choices = _Choices(data)
    method = choices.one((b"POST", b"GET", b"HEAD", b"OPTIONS", b"CONNECT"))
    shape = choices.number()
    head = [(b":method", method), (b":scheme", b"http"), (b":path", b"/a?b")]
    if shape & 7 != 7:
        head.append((b":authority", b"a"))
    if shape & 0x38 == 0x38:  # without one, or in another order
        head = head[1:] + head[: shape >> 6]
    return _parts(choices, head)


def http2_response(data: bytes) -> tuple[bytes, list[tuple[str, list[Pair] | bytes]]]:
    """A method, and the parts of an answer to it."""
    choices = _Choices(data)
    method = choices.one(METHODS)
    statuses = (b"200", b"204", b"304", b"404", b"206", b"099", b"20", b"2000", b"101", b"")
    shape = choices.number()
    parts: list[tuple[str, list[Pair] | bytes]] = []
    if shape & 3 == 3:
        parts.append(("head", _fields(choices, [(b":status", choices.one((b"103", b"100", b"101")))], 3)))
    status = choices.one(statuses if shape & 0x1C == 0x1C else statuses[:5])
    return method, parts + _parts(choices, [(b":status", status)])
