"""Heads of HTTP/1.1 messages: read strictly, written anew (RFC 9112, RFC 9110 §7.6.1).

What differs between servers is refused, because a request that two parsers read differently is how
requests are smuggled. Hop-by-hop fields end here. Bodies are not looked at: `body` says where they
end.

A head is one match of one pattern, so that what is checked is checked in C, without an object per
field. The lines of end-to-end fields go on as they came; only the few that are about this
connection, the framing or the mesh itself (`_NOTED`) are looked at one by one. The others are taken
apart when a policy asks for a field.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Final, NoReturn

from dataplane.wire.body import Body, Chunked, Length, UntilClose
from dataplane.wire.errors import BadMessage, Fault
from smi.names import DENIAL_HEADER, REASON_HEADER
from smi.policy.match import Request

MAX_HEAD: Final = 65536
"""Longest head in bytes."""
MAX_FIELDS: Final = 256
"""Most header lines of one head."""
MAX_INTERIMS: Final = 100
"""Most interim answers (1xx) to one request; they are not subject to flow control."""
HEAD_END: Final = b"\r\n\r\n"
REQUEST_ID: Final = b"x-request-id"
OWN_FIELDS: Final = frozenset(
    {b"proxy-authorization", DENIAL_HEADER.encode(), REASON_HEADER.encode()}
    | {b"x%bforwarded%bclient%bcert" % marks for marks in itertools.product((b"-", b"_"), repeat=3)}
)
"""End-to-end fields that proxies take off, lower case. Others can be dropped, too; it takes longer."""

TRACE_FIELDS: Final = frozenset(
    {b"traceparent", b"tracestate", b"b3"}
    | {b"x-b3-" + name for name in (b"traceid", b"spanid", b"parentspanid", b"sampled", b"flags")}
)
"""Fields that say of which trace a request is part (W3C Trace Context, B3), lower case."""

Fields = list[tuple[bytes, bytes]]

_TCHAR: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
_HOST: Final = rb"[0-9A-Za-z._~!$&'()*+;=:%\[\]\-]++"
"""What hosts with ports are made of (RFC 3986 §3.2.2), but for the comma: joined fields have one."""
_LINES: Final = rb"(\n(?:" + _TCHAR + rb"++:" + _TEXT + rb"*+\r\n)*+)\r\n"
"""Field lines, as a block that begins with the line feed before the first: each is `\n…\r` then.
Possessive throughout, so that a head that is none is found out in linear time."""
_REQUEST: Final = re.compile(
    rb"(" + _TCHAR + rb"++) ([!\"$-~\x80-\xff]++) HTTP/1\.([01])\r"
    rb"(?:\n[Hh]ost: (" + _HOST + rb")\r)?+" + _LINES
)
"""Most clients send the host first: it is taken out on the way."""
_RESPONSE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (" + _TEXT + rb"*+))?+\r" + _LINES)
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TOKEN: Final = re.compile(_TCHAR + rb"+")
HOST: Final = re.compile(_HOST)
_METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH "
    b"UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE "
    b"PURGE MKCALENDAR LINK UNLINK QUERY".split()
)
"""Methods of the IANA registry that servers know; an unknown one may have a framing of its own."""
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_MANAGED: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
    | {b"http2-settings", b"host", b"content-length"}
)
"""Fields about this connection or this message's framing; every other field is passed on."""


def _either(names: list[bytes]) -> bytes:
    """A pattern for one of some sorted words, common beginnings first: quicker than one after the other."""
    if names == [b""]:
        return b""
    found = [
        re.escape(first) + _either([name[1:] for name in group])
        for first, group in itertools.groupby(names, key=lambda name: name[:1])
        if first
    ]
    return b"(?:" + b"|".join(found) + (b")?+" if b"" in names else b")")


