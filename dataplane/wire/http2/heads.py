"""Requests, responses and trailers as lists of fields (RFC 9113 §8): read strictly, written anew.

Uses the heads of `wire.http1`, so that policies and gates see no difference between versions.
"""

from __future__ import annotations

import re
from typing import Final

from dataplane.wire.errors import BadMessage, Fault
from dataplane.wire.http1 import MAX_FIELDS, MAX_HEAD, Fields, RequestHead, ResponseHead
from dataplane.wire.http2.hpack import Field

MINOR: Final = 2
"""`minor` of heads that came over HTTP/2."""

_NAMES: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+(?:\n:?[!#$%&'*+\-.^_`|~0-9a-z]+)*")
_BAD_IN_VALUES: Final = (b"\x00", b"\r", b"\n ", b" \n", b"\n\t", b"\t\n")
"""In values between line feeds. Looking for each costs a tenth of one pattern for all."""
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

_FORBIDDEN: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Connection-specific fields make a message malformed (RFC 9113 §8.2.2)."""
_REQUEST: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_SPECIAL: Final = _FORBIDDEN | _REQUEST | {b":status", b"te", b"host", b"content-length", b"cookie"}
_NOTHING: Final[frozenset[bytes]] = frozenset()


class StreamRequest(RequestHead):
    """A request's head that came over HTTP/2."""

    __slots__ = ("sensitive",)

    def __init__(self, method: bytes, target: bytes) -> None:
        RequestHead.__init__(self, method, target, MINOR)
        self.sensitive = _NOTHING
        """Names of fields that must stay out of compression tables on the next hop, too."""


class StreamResponse(ResponseHead):
    """A response's head that came over HTTP/2."""

    __slots__ = ("sensitive",)

    def __init__(self, status: int) -> None:
        ResponseHead.__init__(self, status, b"", MINOR)
        self.sensitive = _NOTHING


def read_request(fields: list[Field]) -> StreamRequest:
    """The head that opens a stream. Raises BadMessage: a malformed request (RFC 9113 §8.1.1).

    `managed` of the result holds what `wire.http1` keeps there: `te`, `content-length`; its
    `content_length` is -1 where the request names none.
    """
    _check(fields)
    pseudo: dict[bytes, bytes] = {}
    plain: Fields = []
    managed: Fields = []
    cookies: list[bytes] = []
    hosts: list[bytes] = []
    sensitive: set[bytes] = set()
    for name, value, never_indexed in fields:
        if never_indexed:
            sensitive.add(name)
        if name not in _SPECIAL:
            if name[0] == 58:
                raise BadMessage("a request has a pseudo-header field that is not known")
            plain.append((name, value))
        elif name in _REQUEST:
            if name in pseudo or plain or managed or cookies or hosts:
                raise BadMessage("a pseudo-header field comes twice or too late")
            pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)
        elif name == b"host":
            hosts.append(value)
        else:
            _manage(name, value, managed)
    if cookies:  # RFC 9113 §8.2.3: crumbs are one field
        plain.append((b"cookie", b"; ".join(cookies)))
    head = _request(pseudo, hosts)
    head.fields = head.headers = plain
    head.managed = managed
    head.content_length = _length(managed)
    head.te_trailers = any(name == b"te" for name, _ in managed)
    if sensitive:
        head.sensitive = frozenset(sensitive)
    return head


def read_response(fields: list[Field]) -> StreamResponse:
    """A response's head, interim or final. Raises BadMessage."""
    _check(fields)
    if not fields or fields[0][0] != b":status" or not _STATUS.fullmatch(fields[0][1]):
        raise BadMessage("a response does not begin with its status")
    head = StreamResponse(int(fields[0][1]))
    plain, managed = head.fields, head.managed
    for name, value, _ in fields[1:]:
        if name not in _SPECIAL or name == b"cookie":
            if name[0] == 58:
                raise BadMessage("a response has a pseudo-header field that is not known")
            plain.append((name, value))
        elif name == b"content-length":
            _manage(name, value, managed)
        elif name == b"te" or name == b"host":
            plain.append((name, value))
        else:
            raise BadMessage("a response has a field that it must not have")
    length = _length(managed)
    head.content_length = None if length < 0 else length
    sensitive = [name for name, _, never_indexed in fields if never_indexed]
    if sensitive:
        head.sensitive = frozenset(sensitive)
    return head


def read_trailers(fields: list[Field]) -> Fields:
    """The fields behind a body. Raises BadMessage."""
    _check(fields)
    for name, _, _ in fields:
        if name[0] == 58 or name in _FORBIDDEN:
            raise BadMessage("trailers have a field that they must not have")
    return [(name, value) for name, value, _ in fields]


def write_request(head: StreamRequest, extra: Fields, drop: frozenset[bytes] = _NOTHING) -> list[Field]:
    """The field list to open a stream with. `extra`: fields to add, `drop`: names that must not pass."""
    out: list[Field] = [
        (b":method", head.method, False),
        (b":scheme", b"http", False),
        (b":path", head.target, False),
        (b":authority", head.host, False),
    ]
    secret = _SECRET | head.sensitive if head.sensitive else _SECRET
    out += [(name, value, name in secret) for name, value in head.fields if name not in drop]
    if head.managed:
        out += [(name, value, False) for name, value in head.managed]
    if extra:
        out += [(name, value, False) for name, value in extra]
    return out


def write_response(head: StreamResponse, drop: frozenset[bytes] = _NOTHING) -> list[Field]:
    """The field list of a response's head."""
    out: list[Field] = [(b":status", b"%d" % head.status, False)]
    secret = _SECRET | head.sensitive if head.sensitive else _SECRET
    out += [(name, value, name in secret) for name, value in head.fields if name not in drop]
    if head.managed:
        out += [(name, value, False) for name, value in head.managed]
    return out


def write_trailers(fields: Fields, drop: frozenset[bytes] = _NOTHING) -> list[Field]:
    return [(name, value, False) for name, value in fields if name not in drop]


_SECRET: Final = frozenset({b"authorization", b"proxy-authorization"})
"""Never put into a compression table, whatever the sender did (RFC 7541 §7.1.3)."""


def _check(fields: list[Field]) -> None:
    """RFC 9113 §8.2.1, for all fields at once: a few searches in C instead of two per field."""
    if not fields:
        return
    count = len(fields)
    names = b"\n".join([field[0] for field in fields])
    values = b"\n".join([field[1] for field in fields])
    if count > MAX_FIELDS or len(names) + len(values) > MAX_HEAD:
        raise BadMessage("the head is too large", Fault.TOO_LARGE)
    if not _NAMES.fullmatch(names) or names.count(b"\n") != count - 1:
        raise BadMessage("a field's name is not well-formed")
    lines = b"\n" + values + b"\n"
    if lines.count(b"\n") != count + 1:
        raise BadMessage("a field's value is not well-formed")
    for bad in _BAD_IN_VALUES:
        if bad in lines:
            raise BadMessage("a field's value is not well-formed")


def _request(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> StreamRequest:
    method = pseudo.get(b":method", b"")
    if not _METHOD.fullmatch(method):
        raise BadMessage("a request has no method")
    authority = pseudo.get(b":authority", b"")
    target = pseudo.get(b":path", b"")
    if method == b"CONNECT":
        if b":path" in pseudo or b":scheme" in pseudo or not authority:
            raise BadMessage("CONNECT needs an authority and nothing else")
        target = authority
    elif not target or b":scheme" not in pseudo:
        raise BadMessage("a request needs a path and a scheme")
    elif not target.startswith(b"/") and (target != b"*" or method != b"OPTIONS"):
        raise BadMessage("the path does not begin with '/'")
    if len(hosts) > 1 or (hosts and authority and hosts[0].lower() != authority.lower()):
        raise BadMessage("the request names several hosts")  # RFC 9113 §8.3.1
    head = StreamRequest(method, target)
    head.host = authority or (hosts[0] if hosts else b"")
    if not head.host:
        raise BadMessage("the request does not say which host it is for")
    return head


def _manage(name: bytes, value: bytes, managed: Fields) -> None:
    """Fields about the message's framing."""
    if name == b"te":
        if value.lower() != b"trailers":
            raise BadMessage("te may only say trailers")
    elif name == b"content-length":
        if not _LENGTH.fullmatch(value) or any(known == name for known, _ in managed):
            raise BadMessage("the content-length is not one number")
    else:
        raise BadMessage("a message has a field that is about an HTTP/1.1 connection")
    managed.append((name, value))


def _length(managed: Fields) -> int:
    for name, value in managed:
        if name == b"content-length":
            return int(value)
    return -1
