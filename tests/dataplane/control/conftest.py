"""A controller stand-in and the settings of a proxy that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dataplane.settings import Settings
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import TOKEN, StandIn


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def controller(tmp_path: Path, authority: Authority) -> AsyncIterator[StandIn]:
    stand_in = StandIn(tmp_path, authority)
    await stand_in.start_identity()
    await stand_in.start_discovery()
    yield stand_in
    await stand_in.stop()


@pytest.fixture
def settings(tmp_path: Path, controller: StandIn) -> Settings:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    return Settings(
        namespace="shop",
        pod="web-1",
        pod_ip="127.0.0.1",
        trust_bundle=controller.authority.bundle,
        controller="127.0.0.1",
        token_file=str(token),
        identity_port=controller.identity_port,
        discovery_port=controller.discovery_port,
    )
