"""ReplicaSets: as many active pods as `spec.replicas` says, and counters that tell the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import claim, current
from localmesh.controllers.podcontrol import PodControl, follow_pods
from localmesh.controllers.pods import (
    available_in,
    deletion_rank,
    is_active,
    is_ready,
    pod_from_template,
    time_text,
)
from localmesh.events import EventRecorder

RESOURCE: Final = "replicasets.apps"


class ReplicaSetController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._pods = PodControl(api, events, "apps/v1", "ReplicaSet")
        self.loop = ControlLoop("replicaset", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "replicasets",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, rs: self.loop.add(key_of(rs))),
            ),
            ("pods", lambda: follow_pods(self._api, self.loop, RESOURCE, "ReplicaSet")),
        )

    async def reconcile(self, key: Key) -> float | None:
        rs = await current(self._api, RESOURCE, *key)
        if rs is None:
            return None
        pods = [pod for pod in await claim(self._api, rs, "apps/v1", "ReplicaSet", "pods") if is_active(pod)]
        failure: ApiError | None = None
        if "deletionTimestamp" not in rs["metadata"]:
            failure = await self._scale(rs, pods)
        after = await self._write_status(rs, pods, failure)
        if failure is not None:
            raise failure
        return after

    async def _scale(self, rs: dict[str, Any], pods: list[dict[str, Any]]) -> ApiError | None:
        """Create or delete pods; the counters still speak of `pods` as they were. Returns what stopped it."""
        difference = int(rs["spec"].get("replicas", 1)) - len(pods)
        if difference < 0:
            await self._pods.delete(rs, sorted(pods, key=deletion_rank)[:-difference])
            return None
        pod = pod_from_template(rs["spec"]["template"], prefix=f"{rs['metadata']['name']}-")
        return await self._pods.create_all(rs, [pod] * difference)

    async def _write_status(
        self, rs: dict[str, Any], pods: list[dict[str, Any]], failure: ApiError | None
    ) -> float | None:
        now = datetime.now(UTC)
        min_ready = int(rs["spec"].get("minReadySeconds") or 0)
        waits = [wait for pod in pods if (wait := available_in(pod, min_ready, now)) is not None]
        wanted_labels = ((rs["spec"]["template"].get("metadata") or {}).get("labels") or {}).items()
        old = rs.get("status") or {}
        status: dict[str, Any] = {
            "replicas": len(pods),
            "fullyLabeledReplicas": sum(
                1 for p in pods if wanted_labels <= (p["metadata"].get("labels") or {}).items()
            ),
            "readyReplicas": sum(1 for pod in pods if is_ready(pod)),
            "availableReplicas": sum(1 for wait in waits if wait == 0),
            "observedGeneration": rs["metadata"].get("generation", 1),
        }
        conditions = _conditions(old, failure, now)
        if conditions:
            status["conditions"] = conditions
        status = {
            key: value for key, value in status.items() if value or key in ("replicas", "observedGeneration")
        }
        if status != old:
            meta = rs["metadata"]
            whole = {**rs, "status": status}
            await self._api.update(RESOURCE, meta["namespace"], meta["name"], whole, subresource="status")
        pending = [wait for wait in waits if wait > 0]
        return min(pending) + 0.01 if pending else None


def _conditions(old: dict[str, Any], failure: ApiError | None, now: datetime) -> list[dict[str, Any]]:
    others = [item for item in old.get("conditions") or () if item["type"] != "ReplicaFailure"]
    before = next((item for item in old.get("conditions") or () if item["type"] == "ReplicaFailure"), None)
    if failure is None:
        return others
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": str(failure),
        "lastTransitionTime": (before or {}).get("lastTransitionTime") or time_text(now),
    }
    return [*others, condition]
