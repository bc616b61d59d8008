"""A rollout step by step, as kube-controller-manager 1.20.2 was recorded at it.

kubectl and Flagger wait on these fields. How many writes lie between two steps is not part of the contract;
their order is, and what holds in every state that a watcher can see.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from localmesh.apiserver.api import Api
from localmesh.tasks import TaskGroup
from tests.localmesh.cluster_kit import Kubelet, deployment, wait_until

REVISION = "deployment.kubernetes.io/revision"
COUNTERS = {
    "rep": "replicas",
    "upd": "updatedReplicas",
    "ready": "readyReplicas",
    "avail": "availableReplicas",
    "unav": "unavailableReplicas",
}
Step = dict[str, Any]

START: list[Step] = [
    {"gen": 1, "obs": 0, "rev": None, "progress": None},
    {"gen": 1, "obs": 0, "rev": "1", "progress": "NewReplicaSetCreated"},
    {"obs": 1, "unav": 2, "available": "MinimumReplicasUnavailable"},
    {"rep": 2, "upd": 2, "ready": 0, "unav": 2, "progress": "ReplicaSetUpdated"},
]
ONE_READY: list[Step] = [{"rep": 2, "ready": 1, "avail": 1, "unav": 1, "progress": "ReplicaSetUpdated"}]
BOTH_READY: list[Step] = [
    {"ready": 2, "avail": 2, "unav": 0, "available": "MinimumReplicasAvailable",
     "progress": "NewReplicaSetAvailable"},
]  # fmt: skip
CHANGED: list[Step] = [
    {"gen": 2, "obs": 1, "rev": "1", "rep": 2, "progress": "NewReplicaSetAvailable"},
    {"gen": 2, "obs": 1, "rev": "2", "progress": "NewReplicaSetCreated"},
    {"gen": 2, "obs": 2, "rep": 3, "upd": 1, "ready": 2, "unav": 1, "progress": "ReplicaSetUpdated"},
]
FIRST_NEW_READY: list[Step] = [{"rep": 3, "upd": 2, "ready": 2, "unav": 1, "progress": "ReplicaSetUpdated"}]
SECOND_NEW_READY: list[Step] = [
    {"obs": 2, "rep": 2, "upd": 2, "ready": 2, "avail": 2, "unav": 0, "progress": "NewReplicaSetAvailable"},
]


def state_of(obj: dict[str, Any]) -> Step:
    status = obj.get("status") or {}
    conditions = {one["type"]: one["reason"] for one in status.get("conditions") or ()}
    return {
        "gen": obj["metadata"]["generation"],
        "obs": status.get("observedGeneration", 0),
        "rev": (obj["metadata"].get("annotations") or {}).get(REVISION),
        **{short: status.get(name, 0) for short, name in COUNTERS.items()},
        "available": conditions.get("Available"),
        "progress": conditions.get("Progressing"),
    }


@dataclass
class Witness:
    """Sees every write of the Deployment, as a watcher over HTTP would."""

    states: list[Step] = field(default_factory=list)
    position: int = 0

    async def watch(self, api: Api) -> None:
        async for _kind, obj in api.watch("deployments.apps"):
            self.states.append(state_of(obj))

    async def sees(self, *steps: Step) -> None:
        """These steps in this order, after those seen before."""
        for step in steps:
            await wait_until(lambda step=step: self._find(step), f"{step}, seen: {self.states}")

    def _find(self, step: Step) -> bool:
        for number in range(self.position, len(self.states)):
            if step.items() <= self.states[number].items():
                self.position = number
                return True
        return False


@pytest.fixture
async def witness(api: Api) -> AsyncIterator[Witness]:
    found = Witness()
    tasks = TaskGroup("witness")
    tasks.start("watch", found.watch(api))
    yield found
    await tasks.stop()


async def fresh_pods(api: Api) -> list[dict[str, Any]]:
    return [
        pod
        for pod in await api.list("pods", "default")
        if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]
    ]


async def sizes(api: Api) -> list[int]:
    """Pods wanted by each ReplicaSet, by revision."""
    sets = api.peek_all("replicasets.apps", "default")
    ordered = sorted(sets, key=lambda one: int(one["metadata"]["annotations"][REVISION]))
    return [one["spec"]["replicas"] for one in ordered]


async def test_a_rollout_goes_the_recorded_way(api: Api, kubelet: Kubelet, witness: Witness) -> None:
    await api.create("deployments.apps", "default", deployment())
    await witness.sees(*START)
    assert await sizes(api) == [2]
    for steps in (ONE_READY, BOTH_READY):
        await kubelet.ready((await fresh_pods(api))[0])
        await witness.sees(*steps)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "x:2"}]}}}}
    await api.patch("deployments.apps", "default", "web", image)
    await witness.sees(*CHANGED)
    assert await sizes(api) == [2, 1]
    await kubelet.ready((await fresh_pods(api))[0])
    await witness.sees(*FIRST_NEW_READY)
    assert await sizes(api) == [1, 2]
    await kubelet.remove_terminating()
    await kubelet.ready((await fresh_pods(api))[0])
    await witness.sees(*SECOND_NEW_READY)
    assert await sizes(api) == [0, 2]
    dep = await api.get("deployments.apps", "default", "web")
    assert [one["type"] for one in dep["status"]["conditions"]] == ["Available", "Progressing"]
    for state in witness.states:
        assert state["obs"] <= state["gen"]
        assert state["rev"] is None or state["progress"], "revision and condition come in one write"
        assert state["upd"] <= state["rep"] <= 4
        assert state["avail"] <= state["ready"]
    after = [state for state in witness.states if state["rev"] == "2"]
    assert all(state["avail"] >= 2 for state in after), "25 % of two, rounded down, may be unavailable: none"


async def test_every_step_tells_an_event(api: Api, kubelet: Kubelet, witness: Witness) -> None:
    await api.create("deployments.apps", "default", deployment())
    await witness.sees(*START)

    def reasons() -> list[str]:
        found = api.peek_all("events", "default")
        return sorted(f"{one['involvedObject']['kind']} {one['reason']}" for one in found)

    wanted = ["Deployment ScalingReplicaSet", *["ReplicaSet SuccessfulCreate"] * 2]
    await wait_until(lambda: reasons() == wanted, "three events")
