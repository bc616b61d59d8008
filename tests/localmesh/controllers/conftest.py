from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from localmesh.apiserver.api import Api
from localmesh.controllers.run import Controllers
from tests.localmesh.cluster_kit import Kubelet, memory_core


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The real API in memory with all controllers running."""
    core = await memory_core()
    controllers = Controllers(core.api, "CA")
    controllers.start()
    yield core.api
    await controllers.stop()
    await core.close()


@pytest.fixture
def kubelet(api: Api) -> Kubelet:
    return Kubelet(api)
