"""UDP inside a pod: a responder that answers every datagram, and a caller whose flows have a port each.

The responder answers `<name> <payload>`. A caller's flow is one socket: it sends its datagrams one by
one and waits for the answer to each; silence is the failure `timeout`, whoever dropped it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, cast

from conformance.app.caller import Failure
from conformance.app.echo import Seen
from conformance.app.talk import Heard

MAX_DATAGRAM: Final = 65507


class DatagramServer:
    """One UDP listener."""

    def __init__(self, name: str, seen: Seen) -> None:
        self._name = name
        self._seen = seen
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address cannot be bound."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Responder(self._name, self._seen), local_addr=(host, port)
        )

    @property
    def port(self) -> int:
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def stop(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Responder(asyncio.DatagramProtocol):
    def __init__(self, name: str, seen: Seen) -> None:
        self._prefix = name.encode() + b" "
        self._seen = seen
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # asyncio's own does not inherit

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._seen.datagrams += 1
        assert self._transport is not None
        self._transport.sendto((self._prefix + data)[:MAX_DATAGRAM], addr)


@dataclass(frozen=True, slots=True)
class Flows:
    """One order: `count` flows, each of which sends every payload of `send` in turn."""

    host: str
    port: int
    send: tuple[str, ...] = ("ping",)
    count: int = 1
    concurrency: int = 1
    timeout: float = 2.0
    """Seconds that one answer may take."""
    interval: float = 0.0
    """Seconds between an answer and the flow's next datagram."""


async def exchange(order: Flows) -> list[Heard]:
    """Carry out the order; network faults and silence are results, not exceptions.

    Sockets stay open until all is done: the kernel may give a port that is free again to the next, and what
    comes from there would be of the flow before (of 100 flows, two share a port in one order of six).
    """
    gate = asyncio.Semaphore(order.concurrency)
    with ExitStack() as sockets:

        async def one() -> Heard:
            async with gate:
                return await _converse(order, sockets)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(order.count)]
    return [task.result() for task in tasks]


async def _converse(order: Flows, sockets: ExitStack) -> Heard:
    """One flow; `sockets` closes its own."""
    begin = time.perf_counter()
    received: list[str] = []

    def heard(error: Failure | None = None, detail: str = "") -> Heard:
        return Heard(time.perf_counter() - begin, tuple(received), error, detail)

    try:
        transport, answers = await asyncio.get_running_loop().create_datagram_endpoint(
            _Answers, remote_addr=(order.host, order.port), family=socket.AF_INET
        )
        sockets.callback(transport.close)
        for index, text in enumerate(order.send):
            if index and order.interval:
                await asyncio.sleep(order.interval)
            transport.sendto(text.encode())
            async with asyncio.timeout(order.timeout):
                received.append((await answers.next()).decode("utf-8", "replace"))
    except TimeoutError:
        return heard(Failure.TIMEOUT, f"no answer within {order.timeout:g} s")
    except OSError as error:  # no such name, or an ICMP error, which a connected socket is told
        return heard(Failure.UNREACHABLE, str(error))
    return heard()


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._answers: asyncio.Queue[bytes | OSError] = asyncio.Queue()

    async def next(self) -> bytes:
        answer = await self._answers.get()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self._answers.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        with suppress(asyncio.QueueFull):
            self._answers.put_nowait(exc if isinstance(exc, OSError) else OSError(str(exc)))
