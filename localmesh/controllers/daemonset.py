"""DaemonSets: a pod on every node that fits, replaced node by node when the template changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.controllers import daemons, history
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import claim, current
from localmesh.controllers.podcontrol import PodControl, follow_pods
from localmesh.controllers.statuswrite import write_status
from localmesh.events import EventRecorder

RESOURCE: Final = "daemonsets.apps"
KIND: Final = "DaemonSet"


class DaemonSetController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self._pods = PodControl(api, events, "apps/v1", KIND)
        self.loop = ControlLoop("daemonset", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "daemonsets",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, ds: self.loop.add(key_of(ds))),
            ),
            ("pods", lambda: follow_pods(self._api, self.loop, RESOURCE, KIND)),
            ("nodes", self._follow_nodes),
        )

    async def _follow_nodes(self) -> None:
        seen: dict[str, Any] = {}
        async for kind, node in self._api.watch("nodes"):
            name = node["metadata"]["name"]
            matters = None if kind == "DELETED" else (node["metadata"].get("labels"), node.get("spec"))
            if seen.get(name) == matters:
                continue  # a heartbeat
            seen[name] = matters
            for daemon_set in await self._api.list(RESOURCE):
                self.loop.add(key_of(daemon_set))

    async def reconcile(self, key: Key) -> float | None:
        daemon_set = await current(self._api, RESOURCE, *key)
        if daemon_set is None:
            return None
        pods = await claim(self._api, daemon_set, "apps/v1", KIND, "pods")
        if "deletionTimestamp" in daemon_set["metadata"]:
            return None
        nodes = await self._api.list("nodes")
        past, collisions = await history.sync(self._api, daemon_set, KIND)
        digest, now = history.hash_of(past.newest), datetime.now(UTC)
        plan = daemons.plan(daemon_set, nodes, pods, digest, now)
        for pod in plan.failed:
            self._tell_failed(daemon_set, pod)
        await self._pods.delete(daemon_set, plan.delete)
        made = [daemons.pod_for(daemon_set, node, digest) for node in plan.create]
        failure = await self._pods.create_all(daemon_set, made)
        await self._forget(daemon_set, past, pods)
        status = daemons.status(daemon_set, nodes, pods, digest, now)
        if collisions:
            status["collisionCount"] = collisions
        await write_status(self._api, RESOURCE, daemon_set, status)
        if failure is not None:
            raise failure
        return daemons.available_later(daemon_set, pods, now)

    def _tell_failed(self, daemon_set: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
        name, node = pod["metadata"]["name"], daemons.node_of(pod)
        if (pod.get("status") or {}).get("phase") == "Failed":
            message = f"Found failed daemon pod {name} on node {node}, will try to kill it"
            self._events.warning(daemon_set, "FailedDaemonPod", message)
        else:
            message = f"Found succeeded daemon pod {name} on node {node}, will try to delete it"
            self._events.normal(daemon_set, "SucceededDaemonPod", message)

    async def _forget(
        self, daemon_set: Mapping[str, Any], past: history.History, pods: Sequence[Mapping[str, Any]]
    ) -> None:
        digests = {(pod["metadata"].get("labels") or {}).get(history.HASH_LABEL) for pod in pods}
        used = {one["metadata"]["name"] for one in past.revisions if history.hash_of(one) in digests}
        limit = daemon_set["spec"].get("revisionHistoryLimit", 10)
        await history.forget(self._api, history.superfluous(past, used, int(limit)))