def _noting(staying: list[bytes]) -> re.Pattern[bytes]:
    """A line worth a look, in a block of lower-case lines; the first three forms need no second one.

    `staying`: fields of the third form, which stay where they are.
    """
    return re.compile(
        rb"\n(?:content-length: ([0-9]{1,18})|(connection: keep-alive)|("
        + _either(sorted(staying))
        + rb"):[^\r]*+|("
        + _either(sorted(_MANAGED | OWN_FIELDS))
        + rb"):([^\r]*+))\r"
    )


_NOTED: Final = _noting([REQUEST_ID])
_NOTED_WITH_TRACE: Final = _noting([REQUEST_ID, *TRACE_FIELDS])
_LENGTH, _KEEP_ALIVE, _STAYS = 1, 2, 3
_NEVER_NOMINATED: Final = _MANAGED | {b"close"}
_H2C: Final = b"h2c"
_SWITCH: Final = b"connection: upgrade\r\nupgrade: "
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_NEVER_FRAMED: Final = frozenset({*range(100, 200), 204, 304})
"""Statuses of answers without a body, whatever their fields say (RFC 9112 §6.3, rule 1)."""
_FEW_FIELDS: Final = 4 * MAX_FIELDS
"""A head of no more bytes has no more than MAX_FIELDS: a line is four bytes at least."""


class RequestHead(Request):
    """A request's head. As a `Request` it shows policies the end-to-end fields only.

    `path` and `host` are set by whoever knows where the request came from (listener, absolute form);
    until then they are the target as sent and the Host field.
    """

    __slots__ = (
        "close",
        "content_length",
        "end",
        "framing",
        "identified",
        "lines",
        "managed",
        "minor",
        "own",
        "target",
        "te_trailers",
        "trace",
        "unread",
        "upgrade",
    )

    def __init__(self, method: bytes, target: bytes, minor: int, lines: bytes = b"\n", end: int = 0) -> None:
        self.method = method
        self.path = target
        self.host = b""
        self.headers: Fields = []
        self.target = target
        """As it is to be sent on."""
        self.minor = minor
        """0 for HTTP/1.0, 1 for HTTP/1.1."""
        self.lines = lines
        """Field lines to send on as they are: a line feed, then lines with their ends."""
        self.end = end
        """Index just behind the head in what it was read from."""
        self.unread = True
        """`headers` has not been read off `lines` yet."""
        self.framing = b""
        """Field lines about the next connection and the body's coding, as they are to be sent."""
        self.managed: Fields = []
        self.own = False
        """A field of OWN_FIELDS is among `lines`."""
        self.identified = False
        """REQUEST_ID is."""
        self.content_length = 0
        """Bytes of the body; -1: chunked; 0: no body."""
        self.close = minor == 0
        """The client does not want the connection to go on after this exchange."""
        self.upgrade: bytes | None = None
        self.te_trailers = False
        self.trace: Fields | None = None
        """Those of TRACE_FIELDS that came, names in lower case, where they were looked for."""

    @property
    def fields(self) -> Fields:
        """End-to-end fields, names in lower case; the same list as `headers`."""
        if self.unread:
            self.headers = _fields(self.lines)
            self.unread = False
        return self.headers

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self.headers = fields
        self.unread = False

    def header(self, name: bytes) -> bytes | None:
        """As `Request.header`, with the fields that are not passed on but may be filtered for."""
        if name in _MANAGED and name != b"host":
            values = [value for key, value in self.managed if key == name]
            return b", ".join(values) if values else None
        if self.unread:
            self.headers = _fields(self.lines)
            self.unread = False
        return Request.header(self, name)

    def put_trace(self, fields: Fields) -> None:
        """Have `fields` sent on, instead of what came of TRACE_FIELDS."""
        lines = self.lines if self.trace is None else _without(self.lines, TRACE_FIELDS)
        for name, value in fields:
            lines += b"%b: %b\r\n" % (name, value)
        self.lines = lines
        self.unread = True

    def put_no_trace(self, made: bytes, end: bytes) -> None:
        """Have a `traceparent` sent on whose trace id is `made` and whose rest is `end`, where none came.

        `made` is the request's id, too, if it has none yet: 32 hexadecimal digits.
        """
        if self.identified:
            self.lines = b"%btraceparent: 00-%b%b\r\n" % (self.lines, made, end)
        else:
            self.identified = True
            self.lines = b"%bx-request-id: %b\r\ntraceparent: 00-%b%b\r\n" % (self.lines, made, made, end)
        self.unread = True

    def body(self) -> Length | Chunked | None:
        """The framing of the body, None if there is none."""
        if self.content_length == 0:
            return None
        return Chunked() if self.content_length < 0 else Length(self.content_length)


