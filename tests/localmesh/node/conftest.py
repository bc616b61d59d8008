from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localmesh.apiserver.api import Api
from localmesh.events import EventRecorder
from localmesh.node.agent import NodeAgent
from localmesh.node.context import NodeContext
from localmesh.node.loopback import LoopbackNetwork
from localmesh.streams.contract import LogOptions, Place
from localmesh.tasks import TaskGroup
from tests.localmesh.cluster_kit import memory_core, wait_until


@dataclass
class Node:
    """A node in loopback mode on an API in memory."""

    api: Api
    agent: NodeAgent
    pods_dir: Path

    def status(self, name: str) -> dict[str, Any]:
        return (self.api.peek("pods", "default", name) or {}).get("status") or {}

    def container(self, name: str, container: str = "c") -> dict[str, Any]:
        status = self.status(name)
        every = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
        return next((item for item in every if item["name"] == container), {})

    def is_ready(self, name: str) -> bool:
        return any(
            c["type"] == "Ready" and c["status"] == "True" for c in self.status(name).get("conditions") or ()
        )

    async def run(self, obj: dict[str, Any]) -> dict[str, Any]:
        return await self.api.create("pods", "default", obj)

    async def wait_ready(self, name: str) -> None:
        await wait_until(lambda: self.is_ready(name), f"pod {name} ready: {self.status(name)}")

    async def wait_phase(self, name: str, phase: str) -> None:
        await wait_until(lambda: self.status(name).get("phase") == phase, f"phase {phase}")

    async def log(self, name: str, container: str = "c", **options: Any) -> str:
        chunks = await self.agent.logs(Place("default", name, container), LogOptions(**options))
        return b"".join([chunk async for chunk in chunks]).decode()

    async def events(self, reason: str) -> list[dict[str, Any]]:
        return [event for event in await self.api.list("events") if event["reason"] == reason]

    def reasons(self) -> set[str]:
        return {item.value["reason"] for item in self.api._rest.store.items("events")}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    core = await memory_core()
    await core.api.create("serviceaccounts", "default", {"metadata": {"name": "default"}})
    cluster = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    network = await LoopbackNetwork.create(cluster)
    events = EventRecorder(core.api, "kubelet")
    tasks = TaskGroup("test")
    tasks.start("events", events.run())
    issued = 0

    async def issue_token(
        namespace: str, account: str, audience: str, seconds: int, pod: tuple[str, str]
    ) -> str:
        nonlocal issued
        issued += 1
        return f"{namespace}/{account}/{audience}/{pod[0]}/{issued}"

    pods_dir = tmp_path / "pods"
    pods_dir.mkdir()
    context = NodeContext(
        api=core.api,
        network=network,
        events=events,
        issue_token=issue_token,
        cluster=cluster,
        pods_dir=pods_dir,
        domain="cluster.local",
        ca_bundle="CA",
        api_host="127.0.0.1",
        api_port=6443,
        root=False,
        hide=(),
        refresh_seconds=0.1,
        retry_seconds=0.1,
    )
    agent = NodeAgent(context)
    await agent.start()
    yield Node(core.api, agent, pods_dir)
    await agent.stop(0)
    await network.close()
    await tasks.stop()
    await core.close()
