"""Ids for requests that came without an `x-request-id`.

The first proxy on a request's way gives it one, so that logs of everybody behind it can be joined.
Unique and cheap, not secret: a random part of this process's and a running number.
"""

from __future__ import annotations

import itertools


class RequestIds:
    """One per process. `chance` is 16 random bytes."""

    __slots__ = ("_form", "_next")

    def __init__(self, chance: bytes) -> None:
        self._form = chance[:8].hex().encode("ascii") + b"%016x"
        self._next = itertools.count(int.from_bytes(chance[8:16])).__next__

    def next(self) -> bytes:
        """32 hexadecimal digits."""
        return self._form % (self._next() & 0xFFFFFFFFFFFFFFFF)