class ResponseHead:
    """A response's head."""

    __slots__ = (
        "_fields",
        "close",
        "content_length",
        "end",
        "framing",
        "lines",
        "managed",
        "minor",
        "own",
        "reason",
        "status",
        "upgrade",
        "verbatim",
    )

    def __init__(self, status: int, reason: bytes, minor: int, lines: bytes = b"\n", end: int = 0) -> None:
        self.status = status
        self.reason = reason
        self.minor = minor
        self.lines = lines
        """As those of a RequestHead."""
        self.end = end
        self.verbatim = False
        """What is to be sent on is the head as it came."""
        self._fields: Fields | None = None
        self.framing = b""
        self.managed: Fields = []
        self.own = False
        self.content_length: int | None = None
        """As sent; None: no such field; -1: chunked."""
        self.close = minor == 0
        """The server will not answer another request on this connection."""
        self.upgrade: bytes | None = None

    @property
    def fields(self) -> Fields:
        """End-to-end fields, names in lower case."""
        if self._fields is None:
            self._fields = _fields(self.lines)
        return self._fields

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


def parse_request(block: bytes, traced: bool = False) -> RequestHead:
    """Read a request's head, from its first byte to its empty line. Raises BadMessage."""
    head = find_request(block, traced)
    if head is None or head.end != len(block):
        _refuse_request(block)
    return head


def parse_response(block: bytes) -> ResponseHead:
    """Read a response's head, from its first byte to its empty line. Raises BadMessage."""
    head = find_response(block)
    if head is None or head.end != len(block):
        _refuse_response(block)
    return head


def find_request(data: bytes, traced: bool = False) -> RequestHead | None:
    """Read the request's head that `data` begins with; None if none is there, or not all of it.

    `traced`: look for what it says about its trace. `end` of the result says where it ends. Raises
    BadMessage for what looks like one and must be refused; `parse_request` says what is wrong with what
    does not.
    """
    found = _REQUEST.match(data)
    if found is None:
        return None
    method, target, minor, host, lines = found.groups()
    if method not in _METHODS:
        _refuse_line(method, b"HTTP/1.1")
    end = found.end()
    if end > _FEW_FIELDS:
        _check_size(lines, end)
    head = RequestHead(method, target, 1 if minor == b"1" else 0, lines, end)
    hosts = 0
    if host is not None:
        head.host = host
        hosts = 1
    low = lines.lower()
    lengths = 0
    pattern = _NOTED_WITH_TRACE if traced else _NOTED
    noted = pattern.search(low)
    while noted is not None:  # what stays where it is; more than that is for _note
        form = noted.lastindex
        if form == _STAYS:
            if not traced:
                head.identified = True
            else:
                _keep(head, noted)
        elif form == _LENGTH and not lengths:
            lengths = 1
            head.content_length = int(noted[1])
            head.managed.append((b"content-length", noted[1]))
        else:
            hosts += _note(head, low, noted, lengths)
            break
        noted = pattern.search(low, noted.end())
    if hosts != 1 and (hosts or head.minor):
        raise BadMessage("a request needs exactly one host field")  # RFC 9112 §3.2
    return head


