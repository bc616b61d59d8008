"""The server name in the first bytes of a TLS connection (RFC 8446 §4.1.2, RFC 6066 §3).

Read for metrics and logs, never for a decision: the client chooses the name and nothing proves it.
"""

from __future__ import annotations

import re
from typing import Final

MAX_HELLO: Final = 16384
"""Bytes looked at; real ones have 200 to 2,000."""
TLS_BEGINS: Final = b"\x16\x03"
_HANDSHAKE: Final = TLS_BEGINS[0]
_CLIENT_HELLO: Final = b"\x01"
_SERVER_NAME: Final = 0
_NAME: Final = re.compile(rb"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")


def server_name(data: bytes) -> str | None:
    """The name in `data`, a connection's first bytes, in lower case; None while there may be more to it.

    Empty for what is no ClientHello, names nobody, or names something that is no host name.
    """
    if not TLS_BEGINS.startswith(data[:2]):
        return ""
    hello = _hello(data)
    if hello is None:
        return None if len(data) < MAX_HELLO else ""
    return _name(hello)


def _hello(data: bytes) -> bytes | None:
    """The handshake message, put together from its records; None if it is incomplete, empty if it is none."""
    message = b""
    at = 0
    while at + 5 <= len(data):
        if data[at] != _HANDSHAKE:
            return b""
        size = int.from_bytes(data[at + 3 : at + 5])
        if not 0 < size <= MAX_HELLO:
            return b""
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if message[:1] not in (b"", _CLIENT_HELLO):
            return b""
        if len(message) >= 4 and len(message) - 4 >= int.from_bytes(message[1:4]):
            return message[4 : 4 + int.from_bytes(message[1:4])]
    return None


def _name(hello: bytes) -> str:
    """RFC 8446 §4.1.2: version, random, session id, cipher suites, compression methods, extensions."""
    reader = _Reader(hello)
    try:
        reader.skip(2 + 32)
        reader.vector(1)
        reader.vector(2)
        reader.vector(1)
        extensions = _Reader(reader.vector(2))
        while extensions.left:
            kind = extensions.number(2)
            body = extensions.vector(2)
            if kind == _SERVER_NAME:
                names = _Reader(_Reader(body).vector(2))
                kind = names.number(1)
                name = names.vector(2).lower()
                host = kind == 0 and len(name) < 254 and _NAME.fullmatch(name) is not None
                return name.decode("ascii") if host else ""
    except _Short:
        return ""
    return ""


class _Short(Exception):  # noqa: N818 - says what the bytes are
    """A length reaches beyond the end."""


class _Reader:
    """Takes numbers and vectors off the front of some bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def skip(self, size: int) -> bytes:
        if size > self.left:
            raise _Short
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.skip(size))

    def vector(self, size: int) -> bytes:
        """Bytes behind their length, which takes `size` bytes."""
        return self.skip(self.number(size))
