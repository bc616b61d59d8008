"""Jobs: pods that run to their end, tried again within a limit, and removed after a while when asked.

A sidecar does not hold up a job: the mesh's is a native one (an init container with restartPolicy Always),
which the node ends once the pod's own containers have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers import jobwork
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import claim, controller_of, current, delete_quietly
from localmesh.controllers.podcontrol import PodControl, follow_pods
from localmesh.controllers.statuswrite import write_status
from localmesh.events import EventRecorder

RESOURCE: Final = "jobs.batch"
KIND: Final = "Job"


class JobController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self._pods = PodControl(api, events, "batch/v1", KIND)
        self.loop = ControlLoop("job", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            ("jobs", lambda: feed(self._api.watch(RESOURCE), lambda _kind, job: self.loop.add(key_of(job)))),
            ("pods", lambda: follow_pods(self._api, self.loop, RESOURCE, KIND)),
        )

    async def reconcile(self, key: Key) -> float | None:
        job = await current(self._api, RESOURCE, *key)
        if job is None or "deletionTimestamp" in job["metadata"]:
            return None
        if job["spec"].get("managedBy") not in (None, jobwork.OURS):
            return None
        now = datetime.now(UTC)
        if jobwork.end_of(job) is not None:
            return await self._expire(job, now)
        pods = await claim(self._api, job, "batch/v1", KIND, "pods")
        step = jobwork.work(job, pods, now)
        await write_status(self._api, RESOURCE, job, step.status)
        for kind, reason, message in step.events:
            (self._events.normal if kind == "Normal" else self._events.warning)(job, reason, message)
        await asyncio.gather(*(untrack(self._api, pod) for pod in [*step.untrack, *step.drop]))
        await self._pods.delete(job, [*step.drop, *step.kill])
        failure = await self._pods.create_all(job, [jobwork.pod_for(job, index) for index in step.create])
        if failure is not None:
            raise failure
        return step.after

    async def _expire(self, job: Mapping[str, Any], now: datetime) -> float | None:
        left = jobwork.expires_in(job, now)
        if left != 0:
            return left
        meta = job["metadata"]
        await delete_quietly(self._api, RESOURCE, meta["namespace"], meta["name"], meta["uid"], "Foreground")
        return None


class TrackedPodController:
    """Frees pods of the job finalizer when no job counts them any more: it is gone, or gave them up."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.loop = ControlLoop("tracked pods", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            ("pods", lambda: feed(self._api.watch("pods"), self._on_pod)),
            ("jobs", self._follow_jobs),
        )

    def _on_pod(self, kind: str, pod: dict[str, Any]) -> None:
        if kind != "DELETED" and jobwork.is_tracked(pod):
            self.loop.add(key_of(pod))

    async def _follow_jobs(self) -> None:
        async for kind, job in self._api.watch(RESOURCE):
            if kind != "DELETED" and "deletionTimestamp" not in job["metadata"]:
                continue
            for pod in await self._api.list("pods", job["metadata"]["namespace"]):
                if (controller_of(pod) or {}).get("uid") == job["metadata"]["uid"]:
                    self._on_pod("MODIFIED", pod)

    async def reconcile(self, key: Key) -> float | None:
        """`key` is a pod's."""
        pod = await current(self._api, "pods", *key)
        if pod is None or not jobwork.is_tracked(pod):
            return None
        owner = controller_of(pod)
        job = self._api.peek(RESOURCE, key[0], owner["name"]) if owner is not None else None
        counted = (
            job is not None
            and owner is not None
            and job["metadata"]["uid"] == owner["uid"]
            and "deletionTimestamp" not in job["metadata"]
            and jobwork.end_of(job) is None
        )
        if not counted:
            await untrack(self._api, pod)
        return None


async def untrack(api: Api, pod: Mapping[str, Any]) -> None:
    """Take the finalizer off; that the pod is gone is fine, that it changed is tried again."""
    if not jobwork.is_tracked(pod):
        return
    meta = pod["metadata"]
    finalizers = [name for name in meta.get("finalizers") or () if name != jobwork.TRACKING]
    patch = {
        "metadata": {
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
            "finalizers": finalizers or None,
        }
    }
    try:
        await api.patch("pods", meta["namespace"], meta["name"], patch)
    except ApiError as error:
        if error.code != 404:
            raise