def find_response(data: bytes) -> ResponseHead | None:
    """As `find_request`, for responses."""
    found = _RESPONSE.match(data)
    if found is None:
        return None
    minor, status, reason, lines = found.groups()
    end = found.end()
    if end > _FEW_FIELDS:
        _check_size(lines, end)
    head = ResponseHead(int(status), reason or b"", 1 if minor == b"1" else 0, lines, end)
    low = lines.lower()
    length, start, stop = b"", 0, 0
    for noted in _NOTED.finditer(low):
        form = noted.lastindex
        if form == _LENGTH and not length:
            length = noted[1]
        elif form == _KEEP_ALIVE and not stop and head.minor:
            start, stop = noted.span()
        elif form != _STAYS:  # more than a plain length and keep-alive
            _note(head, low, _NOTED.search(low), 0)
            head.verbatim = head.minor > 0 and not head.own and len(head.lines) == len(lines)
            break
    else:
        if length:
            head.content_length = int(length)
        if stop:
            head.lines = lines[:start] + lines[stop:]
        else:
            head.verbatim = head.minor > 0
    if head.content_length is not None and head.status in _NEVER_FRAMED:
        _unframe(head)
    return head


def _unframe(head: ResponseHead) -> None:
    """Have an answer that has no body say nothing about one: some clients wait for it (RFC 9110 §8.6)."""
    if head.status == 304 and head.content_length != -1:
        return  # what the length of the content would have been
    head.content_length = None
    head.lines = _without(head.lines, _FRAMING)
    switch = head.framing.find(_SWITCH)
    head.framing = head.framing[switch:] if switch >= 0 else b""
    head.verbatim = False


def _note(head: RequestHead | ResponseHead, low: bytes, noted: re.Match[bytes] | None, lengths: int) -> int:
    """Look at the lines that need it, the first of which is `noted`, and take out what goes no further.

    `low`: the head's lines in lower case; `lengths`: content-length fields seen before. Returns how
    many host fields there are.
    """
    lines = head.lines
    hosts = at = 0
    settled = True
    kept: list[bytes] = []
    pattern = _NOTED if noted is None else noted.re
    while noted is not None:
        start, stop = noted.span()
        plain, keep_alive, staying, name, _ = noted.groups()
        stays = False
        if plain is not None:
            lengths += 1
            head.content_length = int(plain)
            head.managed.append((b"content-length", plain))
            stays = True
        elif keep_alive is not None:
            head.managed.append((b"connection", b"keep-alive"))
            settled = settled and head.minor > 0
        elif staying is not None:
            stays = True
            if isinstance(head, RequestHead):
                _keep(head, noted)
        elif name in OWN_FIELDS:
            head.own = stays = True
        else:
            value = lines[noted.start(5) : stop - 1].strip(b" \t")
            if name == b"host" and isinstance(head, RequestHead):
                hosts += 1
                if value and HOST.fullmatch(value) is None:
                    raise BadMessage("the host field is no host with an optional port")  # RFC 9112 §3.2
                head.host = value
            else:
                head.managed.append((name, value))
                settled = False
                if name == b"content-length":
                    lengths += 1
                    head.content_length = _length(value)
                    head.framing = b"content-length: " + value + b"\r\n"
        if not stays:
            if start != at:
                kept.append(lines[at:start])
            at = stop
        noted = pattern.search(low, stop)
    if at:
        kept.append(lines[at:])
        head.lines = kept[0] if len(kept) == 1 else b"".join(kept)
    if lengths > 1:
        raise BadMessage("the length of the body is ambiguous")  # RFC 9112 §6.3
    if not settled:
        if isinstance(head, RequestHead):
            _settle_request(head, lengths)
        else:
            _settle_response(head, lengths)
    return hosts


def _keep(head: RequestHead, noted: re.Match[bytes]) -> None:
    """Remember a line of a request that stays where it is; `head.lines` are still as they came."""
    name = noted[_STAYS]
    if name == REQUEST_ID:
        head.identified = True
        return
    if head.trace is None:
        head.trace = []
    head.trace.append((name, head.lines[noted.end(_STAYS) + 1 : noted.end() - 1].strip(b" \t")))


