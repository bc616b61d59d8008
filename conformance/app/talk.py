"""Raw TCP from inside a pod: connect, perhaps hear a greeting, send lines, hear the answers.

Through an explicit proxy the connection is opened with CONNECT, as HTTP_PROXY users do.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

from conformance.app.caller import Failure, NoAnswerError, dial, dial_through
from conformance.app.settings import Proxy


@dataclass(frozen=True, slots=True)
class Talk:
    """One order: `count` connections, on each every line of `send` in turn."""

    host: str
    port: int
    send: tuple[str, ...] = ("ping",)
    count: int = 1
    concurrency: int = 1
    greeting: bool = False
    """Wait for one line before sending the first."""
    timeout: float = 5.0
    """Seconds for one connection, everything included."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one connection came to. `received` holds the lines heard, also those before a failure."""

    seconds: float
    received: tuple[str, ...] = field(default=())
    error: Failure | None = None
    detail: str = ""


async def talk(order: Talk, proxy: Proxy | None) -> list[Heard]:
    """Carry out the order; network faults are results, not exceptions."""
    gate = asyncio.Semaphore(order.concurrency)

    async def one() -> Heard:
        async with gate:
            return await _converse(order, proxy)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(order.count)]
    return [task.result() for task in tasks]


async def _converse(order: Talk, proxy: Proxy | None) -> Heard:
    begin = time.perf_counter()
    received: list[str] = []
    try:
        async with asyncio.timeout(order.timeout):
            await _exchange_lines(order, proxy, received)
    except NoAnswerError as error:
        return Heard(time.perf_counter() - begin, tuple(received), error.failure, error.detail)
    except TimeoutError:
        detail = f"not finished within {order.timeout:g} s"
        return Heard(time.perf_counter() - begin, tuple(received), Failure.TIMEOUT, detail)
    return Heard(time.perf_counter() - begin, tuple(received))


async def _exchange_lines(order: Talk, proxy: Proxy | None, received: list[str]) -> None:
    reader, writer = await _open(order, proxy)
    try:
        if order.greeting:
            received.append(await _hear(reader))
        for line in order.send:
            writer.write(f"{line}\n".encode())
            await writer.drain()
            received.append(await _hear(reader))
    except ConnectionError as error:
        raise NoAnswerError(Failure.RESET, str(error)) from None
    except OSError as error:
        raise NoAnswerError(Failure.UNREACHABLE, str(error)) from None
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _hear(reader: asyncio.StreamReader) -> str:
    try:
        line = await reader.readline()
    except ValueError as error:  # a line beyond the reader's limit
        raise NoAnswerError(Failure.PROTOCOL, str(error)) from None
    if not line.endswith(b"\n"):
        raise NoAnswerError(Failure.CLOSED, "the peer closed the connection before a whole line")
    return line.decode("utf-8", "replace").rstrip("\r\n")


async def _open(order: Talk, proxy: Proxy | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if proxy is None or not proxy.serves(order.host):
        return await dial(order.host, order.port)
    return await dial_through(proxy.host, proxy.port, f"{order.host}:{order.port}")
