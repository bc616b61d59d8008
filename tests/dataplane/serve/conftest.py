"""Listeners run on uvloop, as they do in the sidecar; an error that only the loop sees fails the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from tests.dataplane.serve.mesh import Mesh, mesh


class Loop(uvloop.Loop):
    """Closes the listeners that a failed test left: for those uvloop's own `close` would wait for ever."""

    def __init__(self) -> None:
        self._listeners: list[asyncio.AbstractServer] = []

    async def create_server(self, *args: Any, **options: Any) -> Any:
        server = await super().create_server(*args, **options)
        self._listeners.append(server)
        return server

    def close(self) -> None:
        for server in self._listeners:
            server.close()
        super().close()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": Loop}


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    """A mesh without pods."""
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
    async with mesh() as made:
        yield made
    assert unheard == []