def write_request(
    head: RequestHead,
    extra: bytes,
    drop: frozenset[bytes] = frozenset(),
    new_id: Callable[[], bytes] | None = None,
    body: bytes = b"",
) -> bytes:
    """The head to send on, always as HTTP/1.1, and what is there of the body.

    `extra`: complete field lines to add (`name: value CRLF` each). `drop`: lower-case names of
    end-to-end fields that must not pass. `new_id`: makes the `x-request-id` of a request that has
    none; it stays with `head`, so that a retry carries the same.
    """
    if new_id is not None and not head.identified:
        head.identified = True
        head.lines += b"x-request-id: " + new_id() + b"\r\n"
        head.unread = True
    lines = head.lines
    if drop and (head.own or not drop <= OWN_FIELDS):
        lines = _without(lines, drop)
    return b"".join(
        (
            head.method,
            b" ",
            head.target,
            b" HTTP/1.1\r\nhost: ",
            head.host,
            b"\r",
            lines,
            head.framing,
            extra,
            b"\r\n",
            body,
        )
    )


def write_response(
    head: ResponseHead,
    extra: bytes = b"",
    drop: frozenset[bytes] = frozenset(),
    decoded: bool = False,
    body: bytes = b"",
) -> bytes:
    """The head to send on, always as HTTP/1.1 (RFC 9110 §6.2: a proxy answers in its own version).

    `extra`, `drop`, `body` as in `write_request`; `extra` carries the `connection` field if one is
    due. `decoded`: the chunked coding was taken off the body.
    """
    lines = head.lines
    if drop and (head.own or not drop <= OWN_FIELDS):
        lines = _without(lines, drop)
    framing = b"" if decoded else head.framing
    return b"".join((b"HTTP/1.1 %d " % head.status, head.reason, b"\r", lines, framing, extra, b"\r\n", body))


def _check_size(lines: bytes, end: int) -> None:
    if end > MAX_HEAD:
        raise BadMessage("the head is too large", Fault.TOO_LARGE)
    if lines.count(b"\n") - 1 > MAX_FIELDS:
        raise BadMessage("the head has too many fields", Fault.TOO_LARGE)


def _fields(lines: bytes) -> Fields:
    """The end-to-end fields of checked lines."""
    fields: Fields = []
    for line in lines[1:-2].split(b"\r\n") if len(lines) > 1 else ():
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _MANAGED:
            fields.append((name, value.strip(b" \t")))
    return fields


def _without(lines: bytes, names: frozenset[bytes]) -> bytes:
    """Lines without those of some fields; `names` are in lower case."""
    kept = [
        line + b"\n"
        for line in lines[1:].split(b"\n")
        if line and line.partition(b":")[0].lower() not in names
    ]
    return b"\n" + b"".join(kept)


def _refuse_request(block: bytes) -> NoReturn:
    """Say what is wrong with a block that is no head."""
    words = _split(block)[0].split(b" ")
    if len(words) == 3 and (words[0] not in _METHODS or words[2] not in (b"HTTP/1.1", b"HTTP/1.0")):
        _refuse_line(words[0], words[2])
    raise BadMessage("the request line or a field is not well-formed")


def _refuse_response(block: bytes) -> NoReturn:
    _split(block)
    raise BadMessage("the status line or a field is not well-formed")


def _split(block: bytes) -> list[bytes]:
    """The lines of a head, without their ends; two empty ones are the last. Raises BadMessage."""
    lines = block.split(b"\r\n")
    if len(lines) < 3 or lines[-1] or lines[-2]:
        raise BadMessage("the head is not complete")
    if len(lines) - 3 > MAX_FIELDS:
        raise BadMessage("the head has too many fields", Fault.TOO_LARGE)
    return lines


def _refuse_line(method: bytes, version: bytes) -> NoReturn:
    """Say what is wrong with a request line of three words."""
    if _TOKEN.fullmatch(method) is None or _VERSION.fullmatch(version) is None:
        raise BadMessage("the request line is not well-formed")
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise BadMessage("only HTTP/1.0 and HTTP/1.1 are spoken here", Fault.VERSION)
    raise BadMessage("the method is not known", Fault.NOT_IMPLEMENTED)


