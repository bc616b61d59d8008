"""Requests, responses and trailers (RFC 9113 §8): made of decoded field blocks, written anew.

Uses the heads of `wire.http1`, so that policies and gates see no difference between versions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dataplane.wire.errors import BadMessage, Fault
from dataplane.wire.http1 import MAX_FIELDS, MAX_HEAD, REQUEST_ID, TRACE_FIELDS, Fields, RequestHead
from dataplane.wire.http2.fields import (
    AUTHORITY,
    CONNECTION,
    COOKIE,
    HOST,
    IDENTIFIER,
    LAST_PSEUDO,
    LENGTH,
    METHOD,
    PATH,
    SCHEME,
    STATUS,
    TE,
    Pair,
)
from dataplane.wire.http2.hpack import NOTHING, Block

MINOR: Final = 2
"""`minor` of heads that came over HTTP/2."""

_HTTP: Final = (b":scheme", b"http")
_METHODS: Final = {
    method: (b":method", method) for method in (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS")
}
_STATUSES: Final = {status: (b":status", b"%d" % status) for status in range(100, 1000)}


class StreamRequest(RequestHead):
    """A request's head that came over HTTP/2."""

    __slots__ = ("secret",)

    def __init__(self, method: bytes, target: bytes) -> None:
        RequestHead.__init__(self, method, target, MINOR)
        self.unread = False
        self.secret = NOTHING
        """Names of fields that must stay out of compression tables on the next hop, too."""

    def look_for_trace(self) -> None:
        """Set `trace`: heads of HTTP/1.1 have it looked for when they are read."""
        self.trace = [pair for pair in self.headers if pair[0] in TRACE_FIELDS] or None

    def put_trace(self, fields: Fields) -> None:
        if self.trace is not None:
            self.headers = [pair for pair in self.headers if pair[0] not in TRACE_FIELDS]
        self.headers += fields

    def put_no_trace(self, made: bytes, end: bytes) -> None:
        if not self.identified:
            self.identified = True
            self.headers.append((REQUEST_ID, made))
        self.headers.append((b"traceparent", b"00-%b%b" % (made, end)))


class StreamResponse:
    """A response's head that came over HTTP/2."""

    __slots__ = ("content_length", "fields", "managed", "secret", "status")

    def __init__(self, status: int, fields: Fields, secret: frozenset[bytes]) -> None:
        self.status = status
        self.fields = fields
        """End-to-end fields."""
        self.managed: Fields = []
        self.content_length: int | None = None
        """None: no such field."""
        self.secret = secret


def read_request(block: Block) -> StreamRequest:
    """The head that opens a stream. Raises BadMessage: a malformed request (RFC 9113 §8.1.1).

    `managed` of the result holds what `wire.http1` keeps there: `te`, `content-length`; its
    `content_length` is -1 where the request names none.
    """
    plain = block.plain
    if len(plain) + len(block.special) > MAX_FIELDS or block.size > MAX_HEAD:
        raise BadMessage("the head is too large", Fault.TOO_LARGE)
    pseudo: list[bytes | None] = [None, None, None, None, None, None]
    others = False
    length = -1
    trailers = identified = False
    managed: Fields = []
    cookies: list[bytes] = []
    named: bytes | None = None
    for pair, kind, _ in block.special:
        if kind <= LAST_PSEUDO:
            if others or pseudo[kind] is not None:
                raise BadMessage("a pseudo-header field comes twice or too late")
            pseudo[kind] = pair[1]
            continue
        others = True
        if kind == COOKIE:
            cookies.append(pair[1])
        elif kind == IDENTIFIER:
            identified = True
            plain.append(pair)
        elif kind == TE:
            trailers = True
            managed.append(pair)
        elif kind == LENGTH:
            if length >= 0:
                raise BadMessage("the content-length comes twice")
            length = int(pair[1])
            managed.append(pair)
        elif kind == HOST:
            if named is not None:
                raise BadMessage("the request names several hosts")
            named = pair[1]
        else:
            raise _malformed(pair, kind)
    method, path, authority = pseudo[METHOD], pseudo[PATH], pseudo[AUTHORITY]
    if method is None or pseudo[STATUS] is not None:
        raise BadMessage("a request has no method, or a status")
    if method == b"CONNECT":
        if path is not None or pseudo[SCHEME] is not None or not authority:
            raise BadMessage("CONNECT needs an authority and nothing else")
        path = authority
    elif not path or pseudo[SCHEME] is None:
        raise BadMessage("a request needs a path and a scheme")
    elif path[0] != 47 and (path != b"*" or method != b"OPTIONS"):
        raise BadMessage("the path does not begin with '/'")
    if named is not None and authority is not None and named.lower() != authority.lower():
        raise BadMessage("the request names several hosts")  # RFC 9113 §8.3.1
    head = StreamRequest(method, path)
    host = authority or named
    if not host:
        raise BadMessage("the request does not say which host it is for")
    head.host = host
    if cookies:  # RFC 9113 §8.2.3: crumbs are one field
        plain.append((b"cookie", b"; ".join(cookies)))
    head.headers = plain
    head.content_length = length
    if managed:
        head.managed = managed
        head.te_trailers = trailers
    head.identified = identified
    head.secret = block.secret
    return head


