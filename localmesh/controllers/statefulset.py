"""StatefulSets: pods with numbers and names of their own, made and replaced in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.controllers import history, ordinals
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import claim, current
from localmesh.controllers.podcontrol import PodControl, follow_pods
from localmesh.controllers.statuswrite import write_status
from localmesh.events import EventRecorder

RESOURCE: Final = "statefulsets.apps"
KIND: Final = "StatefulSet"


class StatefulSetController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self._pods = PodControl(api, events, "apps/v1", KIND)
        self.loop = ControlLoop("statefulset", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "statefulsets",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, sts: self.loop.add(key_of(sts))),
            ),
            ("pods", lambda: follow_pods(self._api, self.loop, RESOURCE, KIND)),
        )

    async def reconcile(self, key: Key) -> float | None:
        stateful_set = await current(self._api, RESOURCE, *key)
        if stateful_set is None:
            return None
        pods = await claim(
            self._api,
            stateful_set,
            "apps/v1",
            KIND,
            "pods",
            lambda pod: ordinals.ordinal_of(stateful_set, pod) is not None,
        )
        if "deletionTimestamp" in stateful_set["metadata"]:
            return None
        past, collisions = await history.sync(self._api, stateful_set, KIND)
        now = datetime.now(UTC)
        plan = ordinals.plan(stateful_set, pods, past.name, now)
        for pod in plan.failed:
            message = f"StatefulSet {'/'.join(key)} is recreating failed Pod {pod['metadata']['name']}"
            self._events.warning(stateful_set, "RecreatingFailedPod", message)
        await self._pods.delete(stateful_set, plan.delete)
        made = [ordinals.pod_for(stateful_set, ordinal, past) for ordinal in plan.create]
        failure = await self._pods.create_all(stateful_set, made)
        await self._forget(stateful_set, past, pods)
        status = ordinals.status(stateful_set, pods, past, now)
        if collisions:
            status["collisionCount"] = collisions
        await write_status(self._api, RESOURCE, stateful_set, status)
        if failure is not None:
            raise failure
        return ordinals.available_later(stateful_set, pods, now)

    async def _forget(
        self, stateful_set: Mapping[str, Any], past: history.History, pods: Sequence[Mapping[str, Any]]
    ) -> None:
        used = {ordinals.revision_of(pod) for pod in pods}
        used.add(ordinals.current_revision(stateful_set, past))
        limit = stateful_set["spec"].get("revisionHistoryLimit", 10)
        await history.forget(self._api, history.superfluous(past, used, int(limit)))
