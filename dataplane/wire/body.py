"""Where a message's body ends (RFC 9112 §6, §7). Bodies are relayed as received, so nothing is rewritten.

Each framing answers `take(data)`: how many of the bytes at the start of `data` belong to the body.
What it has said yes to may be passed on; the rest belongs to whatever follows the message. `done`
says the body is complete. Chunked framing is stricter than RFC 9112 asks for: lines end in CRLF,
and nothing stands between a chunk size and its CRLF but well-formed extensions.
"""

from __future__ import annotations

import re
from typing import Final

from dataplane.wire.errors import BadMessage

MAX_CHUNK_LINE: Final = 256
"""Longest chunk-size line with its extensions, in bytes."""
MAX_TRAILERS: Final = 8192
"""All trailer fields of one message together, in bytes."""
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\' + _TEXT + rb')*+"'
_EXTENSIONS: Final = rb"(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+)*+"
"""RFC 9112 §7.1.1, without the white space that "bad" senders put in."""
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})" + _EXTENSIONS + rb"\r\n")
_TRAILER: Final = re.compile(rb"(" + _TOKEN + rb"):" + _TEXT + rb"*\r\n")
_NEVER_A_TRAILER: Final = frozenset(
    {b"connection", b"content-length", b"host", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
    | {b"authorization", b"cookie", b"set-cookie", b"x-forwarded-client-cert"}
)
"""RFC 9110 §6.5.1: framing, routing and authentication do not belong into trailers.

Nor with underscores: to servers that pass fields on as variables (CGI, WSGI) they are the same.
"""

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)  # what a chunked body goes on with
_LONGEST: Final = {_SIZE: MAX_CHUNK_LINE, _DATA_END: 2, _TRAILERS: MAX_TRAILERS}
_BEGINNING: Final = {
    _SIZE: re.compile(rb"[0-9A-Fa-f]{1,15}(?:;" + _TEXT + rb"*+)?+\r?"),
    _DATA_END: re.compile(rb"\r"),
    _TRAILERS: re.compile(rb"(?:" + _TOKEN + rb"(?::" + _TEXT + rb"*+)?+)?+\r?"),
}
"""What the part of a line that has arrived must be like, as it goes on before its end is known.

No line's end is among it, and nothing that is one to servers which take a lone CR for it.
"""


class Length:
    """A body of `Content-Length` bytes; `left` of them are still to come."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    @property
    def done(self) -> bool:
        return self.left == 0

    def take(self, data: bytes) -> int:
        size = len(data)
        if size <= self.left:
            self.left -= size
            return size
        taken, self.left = self.left, 0
        return taken


class UntilClose:
    """A response body that ends with the connection (RFC 9112 §6.3, rule 8)."""

    __slots__ = ()
    done: Final = False

    def take(self, data: bytes) -> int:
        return len(data)


class Chunked:
    """A body in chunked coding (RFC 9112 §7.1), trailers included.

    With `decode`, the chunks' content is also collected for `decoded()`, for peers that do not know
    the coding (HTTP/1.0).
    """

    __slots__ = ("_decoded", "_left", "_line", "_step", "_trailers", "done")

    def __init__(self, decode: bool = False) -> None:
        self.done = False
        self._step = _SIZE
        self._left = 0
        self._trailers = 0
        self._line = b""  # the beginning of a line whose end has not arrived
        self._decoded: list[bytes] | None = [] if decode else None

    def take(self, data: bytes) -> int:
        """Raises BadMessage where the coding is broken."""
        at, size = 0, len(data)
        while at < size and not self.done:
            at = self._content(data, at) if self._step == _DATA else self._take_line(data, at)
        return at

    def decoded(self) -> bytes:
        """The content that `take` has passed since the last call; empty without `decode`."""
        if not self._decoded:
            return b""
        content = b"".join(self._decoded)
        self._decoded.clear()
        return content

    def _content(self, data: bytes, at: int) -> int:
        end = min(at + self._left, len(data))
        self._left -= end - at
        if self._decoded is not None:
            self._decoded.append(data[at:end])
        if self._left == 0:
            self._step = _DATA_END
        return end

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        line = self._line + (data[at:end] if end else data[at:])
        if len(line) > _LONGEST[self._step]:
            raise BadMessage("a line of the chunked coding is too long")
        if not end:
            if _BEGINNING[self._step].fullmatch(line) is None:
                raise BadMessage("a line of the chunked coding is not well-formed")
            self._line = line
            return len(data)
        self._line = b""
        if self._step == _SIZE:
            self._size(line)
        elif self._step == _DATA_END:
            if line != b"\r\n":
                raise BadMessage("a chunk does not end where its size says")
            self._step = _SIZE
        else:
            self._trailer(line)
        return end

    def _size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise BadMessage("a chunk size is not well-formed")
        self._left = int(match[1], 16)
        self._step = _DATA if self._left else _TRAILERS

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        self._trailers += len(line)
        match = _TRAILER.fullmatch(line)
        if match is None or self._trailers > MAX_TRAILERS:
            raise BadMessage("the trailer fields are not well-formed or too large")
        if match[1].lower().replace(b"_", b"-") in _NEVER_A_TRAILER:
            raise BadMessage("a trailer field is one that must not be sent as a trailer")


Body = Length | Chunked | UntilClose