def read_response(block: Block) -> StreamResponse:
    """A response's head, interim or final. Raises BadMessage."""
    plain, special = block.plain, block.special
    if len(plain) + len(special) > MAX_FIELDS or block.size > MAX_HEAD:
        raise BadMessage("the head is too large", Fault.TOO_LARGE)
    if not special or special[0][1] != STATUS:
        raise BadMessage("a response does not begin with its status")
    head = StreamResponse(int(special[0][0][1]), plain, block.secret)
    for at in range(1, len(special)):
        pair, kind, _ = special[at]
        if kind == LENGTH:
            if head.content_length is not None:
                raise BadMessage("the content-length comes twice")
            head.content_length = int(pair[1])
            head.managed.append(pair)
        elif TE <= kind <= IDENTIFIER:
            plain.append(pair)
        else:
            raise _malformed(pair, kind)
    if head.managed and (head.status < 200 or head.status == 204):
        head.content_length = None
        head.managed = []  # RFC 9110 §8.6: they have no length to name
    return head


def read_trailers(block: Block) -> Fields:
    """The fields behind a body. Raises BadMessage."""
    if len(block.plain) + len(block.special) > MAX_FIELDS or block.size > MAX_HEAD:
        raise BadMessage("the trailers are too large", Fault.TOO_LARGE)
    for pair, kind, _ in block.special:
        if kind != IDENTIFIER:  # RFC 9110 §6.5.1: nothing about framing or routing comes behind a body
            raise _malformed(pair, kind)
        block.plain.append(pair)
    return block.plain


def write_request(
    head: StreamRequest,
    extra: Fields,
    drop: frozenset[bytes] = NOTHING,
    new_id: Callable[[], bytes] | None = None,
) -> list[Pair]:
    """The field list to open a stream with. `extra`: fields to add, `drop`: names that must not pass.

    `new_id`: makes the `x-request-id` of a request that has none; it becomes a field of `head`.
    """
    if new_id is not None and not head.identified:
        head.headers.append((REQUEST_ID, new_id()))
        head.identified = True
    method = head.method
    out: list[Pair] = [
        _METHODS.get(method) or (b":method", method),
        _HTTP,
        (b":path", head.target),
        (b":authority", head.host),
    ]
    if drop:
        out += [pair for pair in head.headers if pair[0] not in drop]
    else:
        out += head.headers
    if head.managed:
        out += head.managed
    if extra:
        out += extra
    return out


def write_response(head: StreamResponse, drop: frozenset[bytes] = NOTHING) -> list[Pair]:
    """The field list of a response's head."""
    out: list[Pair] = [_STATUSES[head.status]]
    if drop:
        out += [pair for pair in head.fields if pair[0] not in drop]
    else:
        out += head.fields
    if head.managed:
        out += head.managed
    return out


def write_trailers(fields: Fields, drop: frozenset[bytes] = NOTHING) -> list[Pair]:
    return [pair for pair in fields if pair[0] not in drop]


def _malformed(pair: Pair, kind: int) -> BadMessage:
    """Why a field cannot be where it is."""
    if kind == CONNECTION:
        return BadMessage("a message has a field that is about an HTTP/1.1 connection")
    if kind <= LAST_PSEUDO or pair[0].startswith(b":") or not pair[0]:
        return BadMessage("a pseudo-header field is not known, not well-formed, or out of place")
    return BadMessage("a field is not well-formed")
