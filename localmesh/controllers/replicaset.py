"""ReplicaSets: as many active pods as `spec.replicas` says, and counters that tell the truth."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import (
    claim,
    controller_of,
    current,
    delete_quietly,
    owner_reference,
    selects,
)
from localmesh.controllers.pods import available_in, deletion_rank, is_active, is_ready, time_text
from localmesh.events import EventRecorder

RESOURCE: Final = "replicasets.apps"
BURST: Final = 500
"""Most pods created or deleted in one go (upstream's burst)."""


class ReplicaSetController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self.loop = ControlLoop("replicaset", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "replicasets",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, rs: self.loop.add(key_of(rs))),
            ),
            ("pods", self._follow_pods),
        )

    async def _follow_pods(self) -> None:
        async for kind, pod in self._api.watch("pods"):
            namespace = pod["metadata"].get("namespace") or ""
            owner = controller_of(pod) if "ownerReferences" in pod["metadata"] else None
            if owner is not None and owner.get("kind") == "ReplicaSet":
                self.loop.add((namespace, owner["name"]))
            elif owner is None and kind != "DELETED":
                for rs in await self._api.list(RESOURCE, namespace):  # an orphan somebody may adopt
                    if selects(rs["spec"].get("selector"), pod["metadata"].get("labels")):
                        self.loop.add(key_of(rs))

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
            doomed = sorted(pods, key=deletion_rank)[: min(-difference, BURST)]
            await asyncio.gather(*(self._delete(rs, pod) for pod in doomed))
            return None
        batch, left = 1, min(difference, BURST)
        while left > 0:  # slow start: one refusal must not become five hundred
            count = min(batch, left)
            results = await asyncio.gather(*(self._create(rs) for _ in range(count)))
            failure = next((result for result in results if result is not None), None)
            if failure is not None:
                return failure
            left -= count
            batch *= 2
        return None

    async def _create(self, rs: dict[str, Any]) -> ApiError | None:
        meta, template = rs["metadata"], rs["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "generateName": f"{meta['name']}-",
                "labels": (template.get("metadata") or {}).get("labels") or {},
                "annotations": (template.get("metadata") or {}).get("annotations") or {},
                "ownerReferences": [owner_reference(rs, "apps/v1", "ReplicaSet")],
            },
            "spec": template["spec"],
        }
        try:
            created = await self._api.create("pods", meta["namespace"], pod)
        except ApiError as error:
            self._events.warning(rs, "FailedCreate", f"Error creating: {error}")
            return error
        self._events.normal(rs, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}")
        return None

    async def _delete(self, rs: dict[str, Any], pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        await delete_quietly(self._api, "pods", meta["namespace"], meta["name"], meta["uid"])
        self._events.normal(rs, "SuccessfulDelete", f"Deleted pod: {meta['name']}")

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
