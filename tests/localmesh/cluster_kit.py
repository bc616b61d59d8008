"""What the controller and node tests share: an API in memory, waiting by observation, object builders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from localmesh.apiserver.api import Api
from localmesh.apiserver.assemble import Core, assemble
from localmesh.apiserver.store import Store

DEADLINE_S = 5.0


async def memory_core() -> Core:
    """An API that keeps nothing on disk, with the system namespaces in it."""
    core = assemble(Store(None))
    await core.bootstrap()
    return core


async def wait_until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition()` is true and return its value; fails with `what` after the deadline."""
    limit = asyncio.get_running_loop().time() + deadline_s
    while not (value := condition()):
        if asyncio.get_running_loop().time() > limit:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        await asyncio.sleep(0.002)
    return value


def container(name: str = "c", image: str = "sh", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": image, **more}


def deployment(name: str = "web", replicas: int = 2, image: str = "x:1", **spec: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container(image=image)]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def pod(name: str, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [container()], **spec},
    }


class Kubelet:
    """Stands in for the node in controller tests: says of pods what the test wants said."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._next = 0

    async def ready(self, obj: dict[str, Any], ready: bool = True) -> None:
        meta = obj["metadata"]
        self._next += 1
        conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        address = (obj.get("status") or {}).get("podIP") or f"10.1.0.{self._next}"
        status = {"phase": "Running", "podIP": address, "conditions": conditions}
        await self._api.patch("pods", meta["namespace"], meta["name"], {"spec": {"nodeName": "local"}})
        await self._api.patch(
            "pods", meta["namespace"], meta["name"], {"status": status}, subresource="status"
        )

    async def ready_all(self, namespace: str = "default") -> None:
        for obj in await self._api.list("pods", namespace):
            if "deletionTimestamp" not in obj["metadata"] and not obj.get("status", {}).get("podIP"):
                await self.ready(obj)

    async def remove_terminating(self, namespace: str = "default") -> None:
        for obj in await self._api.list("pods", namespace):
            if "deletionTimestamp" in obj["metadata"]:
                await self._api.delete("pods", namespace, obj["metadata"]["name"], grace_seconds=0)
