"""What does a client speak? Answered from the first bytes it sends.

Only guides the choice of treatment: what a caller may do is decided at the destination, from how
the peer's proxy treats the connection, so a wrong guess cannot widen a permission.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

SNIFF_BYTES: Final = 8192
"""After this many bytes without the end of a line it is HTTP if it began like it."""
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_TLS_HANDSHAKE: Final = b"\x16\x03"
_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [^\s]+ HTTP/\d\.\d\r?\n")
_BEGINNING: Final = re.compile(rb"[A-Z_-]{1,32}(?: +(?:[/*hH]|\Z)|\Z)|CONNECT +[^\s]")
_LIKELY: Final = re.compile(rb"[A-Z_-]{2,32} (?:/|\*|https?://)")


class Spoken(StrEnum):
    HTTP1 = "http1"
    HTTP2 = "http2"
    """HTTP/2 with prior knowledge (RFC 9113 §3.3)."""
    TLS = "tls"
    OTHER = "other"


def sniff(data: bytes) -> Spoken | None:
    """What `data`, all that has arrived so far, begins with; None while it may still become HTTP."""
    if data.startswith(_PREFACE):
        return Spoken.HTTP2
    if data.startswith(_TLS_HANDSHAKE):
        return Spoken.TLS
    if data == _TLS_HANDSHAKE[: len(data)] or data == _PREFACE[: len(data)]:
        return None
    start = data.lstrip(b"\r\n")  # RFC 9112 §2.2: empty lines before a request are to be ignored
    end = start.find(b"\n")
    if end >= 0:
        return Spoken.HTTP1 if _LINE.match(start) else Spoken.OTHER
    if start and not _BEGINNING.match(start):
        return Spoken.OTHER
    return None if len(data) < SNIFF_BYTES else guess(data)


def guess(data: bytes) -> Spoken:
    """The verdict when the client has fallen silent: HTTP if it began a request, else opaque bytes."""
    return Spoken.HTTP1 if _LIKELY.match(data.lstrip(b"\r\n")) else Spoken.OTHER
