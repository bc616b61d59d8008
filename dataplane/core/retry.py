"""May a request be sent again after its server's connection was lost? (RFC 9110 §9.2.2)"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
MAX_CONNECTS: Final = 3
"""Endpoints tried for one request before it fails, when no connection can be made."""
REPLAYABLE: Final = 65536
"""Bytes of a request's body kept until its answer begins, to send them again."""


class Loss(Enum):
    """How a request was lost."""

    NOT_SENT = auto()
    """No connection could be made, or a peer proxy says that no server saw the request."""
    STALE = auto()
    """On a pooled connection that was closed before a byte was answered."""
    SENT = auto()
    """On a fresh connection, or according to a peer proxy in the hands of the server."""


def may_retry(loss: Loss, method: bytes, *, replayable: bool, connects: int, resent: int) -> bool:
    """Whether to try once more.

    `replayable`: everything that was sent of the request is still at hand. `connects`: attempts so
    far that failed before anything was sent. `resent`: times it was sent again already.

    A request in the hands of a server is sent again once, and only if it is idempotent. One on a
    stale connection gets a second go at that, because the close says nothing about the server.
    """
    if not replayable:
        return False
    if loss is Loss.NOT_SENT:
        return connects < MAX_CONNECTS
    if method not in IDEMPOTENT:
        return False
    return resent < (2 if loss is Loss.STALE else 1)
