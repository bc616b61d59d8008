"""One pod: its sandbox, the order of its containers, its status, its end.

`PodRunner.run` is the whole life; `terminate` ends it early. Containers report through `changed`, and a
writer task of the pod's own brings the newest status to the API, never an intermediate one twice.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from typing import Any, Final

from localmesh.apiserver.errors import ApiError
from localmesh.node.container import ContainerRunner, read_object
from localmesh.node.context import NodeContext
from localmesh.node.environment import ConfigError
from localmesh.node.network import Attachment, NetworkError
from localmesh.node.statuses import ContainerState, PodFacts, now_text, pod_status
from localmesh.node.volumes import VolumeSet
from localmesh.tasks import TaskGroup

_log = logging.getLogger(__name__)

MIN_GRACE_S: Final = 0.0


class PodRunner:
    def __init__(self, context: NodeContext, pod: dict[str, Any]) -> None:
        self.context = context
        self.uid: str = pod["metadata"]["uid"]
        self.attachment = Attachment("")
        self.done = asyncio.Event()
        """Everything of the pod on this node is gone."""
        self._pod = pod
        self._namespace: str = pod["metadata"]["namespace"]
        self._name: str = pod["metadata"]["name"]
        self.volumes = VolumeSet(
            context.pod_dir(self.uid) / "volumes", pod, self._lookup, self._issue_token, context.ca_bundle
        )
        spec = pod["spec"]
        self.init = [self._container(item, init=True) for item in spec.get("initContainers") or ()]
        self.main = [self._container(item, init=False) for item in spec["containers"]]
        self._initialised = False
        self._finished = False
        self._failed: tuple[str, str] = ("", "")
        self._start_time = (pod.get("status") or {}).get("startTime") or now_text()
        self._tasks = TaskGroup(f"pod {self._namespace}/{self._name}")
        self._life: asyncio.Task[Any] | None = None
        self._ending: asyncio.Task[Any] | None = None
        self._dirty = asyncio.Event()
        self._written: dict[str, Any] = pod.get("status") or {}

    # --- the view containers have --------------------------------------------------------------------

    @property
    def pod(self) -> dict[str, Any]:
        return self._pod

    def changed(self) -> None:
        self._dirty.set()

    async def _lookup(self, resource: str, name: str) -> Mapping[str, Any] | None:
        return await read_object(self.context, resource, self._namespace, name)

    async def _issue_token(self, audience: str, seconds: int) -> str:
        account = self._pod["spec"].get("serviceAccountName") or "default"
        return await self.context.issue_token(
            self._namespace, account, audience, seconds, (self._name, self.uid)
        )

    def _container(self, spec: Mapping[str, Any], *, init: bool) -> ContainerRunner:
        always = init and spec.get("restartPolicy") == "Always"
        state = ContainerState(name=spec["name"], image=spec["image"], always=always)
        if not init and not self._pod["spec"].get("initContainers"):
            state.state = {"waiting": {"reason": "ContainerCreating"}}
        self._take_over(state, "initContainerStatuses" if init else "containerStatuses")
        return ContainerRunner(self, spec, state, init=init)

    def _take_over(self, state: ContainerState, key: str) -> None:
        """After a restart of the node: what ran before ended with it and counts as one restart."""
        for old in (self._pod.get("status") or {}).get(key) or ():
            if old.get("name") != state.name:
                continue
            state.restarts = int(old.get("restartCount") or 0)
            state.last = dict(old.get("lastState") or {})
            if "running" in (old.get("state") or {}):
                began = old["state"]["running"].get("startedAt")
                ended = {
                    "exitCode": 137,
                    "reason": "NodeRestart",
                    "startedAt": began,
                    "finishedAt": now_text(),
                }
                state.last = {"terminated": ended}
                state.restarts += 1

    # --- life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._tasks.start("status", self._write_statuses())
        if self._written.get("phase") == "Running":
            self.changed()  # it ran before the node restarted: say at once that it is not ready now
        self._life = self._tasks.start("life", self._live())

    def update(self, pod: dict[str, Any]) -> None:
        """Take a newer version of the object (labels, annotations, deletion)."""
        self._adopt(pod)
        if "deletionTimestamp" in pod["metadata"]:
            self.terminate(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
        else:
            self.changed()  # readiness gates live in the status

    def _adopt(self, pod: dict[str, Any]) -> None:
        """Make `pod` the current version; its addresses are known here before the API has them."""
        if self.attachment.address:
            addresses = {"podIP": self.attachment.address, "hostIP": self.context.network.plan.node_address}
            pod["status"] = (pod.get("status") or {}) | addresses
        self._pod = self.volumes.pod = pod

    async def _live(self) -> None:
        await self._make_sandbox()
        self._tasks.start("volumes", self._refresh_volumes())
        self.changed()
        if not await self._initialise():
            return
        self._initialised = True
        self.changed()
        policy = self._pod["spec"].get("restartPolicy") or "Always"
        await asyncio.gather(*(container.keep(_restarter(policy)) for container in self.main))
        await self._finish()

    async def _make_sandbox(self) -> None:
        events = self.context.events
        while not self.attachment.address:
            try:
                self.attachment = await self._attach()
            except NetworkError as error:
                events.warning(self._pod, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
                await asyncio.sleep(self.context.retry_seconds)
        self._adopt(self._pod)
        while True:
            try:
                await self.volumes.prepare()
            except (ConfigError, ApiError) as error:
                events.warning(self._pod, "FailedMount", f"MountVolume.SetUp failed: {error}")
                await asyncio.sleep(self.context.retry_seconds)
            else:
                return

    async def _attach(self) -> Attachment:
        network = self.context.network
        if self._pod["spec"].get("hostNetwork"):
            return Attachment(network.plan.api_address)
        return await network.attach(self._pod)

    async def _refresh_volumes(self) -> None:
        while True:
            await asyncio.sleep(self.context.refresh_seconds)
            try:
                await self.volumes.prepare()
            except (ConfigError, ApiError) as error:  # the last good content stays in place
                self.context.events.warning(self._pod, "FailedMount", f"Volume refresh failed: {error}")

    async def _initialise(self) -> bool:
        """Init containers in order; False when one failed for good."""
        policy = self._pod["spec"].get("restartPolicy") or "Always"
        for container in self.init:
            if container.state.always:
                self._tasks.start(container.name, container.keep(lambda _code: True))
                await container.started.wait()
                continue
            code = await container.keep(_restarter("OnFailure" if policy == "Always" else policy))
            if code != 0:
                self._failed = ("Error", f"init container {container.name!r} exited with {code}")
                await self._finish()
                return False
        for container in self.main:
            if "waiting" in container.state.state:
                container.state.state = {"waiting": {"reason": "ContainerCreating"}}
        return True

    async def _finish(self) -> None:
        """All containers are through: the sidecars go, the pod stays as a record."""
        grace = float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        await self._stop_sidecars(grace)
        self._finished = True
        self.changed()
        await self.context.network.detach(self.uid)

    async def _stop_sidecars(self, grace: float) -> None:
        deadline = asyncio.get_running_loop().time() + grace
        for container in reversed([item for item in self.init if item.state.always]):
            await self._tasks_stopped(container.name)
            await container.stop(max(deadline - asyncio.get_running_loop().time(), MIN_GRACE_S))

    async def _tasks_stopped(self, name: str) -> None:
        """Make sure nobody restarts the container any more."""
        await self._tasks.stop_one(name)

    # --- end -----------------------------------------------------------------------------------------

    def terminate(self, grace: float) -> None:
        """End the pod because its object is being deleted. Again with a shorter grace: hurry up."""
        if self._ending is None:
            ending = TaskGroup(f"end of {self._namespace}/{self._name}")
            self._ending = ending.start("terminate", self._terminate(grace, delete=True))
        elif grace <= 0:
            for container in [*self.main, *self.init]:
                container.kill()

    async def halt(self, grace: float) -> None:
        """The node stops: end the processes, leave the object alone."""
        if self._ending is None:
            await self._terminate(grace, delete=False)
        else:
            await self.done.wait()

    async def _terminate(self, grace: float, *, delete: bool) -> None:
        begun = asyncio.get_running_loop().time()
        if not delete:  # the last word stays "running", so that the next start takes it up again
            await self._tasks.stop_one("status")
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        plain = [item for item in self.init if not item.state.always]
        # A node that stops takes its whole cluster along: nobody is left to prepare for it.
        await asyncio.gather(*(item.stop(grace, hooks=delete) for item in [*self.main, *plain]))
        await self._stop_sidecars(max(grace - (asyncio.get_running_loop().time() - begun), MIN_GRACE_S))
        self._finished = True
        await self._tasks.stop()
        if delete:
            await self._write_last()
        await self.context.network.detach(self.uid)
        if delete:  # the object goes last: when it is gone, so is everything of the pod
            await asyncio.to_thread(shutil.rmtree, self.context.pod_dir(self.uid), ignore_errors=True)
            await self._delete()
        self.done.set()

    async def _write_last(self) -> None:
        try:
            await self._write()
        except ApiError as error:
            _log.debug("last status of %s/%s not written: %s", self._namespace, self._name, error)

    async def _delete(self) -> None:
        try:
            await self.context.api.delete("pods", self._namespace, self._name, grace_seconds=0, uid=self.uid)
        except ApiError as error:
            if error.code not in (404, 409):  # gone already, or another pod of that name
                raise

    # --- status --------------------------------------------------------------------------------------

    def _facts(self) -> PodFacts:
        spec = self._pod["spec"]
        reason, message = self._failed
        return PodFacts(
            restart_policy=spec.get("restartPolicy") or "Always",
            initialised=self._initialised,
            finished=self._finished,
            terminating="deletionTimestamp" in self._pod["metadata"],
            readiness_gates=tuple(gate["conditionType"] for gate in spec.get("readinessGates") or ()),
            pod_ip=self.attachment.address,
            host_ip=self.context.network.plan.node_address if self.attachment.address else "",
            start_time=self._start_time,
            failed_reason=reason,
            failed_message=message,
        )

    async def _write_statuses(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._write()
            except ApiError as error:
                if error.code == 404:
                    return
                _log.warning("status of %s/%s not written: %s", self._namespace, self._name, error)
                await asyncio.sleep(self.context.retry_seconds)
                self._dirty.set()

    async def _write(self) -> None:
        init = [container.state for container in self.init]
        main = [container.state for container in self.main]
        status = pod_status(self._facts(), init, main, self._known_conditions(), now_text())
        if status == self._written:
            return
        patch = {"metadata": {"uid": self.uid}, "status": status}
        await self.context.api.patch("pods", self._namespace, self._name, patch, subresource="status")
        self._written = status

    def _known_conditions(self) -> dict[str, Any]:
        """Other people's conditions (readiness gates) from the object, our own from what we wrote last."""
        seen = (self._pod.get("status") or {}).get("conditions") or ()
        foreign = [item for item in seen if item["type"] not in OWN_CONDITIONS]
        ours = [item for item in self._written.get("conditions") or () if item["type"] in OWN_CONDITIONS]
        return {"conditions": [*ours, *foreign]}


OWN_CONDITIONS: Final = frozenset(
    {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}
)


def _restarter(policy: str) -> Any:
    """`again(exit code)` of a restartPolicy."""
    if policy == "Always":
        return lambda _code: True
    if policy == "OnFailure":
        return lambda code: code != 0
    return lambda _code: False
