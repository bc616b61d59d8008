"""Words for connecting, shared by pools and those who wait for a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from dataplane.core.outcome import Outcome


class ConnectFailed(Exception):  # noqa: N818 - names what happened
    """No usable connection could be made; `outcome` says why."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


MakeProtocol = Callable[[], asyncio.Protocol]
Opener = Callable[[MakeProtocol], Coroutine[Any, Any, asyncio.Transport]]
"""Connects and gives the transport whose protocol is the one made. Raises ConnectFailed."""
