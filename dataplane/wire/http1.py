"""Heads of HTTP/1.1 messages: read strictly, written anew (RFC 9112, RFC 9110 §7.6.1).

What differs between servers is refused, because a request that two parsers read differently is how
requests are smuggled. Hop-by-hop fields end here. Bodies are not looked at: `body` says where they
end. Field lines are read by `wire.fields`, which knows most of them already.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from dataplane.wire.body import Body, Chunked, Length, UntilClose
from dataplane.wire.errors import BadMessage, Fault
from dataplane.wire.fields import FIELDS, LINES
from smi.policy.match import Request

MAX_HEAD: Final = 65536
"""Longest head in bytes."""
MAX_FIELDS: Final = 256
"""Most header lines of one head."""
HEAD_END: Final = b"\r\n\r\n"

Fields = list[tuple[bytes, bytes]]

_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET: Final = re.compile(rb"[!\"$-~\x80-\xff]+")
_METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH "
    b"UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE "
    b"PURGE MKCALENDAR LINK UNLINK QUERY".split()
)
"""Methods of the IANA registry that servers know; an unknown one may have a framing of its own."""
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_MANAGED: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
    | {b"http2-settings", b"host", b"content-length"}
)
"""Fields about this connection or this message's framing; every other field is passed on."""
_NEVER_NOMINATED: Final = _MANAGED | {b"close"}
_H2C: Final = b"h2c"


class RequestHead(Request):
    """A request's head. As a `Request` it shows policies the end-to-end fields only.

    `path` and `host` are set by whoever knows where the request came from (listener, absolute form);
    until then they are the target as sent and the Host field.
    """

    __slots__ = ("close", "content_length", "fields", "managed", "minor", "target", "te_trailers", "upgrade")

    def __init__(self, method: bytes, target: bytes, minor: int) -> None:
        self.fields: Fields = []
        """End-to-end fields, names in lower case; the same list as `headers`."""
        self.method = method
        self.path = target
        self.host = b""
        self.headers = self.fields
        self.target = target
        """As it is to be sent on."""
        self.minor = minor
        """0 for HTTP/1.0, 1 for HTTP/1.1."""
        self.managed: Fields = []
        self.content_length = 0
        """Bytes of the body; -1: chunked; 0: no body."""
        self.close = minor == 0
        """The client does not want the connection to go on after this exchange."""
        self.upgrade: bytes | None = None
        self.te_trailers = False

    def header(self, name: bytes) -> bytes | None:
        """As `Request.header`, with the fields that are not passed on but may be filtered for."""
        if name in _MANAGED and name != b"host":
            values = [value for key, value in self.managed if key == name]
            return b", ".join(values) if values else None
        return Request.header(self, name)

    def body(self) -> Length | Chunked | None:
        """The framing of the body, None if there is none."""
        if self.content_length == 0:
            return None
        return Chunked() if self.content_length < 0 else Length(self.content_length)


class ResponseHead:
    """A response's head."""

    __slots__ = ("close", "content_length", "fields", "managed", "minor", "reason", "status", "upgrade")

    def __init__(self, status: int, reason: bytes, minor: int) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.fields: Fields = []
        """End-to-end fields, names in lower case."""
        self.managed: Fields = []
        self.content_length: int | None = None
        """As sent; None: no such field; -1: chunked."""
        self.close = minor == 0
        """The server will not answer another request on this connection."""
        self.upgrade: bytes | None = None

    def body(self, method: bytes, decode: bool = False) -> Body | None:
        """The framing of the body of an answer to `method` (RFC 9112 §6.3); None if there is none.

        `decode`: collect a chunked body's content for a peer that cannot read the coding.
        """
        if method == b"HEAD" or self.status < 200 or self.status in (204, 304):
            return None
        if self.content_length is None:
            return UntilClose()
        if self.content_length < 0:
            return Chunked(decode)
        return Length(self.content_length) if self.content_length else None


