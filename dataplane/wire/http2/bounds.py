"""What one HTTP/2 connection may cost: windows, sizes, and an allowance for frames that bring nothing."""

from __future__ import annotations

from typing import Final

from dataplane.wire.http2.frames import BadConnection, Code

STREAM_WINDOW: Final = 256 * 1024
"""Most bytes of one stream that wait here."""
CONNECTION_WINDOW: Final = 2 * 1024 * 1024
"""The same for all streams of a connection."""
LEAST_WINDOW: Final = 16384
"""A connection that may send less than this is taken only if there is no other."""
FRAME_SIZE: Final = 65536
"""Largest frame we take: fewer, larger frames cost less."""
MAX_STREAMS: Final = 256
"""Streams a client may have open at once."""
ASSUMED_STREAMS: Final = 100
"""What a server will bear until its settings say so (RFC 9113 §6.5.2 asks servers for no less)."""
MOST_STREAMS: Final = 1000
"""Most streams we open on one connection, whatever the server offers."""
MAX_LIST: Final = 65536
"""SETTINGS_MAX_HEADER_LIST_SIZE; a larger head is answered 431, one of twice the size ends the connection."""
MAX_BLOCK: Final = 65536
"""Bytes of one field block over all its frames."""
MAX_CONTINUATIONS: Final = 16
BATCH: Final = 131072
"""Bytes framed before the socket is asked again."""
SMALL: Final = 2048
"""Pieces of a body that wait are joined up to this size: by itself each would take many times its bytes."""
MAX_UPDATES: Final = 2000
"""WINDOW_UPDATE frames between two DATA frames of ours."""
ALLOWANCE: Final = 1000.0
"""What a peer may spend at once; ALLOWANCE_PER_SECOND is what it earns."""
ALLOWANCE_PER_SECOND: Final = 100.0
RESET_COST: Final = 2.0
"""A request that is withdrawn before its answer is complete (CVE-2023-44487): 500 at once, 50 a second."""
PROXY_RESET_COST: Final = 0.125
"""The same of a peer proxy, which carries what all its clients withdraw: 8000 at once, 800 a second."""
FORGIVEN: Final = 500
"""Complete answers that are remembered: each pays for one request that is withdrawn."""
SUBSTANTIAL: Final = 256
"""Bytes from which on a DATA frame that comes too late is no more of a nuisance than one in time."""
SETTINGS_COST: Final = 10.0
REMEMBERED: Final = 1024
"""Streams that we reset, of which frames may still be on their way."""
LAST_OPENED: Final = 1 << 30
"""Numbers of streams run out; behind this one another connection is opened."""


class Allowance:
    """Pays for frames that cost us more than the peer, or bring nothing. Fills with time."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = ALLOWANCE
        self._at = now

    def spend(self, cost: float, now: float) -> None:
        """Raises BadConnection when there is nothing left."""
        self._left = min(ALLOWANCE, self._left + (now - self._at) * ALLOWANCE_PER_SECOND) - cost
        self._at = now
        if self._left < 0:
            raise BadConnection(Code.ENHANCE_YOUR_CALM, "too many frames that bring nothing")
