"""Field lines of HTTP/1.1 heads: checked once, then known (RFC 9110 §5, RFC 9112 §5).

Most lines of a connection's requests are the same each time, and so are those of different
connections: `FIELDS[line]` gives the parsed field of a line seen before for the price of a look-up,
and `LINES[field]` the line to send on. What a line means depends on nothing but the line, so that
remembering it is invisible; the memory is bounded, and lines that carry secrets do not enter it.
"""

from __future__ import annotations

import re
from typing import Final

from dataplane.wire.errors import BadMessage

Field = tuple[bytes, bytes]
"""(name in lower case, value without the white space around it)."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TEXT: Final = bytes([9, *range(32, 127), *range(128, 256)])
"""What a value is made of. A line that begins with white space (obs-fold) has no name that is a token."""
_MOST_LINES: Final = 2048
_LONGEST_LINE: Final = 512
_LONGEST_NAME: Final = 64
_NOT_KEPT: Final = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"www-authenticate", b"x-api-key"}
    | {b"traceparent", b"tracestate", b"x-request-id", b"x-b3-traceid", b"x-b3-spanid", b"b3", b"age"}
)
"""Secrets, and what is different each time."""


class _Names(dict[bytes, bytes]):
    """Name as sent -> name in lower case. Raises BadMessage for what is not a token."""

    def __missing__(self, sent: bytes) -> bytes:
        if _TOKEN.fullmatch(sent) is None:
            raise BadMessage("a field of the head is not well-formed")
        name = sent.lower()
        if len(sent) <= _LONGEST_NAME:
            if len(self) >= _MOST_LINES:
                self.clear()
            self[sent] = name
        return name


class _Fields(dict[bytes, Field]):
    """Line -> field. Raises BadMessage for what is not a field line."""

    def __missing__(self, line: bytes) -> Field:
        sent, colon, rest = line.partition(b":")
        name = _NAMES[sent]
        if not colon or rest.translate(None, _TEXT):
            raise BadMessage("a field of the head is not well-formed")
        field = (name, rest.strip(b" \t"))
        if len(line) <= _LONGEST_LINE and name not in _NOT_KEPT:
            if len(self) >= _MOST_LINES:
                self.clear()
            self[line] = field
        return field


class _Lines(dict[Field, bytes]):
    """Field -> line with its line end."""

    def __missing__(self, field: Field) -> bytes:
        name, value = field
        line = name + b": " + value + b"\r\n"
        if len(line) <= _LONGEST_LINE and name not in _NOT_KEPT:
            if len(self) >= _MOST_LINES:
                self.clear()
            self[field] = line
        return line


_NAMES: Final = _Names()
FIELDS: Final = _Fields()
LINES: Final = _Lines()