def head_end(data: bytes, at: int = 0, searched: int = 0) -> int:
    """Index just behind the head that begins at `at`; 0 while it is incomplete.

    `searched`: how many bytes of it need no second look. Raises BadMessage when the head is too
    large or has a line end that is not CRLF (RFC 9112 §2.2 leaves that open; we refuse).
    """
    end = data.find(HEAD_END, at + searched)
    if end < 0:
        if len(data) - at > MAX_HEAD:
            raise BadMessage("the head is too large", Fault.TOO_LARGE)
        if _BARE_LF.search(data, at + searched):
            raise BadMessage("a line of the head does not end in CRLF")
        return 0
    if end + 4 - at > MAX_HEAD:
        raise BadMessage("the head is too large", Fault.TOO_LARGE)
    return end + 4


def parse_request(block: bytes) -> RequestHead:
    """Read a request's head, from its first byte to its empty line. Raises BadMessage."""
    lines = _lines(block)
    words = lines[0].split(b" ")
    if len(words) != 3:
        raise BadMessage("the request line is not well-formed")
    method, target, version = words
    if method not in _METHODS or (version != b"HTTP/1.1" and version != b"HTTP/1.0"):
        _refuse_line(method, version)
    if _TARGET.fullmatch(target) is None:
        raise BadMessage("the request line is not well-formed")
    head = RequestHead(method, target, 1 if version == b"HTTP/1.1" else 0)
    _read_fields(head, lines)
    _settle_request(head)
    return head


def parse_response(block: bytes) -> ResponseHead:
    """Read a response's head, from its first byte to its empty line. Raises BadMessage."""
    lines = _lines(block)
    line = _STATUS_LINE.fullmatch(lines[0])
    if line is None:
        raise BadMessage("the status line is not well-formed")
    minor, status, reason = line.groups()
    head = ResponseHead(int(status), reason or b"", int(minor))
    _read_fields(head, lines)
    if head.managed:
        _settle_response(head)
    return head


def write_request(head: RequestHead, extra: bytes, drop: frozenset[bytes] = frozenset()) -> bytes:
    """The head to send on, always as HTTP/1.1.

    `extra`: complete field lines to add (`name: value CRLF` each). `drop`: lower-case names of
    end-to-end fields that must not pass.
    """
    parts = [head.method, b" ", head.target, b" HTTP/1.1\r\nhost: ", head.host, b"\r\n"]
    parts += [LINES[field] for field in head.fields if field[0] not in drop]
    if head.content_length < 0:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif head.managed:
        _write_length(parts, head.managed)
    if head.te_trailers:
        parts.append(b"te: trailers\r\n")
    if head.upgrade is not None:
        parts += (b"connection: upgrade\r\nupgrade: ", head.upgrade, b"\r\n")
    parts.append(extra)
    parts.append(b"\r\n")
    return b"".join(parts)


def write_response(
    head: ResponseHead, extra: bytes = b"", drop: frozenset[bytes] = frozenset(), decoded: bool = False
) -> bytes:
    """The head to send on, always as HTTP/1.1 (RFC 9110 §6.2: a proxy answers in its own version).

    `extra`, `drop` as in `write_request`; `extra` carries the `connection` field if one is due.
    `decoded`: the chunked coding was taken off the body.
    """
    parts = [b"HTTP/1.1 %d " % head.status, head.reason, b"\r\n"]
    parts += [LINES[field] for field in head.fields if field[0] not in drop]
    if head.content_length == -1:
        if not decoded:
            parts += (b"transfer-encoding: ", _value(head.managed, b"transfer-encoding"), b"\r\n")
    elif head.content_length is not None:
        _write_length(parts, head.managed)
    if head.upgrade is not None and head.status == 101:
        parts += (b"connection: upgrade\r\nupgrade: ", head.upgrade, b"\r\n")
    parts.append(extra)
    parts.append(b"\r\n")
    return b"".join(parts)


def _lines(block: bytes) -> list[bytes]:
    """The lines of a head, without their ends; two empty ones are the last. Raises BadMessage."""
    lines = block.split(b"\r\n")
    if len(lines) < 3 or lines[-1] or lines[-2]:
        raise BadMessage("the head is not complete")
    if len(lines) - 3 > MAX_FIELDS:
        raise BadMessage("the head has too many fields", Fault.TOO_LARGE)
    return lines


