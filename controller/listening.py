"""How an aiohttp server stops listening without losing what it has just accepted."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def stop(runner: web.BaseRunner) -> None:
    """Take no more connections, then close what there is: `runner.cleanup()` with nothing left open.

    An `asyncio.Server` that closes between the accept of a connection and the first step of the task that
    serves it fails an assertion in that task and leaves the connection open (`_attach`, CPython 3.11):
    the peer would wait for an answer for ever. So accepting ends one turn of the loop before the server
    does. uvloop's servers have no such gap.
    """
    loop = asyncio.get_running_loop()
    for site in runner.sites:
        server = getattr(site, "_server", None)
        if isinstance(server, asyncio.Server):
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    await runner.cleanup()
