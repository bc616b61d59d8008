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

_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
"""A token, a colon, printable text. A line that begins with white space (obs-fold) is none."""
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._~!$&'()*+;=%-]{1,255})(?::[0-9]{1,5})?|")
"""RFC 9112 §3.2: a malformed one is answered 400. Empty where the target has no authority. No comma: that is
how two fields look that somebody has joined."""
_MOST_LINES: Final = 2048
_LONGEST_LINE: Final = 512
_SECRET: Final = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"www-authenticate", b"x-api-key"}
)


def _bounded(size: int, field: Field) -> bool:
    """Whether a line may be remembered."""
    return size <= _LONGEST_LINE and field[0] not in _SECRET


class _Fields(dict[bytes, Field]):
    """Line -> field. Raises BadMessage for what is not a field line."""

    def __missing__(self, line: bytes) -> Field:
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadMessage("a field of the head is not well-formed")
        field = (found[1].lower(), found[2].rstrip(b" \t"))
        if field[0] == b"host" and _HOST.fullmatch(field[1]) is None:
            raise BadMessage("the host field is not a host with an optional port")
        if _bounded(len(line), field):
            if len(self) >= _MOST_LINES:
                self.clear()
            self[line] = field
        return field


class _Lines(dict[Field, bytes]):
    """Field -> line with its line end."""

    def __missing__(self, field: Field) -> bytes:
        line = b"%b: %b\r\n" % field
        if _bounded(len(line), field):
            if len(self) >= _MOST_LINES:
                self.clear()
            self[field] = line
        return line


FIELDS: Final = _Fields()
LINES: Final = _Lines()
