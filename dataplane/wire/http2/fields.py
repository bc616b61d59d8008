"""What one field of a message is (RFC 9113 §8.2, §8.3), judged when it is first seen.

A field in a compression table is judged once for all messages that refer to it. Rules that depend
on other fields of the message, or on its kind, are in `heads`.
"""

from __future__ import annotations

import re
from typing import Final

from dataplane.wire.http1 import HOST as HOST_TEXT
from dataplane.wire.http1 import REQUEST_ID

Pair = tuple[bytes, bytes]
"""Name and value."""

PLAIN: Final = 0
METHOD: Final = 1
SCHEME: Final = 2
PATH: Final = 3
AUTHORITY: Final = 4
STATUS: Final = 5
LAST_PSEUDO: Final = STATUS
LENGTH: Final = 6
TE: Final = 7
HOST: Final = 8
COOKIE: Final = 9
IDENTIFIER: Final = 10
"""Names the request in logs: an ordinary field, but one that proxies look for."""
CONNECTION: Final = 11
"""About an HTTP/1.1 connection: makes a message malformed (RFC 9113 §8.2.2)."""
MALFORMED: Final = 12

Entry = tuple[Pair, int, int]
"""The field, its kind (one of the above), and its size in a table or list (RFC 7541 §4.1)."""

OVERHEAD: Final = 32
"""Bytes that RFC 7541 §4.1 adds to each field."""

_KINDS: Final = {
    b":method": METHOD,
    b":scheme": SCHEME,
    b":path": PATH,
    b":authority": AUTHORITY,
    b":status": STATUS,
    b"content-length": LENGTH,
    b"te": TE,
    b"host": HOST,
    b"cookie": COOKIE,
    REQUEST_ID: IDENTIFIER,
    b"connection": CONNECTION,
    b"keep-alive": CONNECTION,
    b"proxy-connection": CONNECTION,
    b"transfer-encoding": CONNECTION,
    b"upgrade": CONNECTION,
    b"http2-settings": CONNECTION,
}
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = bytes(octet for octet in range(256) if octet not in b"\0\r\n")
"""What a value is made of; it neither begins nor ends with white space (RFC 9113 §8.2.1)."""
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def judge(pair: Pair) -> Entry:
    """The entry of a field. What cannot be in any message is MALFORMED."""
    name, value = pair
    size = len(name) + len(value) + OVERHEAD
    kind = _KINDS.get(name, PLAIN)
    if kind == PLAIN and _NAME.fullmatch(name) is None:
        return pair, MALFORMED, size
    if value.translate(None, _VALUE) or len(value.strip(b" \t")) != len(value):
        return pair, MALFORMED, size
    if kind == METHOD:
        sound = _METHOD.fullmatch(value) is not None
    elif kind == STATUS:
        sound = _STATUS.fullmatch(value) is not None
    elif kind == LENGTH:
        sound = _LENGTH.fullmatch(value) is not None
    elif kind in (AUTHORITY, HOST):  # RFC 9113 §8.3.1: no user information
        sound = not value or HOST_TEXT.fullmatch(value) is not None
    elif kind == TE:
        sound = value.lower() == b"trailers"
    else:
        sound = True
    return pair, kind if sound else MALFORMED, size


def special(name: bytes) -> bool:
    """Whether `name` is one that messages treat in a way of its own."""
    return name in _KINDS
