"""What a client has sent and nobody has taken yet: heads and bodies are cut off its front.

Taking does not move what is left, so that a long run of pipelined requests costs no more than its
bytes; and what was searched for the end of a head is not searched again.
"""

from __future__ import annotations

from dataplane.wire.body import Chunked, Length
from dataplane.wire.errors import BadMessage
from dataplane.wire.http1 import head_end

_EMPTY_LINE = b"\r\n"
_MOST_EMPTY_LINES = 8


class Inbox:
    """Bytes in order of arrival. Bounded by whoever adds: see `__len__`."""

    __slots__ = ("_at", "_data", "_empty", "_scanned", "fresh")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0  # where what is left begins
        self._empty = 0  # empty lines before the head that is awaited
        self._scanned = 0  # how much of what is left was searched for the end of a head
        self.fresh = True
        """Nothing is here, and nothing of the next message was: its head need not be put in to be read."""

    def __len__(self) -> int:
        return len(self._data) - self._at

    @property
    def begun(self) -> bool:
        """The beginning of a head is here, its end is not."""
        return self._scanned > 0

    def add(self, data: bytes) -> None:
        self.fresh = False
        self._data = self._data[self._at :] + data if self._at < len(self._data) else data
        self._at = 0

    def head(self) -> bytes | None:
        """Take the next head, from its first byte to its empty line; None while it is incomplete.

        Empty lines before it are skipped (RFC 9112 §2.2), but not for ever. Raises BadMessage.
        """
        data, at = self._data, self._at
        while data.startswith(_EMPTY_LINE, at):
            at = self._at = at + 2
            self._scanned = 0
            self._empty += 1
            if self._empty > _MOST_EMPTY_LINES:
                raise BadMessage("there are too many empty lines before the request")
        end = head_end(data, at, max(self._scanned - 3, 0))
        if not end:
            self._scanned = len(data) - at
            return None
        self._scanned = self._empty = 0
        if at == 0 and end == len(data):
            self._data = b""
            self.fresh = True
            return data
        self._at = end
        return data[at:end]

    def body(self, body: Length | Chunked) -> bytes:
        """Take what belongs to `body`. Raises BadMessage."""
        data = self.rest()
        taken = body.take(data)
        if taken == len(data):
            return data
        self._data, self._at, self.fresh = data, taken, False
        return data[:taken]

    def rest(self) -> bytes:
        """Take everything."""
        data = self._data[self._at :] if self._at else self._data
        self._data, self._at, self._scanned = b"", 0, 0
        self.fresh = self._empty == 0
        return data
