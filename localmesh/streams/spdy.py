"""SPDY/3.1 frames as Kubernetes streams use them: bytes to frames and back. Pure, bounded.

Source: the SPDY/3.1 draft ("SPDY Protocol - Draft 3.1"), sections 2.2 (framing), 2.6 (control frames) and
2.6.10 (name/value header block). Not built: push, credentials, per-stream windows (clients of Kubernetes
neither keep nor send any, so the connection's own flow control is the only one). See ADR 0026.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

VERSION: Final = 3
MAX_FRAME: Final = 1 << 20
"""Bytes of one frame's payload taken from a peer; the format's own limit is 16 MiB."""
MAX_HEADER_BLOCK: Final = 64 * 1024
"""Bytes of one header block once it is unpacked."""
MAX_HEADERS: Final = 256
STREAM_MASK: Final = 0x7FFFFFFF

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN: Final = 1
FLAG_UNIDIRECTIONAL: Final = 2

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL, INTERNAL_ERROR = 1, 2, 3, 5, 6
"""Status codes of RST_STREAM (2.6.3)."""

_WORDS: Final = (
    "options", "head", "post", "put", "delete", "trace", "accept", "accept-charset", "accept-encoding",
    "accept-language", "accept-ranges", "age", "allow", "authorization", "cache-control", "connection",
    "content-base", "content-encoding", "content-language", "content-length", "content-location",
    "content-md5", "content-range", "content-type", "date", "etag", "expect", "expires", "from", "host",
    "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified",
    "location", "max-forwards", "pragma", "proxy-authenticate", "proxy-authorization", "range", "referer",
    "retry-after", "server", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "vary", "via",
    "warning", "www-authenticate", "method", "get", "status", "200 OK", "version", "HTTP/1.1", "url",
    "public", "set-cookie", "keep-alive", "origin",
)  # fmt: skip
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = b"".join(struct.pack("!I", len(word)) + word.encode() for word in _WORDS) + _TAIL.encode()
"""What both sides' header compression starts from (2.6.10.1): 1423 bytes, Adler-32 0xe3c6a7c2."""


class SpdyError(ValueError):
    """The peer broke the protocol; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class SynStream:
    """Opens a stream. Header names are lower case; several values of one name are joined by NUL."""

    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False
    unidirectional: bool = False
    associated: int = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Headers:
    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    stream: int
    delta: int


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    payload: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """A control frame that is skipped: SETTINGS, and types that are not known (2.2.1 asks for that)."""

    kind: int


Frame = SynStream | SynReply | Headers | RstStream | Ping | GoAway | WindowUpdate | Data | Unknown


class Decoder:
    """Bytes of one direction to frames. Keeps at most one incomplete frame."""

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._pending = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now. Raises SpdyError; nothing may be fed after that."""
        self._pending += data
        while len(self._pending) >= 8:
            first, second = struct.unpack_from("!II", self._pending)
            flags, length = second >> 24, second & 0xFFFFFF
            if length > self._max_frame:
                raise SpdyError(f"a frame of {length} bytes is longer than {self._max_frame}")
            if len(self._pending) < 8 + length:
                return
            payload = bytes(memoryview(self._pending)[8 : 8 + length])
            del self._pending[: 8 + length]
            yield self._frame(first, flags, payload)

    def _frame(self, first: int, flags: int, payload: bytes) -> Frame:
        if not first >> 31:
            return Data(first, payload, bool(flags & FLAG_FIN))
        version, kind = (first >> 16) & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"control frame of SPDY version {version}, not {VERSION}")
        fin = bool(flags & FLAG_FIN)
        match kind:
            case 1:
                stream, associated, rest = _unpack("!IIH", payload, kind)
                headers = self._headers(payload[10:])
                unidirectional = bool(flags & FLAG_UNIDIRECTIONAL)
                return SynStream(
                    stream & STREAM_MASK,
                    headers,
                    fin,
                    unidirectional,
                    associated & STREAM_MASK,
                    rest >> 13,
                )
            case 2:
                (stream,) = _unpack("!I", payload, kind)
                return SynReply(stream & STREAM_MASK, self._headers(payload[4:]), fin)
            case 8:
                (stream,) = _unpack("!I", payload, kind)
                return Headers(stream & STREAM_MASK, self._headers(payload[4:]), fin)
            case 3:
                stream, status = _unpack("!II", payload, kind)
                return RstStream(stream & STREAM_MASK, status)
            case 6:
                (number,) = _unpack("!I", payload, kind)
                return Ping(number)
            case 7:
                last, status = _unpack("!II", payload, kind)
                return GoAway(last & STREAM_MASK, status)
            case 9:
                stream, delta = _unpack("!II", payload, kind)
                return WindowUpdate(stream & STREAM_MASK, delta & STREAM_MASK)
            case _:
                return Unknown(kind)

    def _headers(self, block: bytes) -> dict[str, str]:
        """One compressed header block. All blocks of a connection share one dictionary, so each is read."""
        try:
            plain = self._inflate.decompress(block, MAX_HEADER_BLOCK)
        except zlib.error as error:
            raise SpdyError(f"header block: {error}") from error
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a header block is longer than {MAX_HEADER_BLOCK} bytes")
        if self._inflate.eof:
            raise SpdyError("the header compression stream has ended")
        return _read_block(plain)


