"""How servers stop listening without losing a connection that they have just accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web


async def stop(runner: web.BaseRunner) -> None:
    """Take no more connections, then close what there is: `runner.cleanup()` with nothing left open."""
    await close(getattr(site, "_server", None) for site in runner.sites)
    await runner.cleanup()


async def close(servers: Iterable[asyncio.AbstractServer | None]) -> None:
    """Close listeners; every connection accepted until now reaches its protocol.

    An `asyncio.Server` that closes between the accept of a connection and the first step of the task that
    serves it fails an assertion in that task and leaves the connection open (`Server._attach`, CPython
    3.11): the peer would wait for an answer for ever. So accepting ends one turn of the loop before the
    server does. uvloop's servers have no such gap.
    """
    loop = asyncio.get_running_loop()
    known = [server for server in servers if server is not None]
    for server in known:
        if isinstance(server, asyncio.Server):
            for listening in server.sockets:
                loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
    for server in known:
        server.close()
