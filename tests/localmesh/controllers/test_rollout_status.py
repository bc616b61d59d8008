"""`kubectl rollout status` and Flagger read a few fields: they must never say "done" before it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from localmesh.apiserver.api import Api
from localmesh.tasks import TaskGroup
from tests.localmesh.cluster_kit import DEADLINE_S, Kubelet, container, wait_until

LABELS = {"app": "web"}
Object = dict[str, Any]


def observed(obj: Object) -> bool:
    return bool(obj["metadata"]["generation"] <= obj["status"].get("observedGeneration", 0))


def deployment_done(obj: Object) -> bool:
    status, want = obj["status"], obj["spec"]["replicas"]
    updated = status.get("updatedReplicas", 0)
    return bool(
        observed(obj)
        and updated >= want
        and status.get("replicas", 0) <= updated <= status.get("availableReplicas", 0)
    )


def daemon_set_done(obj: Object) -> bool:
    status = obj["status"]
    want = status.get("desiredNumberScheduled", 0)
    return bool(
        observed(obj)
        and status.get("updatedNumberScheduled", 0) >= want
        and status.get("numberAvailable", 0) >= want
    )


def stateful_set_done(obj: Object) -> bool:
    status, want = obj["status"], obj["spec"]["replicas"]
    return bool(
        observed(obj)
        and status.get("readyReplicas", 0) >= want
        and status.get("updatedReplicas", 0) >= want
        and status.get("updateRevision") == status.get("currentRevision")
    )


CASES: dict[str, tuple[str, dict[str, Any], Callable[[Object], bool]]] = {
    "deployments.apps": ("Deployment", {"replicas": 3}, deployment_done),
    "daemonsets.apps": ("DaemonSet", {}, daemon_set_done),
    "statefulsets.apps": ("StatefulSet", {"replicas": 3, "serviceName": "web"}, stateful_set_done),
}


def is_settled(api: Api, image: str) -> bool:
    """All pods that stay are of the image and ready."""
    pods = [one for one in api.peek_all("pods", "default") if "deletionTimestamp" not in one["metadata"]]
    ready = [
        any(state["type"] == "Ready" and state["status"] == "True" for state in one["status"]["conditions"])
        for one in pods
        if one["status"].get("conditions")
    ]
    images = {one["spec"]["containers"][0]["image"] for one in pods}
    return images == {image} and len(ready) == len(pods) and all(ready)


@pytest.mark.parametrize("resource", CASES)
async def test_done_means_done(api: Api, kubelet: Kubelet, resource: str) -> None:
    kind, more, is_done = CASES[resource]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "local"}, "spec": {}}
    await api.create("nodes", None, node)
    image = "x:1"
    early: list[Object] = []
    done = asyncio.Event()

    async def watch() -> None:
        async for _event, obj in api.watch(resource):
            wanted = obj["spec"]["template"]["spec"]["containers"][0]["image"]
            if wanted == image and is_done(obj):
                if not is_settled(api, image):
                    early.append(obj["status"])
                done.set()

    async def play_node() -> None:
        while True:
            await kubelet.remove_terminating()
            await kubelet.ready_all()
            await asyncio.sleep(0.005)

    tasks = TaskGroup("test")
    tasks.start("watch", watch())
    tasks.start("node", play_node())
    try:
        template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container(image=image)]}}
        spec = {"selector": {"matchLabels": LABELS}, "template": template} | more
        body = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}
        await api.create(resource, "default", body)
        await asyncio.wait_for(done.wait(), DEADLINE_S)
        await wait_until(lambda: is_settled(api, image), "settled")
        done.clear()
        image = "x:2"
        change = {"spec": {"template": {"spec": {"containers": [container(image=image)]}}}}
        await api.patch(resource, "default", "web", change)
        await asyncio.wait_for(done.wait(), DEADLINE_S)
    finally:
        await tasks.stop()
    assert early == []
