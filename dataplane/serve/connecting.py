"""Words for connecting, shared by pools and those who wait for a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from dataplane.core.outcome import Outcome


class ConnectFailed(Exception):  # noqa: N818 - names what happened
    """No usable connection could be made; `outcome` says why."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


MakeProtocol = Callable[[], asyncio.Protocol]
Opener = Callable[[MakeProtocol], Coroutine[Any, Any, asyncio.Transport]]
"""Connects and gives the transport whose protocol is the one made. Raises ConnectFailed."""

_Connection = TypeVar("_Connection")


class Line(Generic[_Connection]):
    """Connections to one server in the making: at most `most`; who comes later waits in line for `seconds`.

    Thousands of handshakes at once would each take longer than any may, and be given up when they are nearly
    done. Most of those who wait need none: what others give back will do.
    """

    __slots__ = ("_made", "_making", "_most", "_seconds", "_waiting")

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._making = 0
        self._made = 0
        self._waiting: deque[asyncio.Future[_Connection | None]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether `give` has takers."""
        return bool(self._waiting)

    @property
    def empty(self) -> bool:
        """Nobody makes a connection, nobody waits."""
        return not self._making and not self._waiting

    async def get(self, connect: Callable[[], Coroutine[Any, Any, _Connection]]) -> _Connection:
        """What `connect` makes, or else what was given back before it was its turn. Raises ConnectFailed."""
        given = await self._turn()
        if given is not None:
            return given
        made = self._made
        try:
            connection = await connect()
            self._made += 1
        except ConnectFailed as failure:
            if self._made == made:  # nobody has got through meanwhile: those behind would not either
                self._give_up(failure)
            raise
        finally:
            self._making -= 1
            self._next()
        return connection

    def give(self, connection: _Connection) -> bool:
        """Hand a connection to who has waited longest; False if nobody does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    async def _turn(self) -> _Connection | None:
        """None: make one, which is counted already."""
        if self._making < self._most and not self._waiting:
            self._making += 1
            return None
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[_Connection | None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self._seconds, self._too_late, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None and turn.result() is None:
                self._making -= 1
                self._next()
            raise
        finally:
            timer.cancel()

    def _too_late(self, turn: asyncio.Future[_Connection | None]) -> None:
        if not turn.done():
            detail = f"no connection could be had within {self._seconds:g} s"
            turn.set_exception(ConnectFailed(Outcome.CONNECT_TIMEOUT, detail))

    def _next(self) -> None:
        while self._waiting and self._making < self._most:
            turn = self._waiting.popleft()
            if not turn.done():
                self._making += 1
                turn.set_result(None)

    def _give_up(self, failure: ConnectFailed) -> None:
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_exception(ConnectFailed(failure.outcome, str(failure)))