def _read_fields(head: RequestHead | ResponseHead, lines: list[bytes]) -> None:
    fields, managed = head.fields, head.managed
    for field in map(FIELDS.__getitem__, lines[1:-2]):
        if field[0] in _MANAGED:
            managed.append(field)
        else:
            fields.append(field)


def _refuse_line(method: bytes, version: bytes) -> NoReturn:
    """Say what is wrong with a request line of three words."""
    if _TOKEN.fullmatch(method) is None or _VERSION.fullmatch(version) is None:
        raise BadMessage("the request line is not well-formed")
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise BadMessage("only HTTP/1.0 and HTTP/1.1 are spoken here", Fault.VERSION)
    raise BadMessage("the method is not known", Fault.NOT_IMPLEMENTED)


def _settle_request(head: RequestHead) -> None:
    """Draw the conclusions from the managed fields."""
    hosts = coded = lengths = 0
    connected = False
    for name, value in head.managed:
        if name == b"host":
            hosts += 1
            head.host = value.rstrip(b" \t")
        elif name == b"connection":
            connected = True
        elif name == b"content-length":
            lengths += 1
            head.content_length = _length(value)
        elif name == b"transfer-encoding":
            coded += 1
            if value.strip(b" \t").lower() != b"chunked":
                # RFC 9112 §6.1 suggests 501 for a coding inside chunked; servers differ about those, too.
                raise BadMessage("the only transfer coding known is chunked")
        elif name == b"te":
            head.te_trailers = head.te_trailers or b"trailers" in _tokens(value)
    if hosts > 1 or (hosts == 0 and head.minor == 1):
        raise BadMessage("a request needs exactly one host field")  # RFC 9112 §3.2
    if coded + lengths > 1 or (coded and head.minor == 0):
        raise BadMessage("the length of the body is ambiguous")  # RFC 9112 §6.1, §6.3
    if coded:
        head.content_length = -1
    if connected:
        _settle_connection(head)


def _settle_response(head: ResponseHead) -> None:
    connected = False
    for name, value in head.managed:
        if name == b"content-length":
            if head.content_length is not None:
                raise BadMessage("the length of the response is ambiguous")
            head.content_length = _length(value)
        elif name == b"transfer-encoding":
            if head.minor == 0 or _tokens(value)[-1:] != [b"chunked"] or head.content_length is not None:
                raise BadMessage("the length of the response is ambiguous")
            head.content_length = -1
        elif name == b"connection":
            connected = True
    if connected:
        _settle_connection(head)


def _settle_connection(head: RequestHead | ResponseHead) -> None:
    """RFC 9110 §7.6.1: what this connection does next, and fields that go no further."""
    tokens = {token for name, value in head.managed if name == b"connection" for token in _tokens(value)}
    head.close = b"close" in tokens or (head.minor == 0 and b"keep-alive" not in tokens)
    nominated = tokens - _NEVER_NOMINATED
    if nominated:  # in place: `headers` of a request is the same list
        head.fields[:] = [field for field in head.fields if field[0] not in nominated]
    if b"upgrade" in tokens and head.minor == 1:
        head.upgrade = _upgrade(head.managed)


def _upgrade(managed: Fields) -> bytes | None:
    """The protocols to upgrade to. h2c is not offered on: the other side would leave our framing."""
    wanted = _value(managed, b"upgrade").strip()
    offers = [offer.strip() for offer in wanted.split(b",")]
    kept = [offer for offer in offers if offer and offer.lower() != _H2C]
    return b", ".join(kept) or None


def _length(value: bytes) -> int:
    value = value.strip(b" \t")
    if not _DIGITS.fullmatch(value):
        raise BadMessage("the content-length is not a number")
    return int(value)


def _tokens(value: bytes) -> list[bytes]:
    return [token for token in (part.strip(b" \t").lower() for part in value.split(b",")) if token]


def _value(fields: Fields, name: bytes) -> bytes:
    """The value of the first such field, empty if there is none."""
    for key, value in fields:
        if key == name:
            return value.strip(b" \t")
    return b""


def _write_length(parts: list[bytes], managed: Fields) -> None:
    for name, value in managed:
        if name == b"content-length":
            parts += (b"content-length: ", value.rstrip(b" \t"), b"\r\n")
            return
