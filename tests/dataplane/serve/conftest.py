"""Listeners run on uvloop, as they do in the sidecar; an error that only the loop sees fails the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from tests.dataplane.serve.mesh import Mesh, mesh


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    """A mesh without pods."""
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
    async with mesh() as made:
        yield made
    assert unheard == []
