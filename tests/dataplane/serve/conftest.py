"""Listeners run on uvloop, as they do in the sidecar."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.dataplane.serve.mesh import Mesh, mesh


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def net() -> AsyncIterator[Mesh]:
    async with mesh() as made:
        yield made