def _settle_request(head: RequestHead, lengths: int) -> None:
    """Draw the conclusions from the managed fields, of which `lengths` are content-length."""
    coded = 0
    connected = False
    for name, value in head.managed:
        if name == b"connection":
            connected = True
        elif name == b"transfer-encoding":
            coded += 1
            if value.lower() != b"chunked":
                # RFC 9112 §6.1 suggests 501 for a coding inside chunked; servers differ about those, too.
                raise BadMessage("the only transfer coding known is chunked")
        elif name == b"te":
            head.te_trailers = head.te_trailers or b"trailers" in _tokens(value)
    if coded + lengths > 1 or (coded and head.minor == 0):
        raise BadMessage("the length of the body is ambiguous")  # RFC 9112 §6.1, §6.3
    if coded:
        head.content_length = -1
        head.framing = b"transfer-encoding: chunked\r\n"
    if connected:
        _settle_connection(head)
        if head.identified:
            head.identified = b"\n" + REQUEST_ID + b":" in head.lines.lower()  # it may have been nominated
        if head.content_length:
            # Some servers take the body for the new protocol's first bytes, or for another request. To
            # ignore an upgrade is always allowed (RFC 9110 §7.8); none that is in use has a body.
            head.upgrade = None
    if head.te_trailers:  # RFC 9110 §10.1.4: nominated
        head.framing += b"te: trailers\r\nconnection: te"
        head.framing += (
            b"\r\n" if head.upgrade is None else b", upgrade\r\nupgrade: " + head.upgrade + b"\r\n"
        )
    elif head.upgrade is not None:
        head.framing += b"connection: upgrade\r\nupgrade: " + head.upgrade + b"\r\n"


def _settle_response(head: ResponseHead, lengths: int) -> None:
    coded = 0
    connected = False
    for name, value in head.managed:
        if name == b"transfer-encoding":
            coded += 1
            if head.minor == 0 or value.lower() != b"chunked" or coded + lengths > 1:
                # Nobody was asked for another coding, as no such `te` is passed on; few clients know any.
                raise BadMessage("the length of the response is ambiguous")
            head.content_length = -1
            head.framing = b"transfer-encoding: chunked\r\n"
        elif name == b"connection":
            connected = True
    if connected:
        _settle_connection(head)
        if head.upgrade is not None and head.status == 101:
            head.framing += _SWITCH + head.upgrade + b"\r\n"


def _settle_connection(head: RequestHead | ResponseHead) -> None:
    """RFC 9110 §7.6.1: what this connection does next, and fields that go no further."""
    tokens = {token for name, value in head.managed if name == b"connection" for token in _tokens(value)}
    head.close = b"close" in tokens or (head.minor == 0 and b"keep-alive" not in tokens)
    nominated = tokens - _NEVER_NOMINATED
    if nominated:
        head.lines = _without(head.lines, frozenset(nominated))
        if isinstance(head, RequestHead) and head.trace is not None:
            head.trace = [pair for pair in head.trace if pair[0] not in nominated] or None
    if b"upgrade" in tokens and head.minor == 1:
        head.upgrade = _upgrade(head.managed)


def _upgrade(managed: Fields) -> bytes | None:
    """The protocols to upgrade to. h2c is not offered on: the other side would leave our framing."""
    wanted = _value(managed, b"upgrade")
    offers = [offer.strip() for offer in wanted.split(b",")]
    kept = [offer for offer in offers if offer and offer.lower() != _H2C]
    return b", ".join(kept) or None


def _length(value: bytes) -> int:
    if not _DIGITS.fullmatch(value):
        raise BadMessage("the content-length is not a number")
    return int(value)


def _tokens(value: bytes) -> list[bytes]:
    return [token for token in (part.strip(b" \t").lower() for part in value.split(b",")) if token]


def _value(fields: Fields, name: bytes) -> bytes:
    """The value of the first such field, empty if there is none."""
    for key, value in fields:
        if key == name:
            return value
    return b""