class Encoder:
    """Frames of one direction to bytes."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        """The frame on the wire. A payload longer than MAX_FRAME is the caller's mistake: ValueError."""
        match frame:
            case Data(stream, payload, fin):
                if len(payload) > MAX_FRAME:
                    raise ValueError(f"a data frame of {len(payload)} bytes is longer than {MAX_FRAME}")
                return struct.pack("!II", stream & STREAM_MASK, fin << 24 | len(payload)) + payload
            case SynStream(stream, headers, fin, unidirectional, associated, priority):
                head = struct.pack("!IIH", stream, associated, priority << 13)
                flags = fin | unidirectional << 1
                return _control(SYN_STREAM, flags, head + self._block(headers))
            case SynReply(stream, headers, fin):
                return _control(SYN_REPLY, fin, struct.pack("!I", stream) + self._block(headers))
            case Headers(stream, headers, fin):
                return _control(HEADERS, fin, struct.pack("!I", stream) + self._block(headers))
            case RstStream(stream, status):
                return _control(RST_STREAM, 0, struct.pack("!II", stream, status))
            case Ping(number):
                return _control(PING, 0, struct.pack("!I", number))
            case GoAway(last_stream, status):
                return _control(GOAWAY, 0, struct.pack("!II", last_stream, status))
            case WindowUpdate(stream, delta):
                return _control(WINDOW_UPDATE, 0, struct.pack("!II", stream, delta))
            case Unknown(kind):
                raise ValueError(f"control frame {kind} cannot be written")

    def _block(self, headers: Mapping[str, str]) -> bytes:
        plain = struct.pack("!I", len(headers))
        for name, value in headers.items():
            for part in (name, value):
                data = part.encode("utf-8", "surrogateescape")
                plain += struct.pack("!I", len(data)) + data
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("!HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def _unpack(layout: str, payload: bytes, kind: int) -> tuple[int, ...]:
    if len(payload) < struct.calcsize(layout):
        raise SpdyError(f"control frame {kind} has only {len(payload)} bytes")
    return struct.unpack_from(layout, payload)


def _read_block(plain: bytes) -> dict[str, str]:
    count, at = _number(plain, 0)
    if count > MAX_HEADERS:
        raise SpdyError(f"a header block of {count} names has more than {MAX_HEADERS}")
    headers: dict[str, str] = {}
    for _ in range(count):
        name, at = _piece(plain, at)
        value, at = _piece(plain, at)
        known = _text(name.lower())
        if not known or known in headers:
            raise SpdyError("an empty or repeated name in a header block")
        headers[known] = _text(value)
    return headers


def _number(plain: bytes, at: int) -> tuple[int, int]:
    if len(plain) < at + 4:
        raise SpdyError("a header block ends early")
    return int.from_bytes(plain[at : at + 4], "big"), at + 4


def _text(data: bytes) -> str:
    """Bytes that are no UTF-8 stay what they are, for `_block`."""
    return data.decode("utf-8", "surrogateescape")


def _piece(plain: bytes, at: int) -> tuple[bytes, int]:
    length, at = _number(plain, at)
    if len(plain) < at + length:
        raise SpdyError("a header block ends early")
    return plain[at : at + length], at + length
