"""A server that stops leaves no connection open that it had accepted."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from controller import listening

DEADLINE = 10.0


@pytest.mark.parametrize("turns", range(8))
async def test_who_connects_while_it_stops_is_answered_or_closed(turns: int) -> None:
    """Whatever turn of the loop the end comes at; one of them is between accept and the serving task."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="still here")

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(ask(runner.addresses[0][1]))
        for _ in range(turns):
            await asyncio.sleep(0)
        await listening.stop(runner)
    assert asking.result() in (b"still here", b"")


async def ask(port: int) -> bytes:
    """The body of one answer; empty when the connection is refused, reset or closed."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        return b""
    return answer.partition(b"\r\n\r\n")[2]
