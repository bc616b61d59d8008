"""The kubelet of the only node: binds pods, runs them, keeps the Node object and the service table.

Level-driven: whatever the watch says about a pod is compared with the runner there is. The agent owns the
network driver's life between `start` and `stop`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
from collections.abc import AsyncIterator
from typing import Any, Final

from localmesh.apiserver.errors import ApiError
from localmesh.images import (
    EXTENSION_CONFIG_MAP,
    EXTENSION_NAMESPACE,
    Image,
    ImageTable,
    ImageTableError,
    read_extensions,
)
from localmesh.node.container import ContainerRunner, log_path, read_object
from localmesh.node.context import NODE_NAME, NodeContext
from localmesh.node.logs import read_log
from localmesh.node.network import Attachment, NetworkError
from localmesh.node.pod import PodRunner
from localmesh.node.services import service_table
from localmesh.node.statuses import now_text
from localmesh.placement import refusal
from localmesh.streams.contract import LogOptions, Place
from localmesh.tasks import TaskGroup, keep_running

_log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 10.0
SETTLE_S: Final = 0.01
"""Pause that gathers a burst of service and endpoint changes into one rule set."""
TERMINAL: Final = frozenset({"Succeeded", "Failed"})
LEASE_NAMESPACE: Final = "kube-node-lease"


class NodeAgent:
    def __init__(self, context: NodeContext, images: tuple[Image, ...] = ()) -> None:
        self.context = context
        self._given_images = images
        self._scheduler = context.events.named("default-scheduler")
        self._runners: dict[str, PodRunner] = {}
        self._tasks = TaskGroup("node")
        self._services_changed = asyncio.Event()
        self._services: dict[str, dict[tuple[str, str], dict[str, Any]]] = {"services": {}, SLICES: {}}
        self._stopping = False

    async def start(self) -> None:
        """Register the node and begin to run pods. Leftovers of earlier pods are removed."""
        self.context.replace_images(ImageTable(self._given_images))
        await self._register()
        await asyncio.to_thread(self._drop_old_dirs, {pod["metadata"]["uid"] for pod in await self._pods()})
        loops = {
            "pods": self._follow_pods,
            "node": self._follow_node,
            "images": self._follow_images,
            "services": lambda: self._follow_services("services"),
            "slices": lambda: self._follow_services(SLICES),
            "publish": self._publish,
            "heartbeat": self._heartbeat,
        }
        for name, work in loops.items():
            self._tasks.start(name, keep_running(name, work))

    async def stop(self, grace_s: float) -> None:
        """End all processes; the objects stay as they are, to be run again by the next start."""
        self._stopping = True
        await self._tasks.stop()
        runners = list(self._runners.values())
        await asyncio.gather(*(runner.halt(grace_s) for runner in runners), return_exceptions=False)

    async def _pods(self) -> list[dict[str, Any]]:
        return await self.context.api.list("pods")

    def _drop_old_dirs(self, known: set[str]) -> None:
        for entry in self.context.pods_dir.iterdir():
            if entry.name not in known:
                shutil.rmtree(entry, ignore_errors=True)

    # --- pods ----------------------------------------------------------------------------------------

    async def _follow_pods(self) -> None:
        async for kind, pod in self.context.api.watch("pods"):
            try:
                await self._on_pod(kind, pod)
            except ApiError as error:
                _log.warning("pod %s: %s", pod["metadata"]["name"], error)

    async def _on_pod(self, kind: str, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        runner = self._runners.get(uid)
        if runner is not None and runner.done.is_set():
            del self._runners[uid]
            runner = None
        if kind == "DELETED":
            await self._on_gone(uid, runner)
            return
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        if not spec.get("nodeName"):
            await self._bind(pod)
        elif spec["nodeName"] != NODE_NAME:
            return
        elif runner is not None:
            runner.update(pod)
        elif "deletionTimestamp" in pod["metadata"]:
            await self._delete_unstarted(pod)
        elif status.get("phase") not in TERMINAL:
            runner = self._runners[uid] = PodRunner(self.context, pod)
            runner.start()

    async def _on_gone(self, uid: str, runner: PodRunner | None) -> None:
        """The object is gone (its end was waited for, or it was deleted by force)."""
        if runner is None:
            await asyncio.to_thread(shutil.rmtree, self.context.pod_dir(uid), ignore_errors=True)
            return
        runner.terminate(0)
        self._tasks.start(f"forget {uid}", self._forget(uid, runner))

    async def _forget(self, uid: str, runner: PodRunner) -> None:
        await runner.done.wait()
        self._runners.pop(uid, None)

    async def _delete_unstarted(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        try:
            await self.context.api.delete(
                "pods", meta["namespace"], meta["name"], grace_seconds=0, uid=meta["uid"]
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _bind(self, pod: dict[str, Any]) -> None:
        """The scheduler: one node, and it takes everything it is not told to keep away from."""
        meta = pod["metadata"]
        if "deletionTimestamp" in meta or pod["spec"].get("schedulingGates"):
            return
        node = self.context.api.peek("nodes", None, NODE_NAME) or {"metadata": {"name": NODE_NAME}}
        why = refusal(pod["spec"], node)
        if why:
            hint = f" (kubectl uncordon {NODE_NAME})" if why.endswith("unschedulable") else ""
            await self._leave_unbound(pod, f"0/1 nodes are available: 1 node(s) {why}{hint}.")
            return
        condition = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": now_text(),
        }
        try:
            await self.context.api.patch(
                "pods",
                meta["namespace"],
                meta["name"],
                {"metadata": {"uid": meta["uid"]}, "spec": {"nodeName": NODE_NAME}},
            )
            await self.context.api.patch(
                "pods",
                meta["namespace"],
                meta["name"],
                {"status": {"conditions": [condition]}},
                subresource="status",
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return
        message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {NODE_NAME}"
        self._scheduler.normal(pod, "Scheduled", message)

    async def _leave_unbound(self, pod: dict[str, Any], message: str) -> None:
        """Say once why the pod cannot be placed; it is looked at again when the node changes."""
        meta = pod["metadata"]
        known = (pod.get("status") or {}).get("conditions") or ()
        if any(one["type"] == "PodScheduled" and one.get("message") == message for one in known):
            return
        self._scheduler.warning(pod, "FailedScheduling", message)
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": None,
            "lastTransitionTime": now_text(),
        }
        change = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [condition]}}
        try:
            await self.context.api.patch(
                "pods", meta["namespace"], meta["name"], change, subresource="status"
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def _follow_node(self) -> None:
        """A pod that found no place may find one when the node's labels, taints or cordon change."""
        seen: Any = None
        async for _kind, node in self.context.api.watch("nodes"):
            matters = (node["metadata"].get("labels"), node.get("spec"))
            if node["metadata"]["name"] != NODE_NAME or matters == seen:
                continue
            seen = matters
            for pod in await self._pods():
                if not pod["spec"].get("nodeName"):
                    await self._bind(pod)

    # --- images --------------------------------------------------------------------------------------

    async def _follow_images(self) -> None:
        async for kind, found in self.context.api.watch("configmaps", EXTENSION_NAMESPACE):
            if found["metadata"]["name"] != EXTENSION_CONFIG_MAP:
                continue
            data = {} if kind == "DELETED" else found.get("data") or {}
            try:
                extra = read_extensions(data)
            except ImageTableError as error:
                self.context.events.warning(found, "InvalidImageTable", f"{error}; the previous table stays")
                continue
            self.context.replace_images(ImageTable((*self._given_images, *extra)))

    # --- services ------------------------------------------------------------------------------------

    async def _follow_services(self, resource: str) -> None:
        known = self._services[resource]
        known.clear()
        async for kind, found in self.context.api.watch(resource):
            key = (found["metadata"]["namespace"], found["metadata"]["name"])
            if kind == "DELETED":
                known.pop(key, None)
            else:
                known[key] = found
            self._services_changed.set()

    async def _publish(self) -> None:
        while True:
            await self._services_changed.wait()
            await asyncio.sleep(SETTLE_S)
            self._services_changed.clear()
            table = service_table(
                list(self._services["services"].values()), list(self._services[SLICES].values())
            )
            try:
                await self.context.network.publish(table)
            except NetworkError:
                self._services_changed.set()
                raise

    # --- the Node object -----------------------------------------------------------------------------

    async def _register(self) -> None:
        api = self.context.api
        if api.peek("nodes", None, NODE_NAME) is None:
            labels = {
                "kubernetes.io/hostname": NODE_NAME,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": _arch(),
                "node-role.kubernetes.io/control-plane": "",
            }
            node = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": NODE_NAME, "labels": labels},
                "spec": {},
            }
            await api.create("nodes", None, node)
        status = {"status": self._node_status()}
        await api.patch("nodes", None, NODE_NAME, status, subresource="status")

    def _node_status(self) -> dict[str, Any]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        size = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": "250"}
        now = now_text()

        def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
            return {
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            }  # fmt: skip

        return {
            "capacity": size,
            "allocatable": size,
            "conditions": [
                condition(
                    "MemoryPressure", "False", "KubeletHasSufficientMemory", "not measured by localmesh"
                ),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "not measured by localmesh"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "not measured by localmesh"),
                condition("Ready", "True", "KubeletReady", "localmesh runs pods as local processes"),
            ],
            "addresses": [
                {"type": "InternalIP", "address": self.context.network.plan.node_address},
                {"type": "Hostname", "address": NODE_NAME},
            ],
            "nodeInfo": {
                "architecture": _arch(),
                "bootID": "",
                "containerRuntimeVersion": "process://0.1.0",
                "kernelVersion": platform.release(),
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.36.0+smi-mesh-embedded",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "localmesh (no images: local commands)",
                "systemUUID": "",
            },
        }

    async def _heartbeat(self) -> None:
        """The lease says the node lives; the Node object itself stays quiet."""
        api = self.context.api
        while True:
            moment = now_text().replace("Z", ".000000Z")
            spec = {"holderIdentity": NODE_NAME, "leaseDurationSeconds": 40, "renewTime": moment}
            try:
                await api.patch("leases.coordination.k8s.io", LEASE_NAMESPACE, NODE_NAME, {"spec": spec})
            except ApiError as error:
                if error.code != 404:
                    raise
                lease = {"metadata": {"name": NODE_NAME, "namespace": LEASE_NAMESPACE}, "spec": spec}
                await api.create("leases.coordination.k8s.io", LEASE_NAMESPACE, lease)
            await asyncio.sleep(HEARTBEAT_S)

    # --- logs and exec for the API server ---------------------------------------------------------------

    async def logs(self, place: Place, options: LogOptions) -> AsyncIterator[bytes]:
        """Log of a container (hook of the /log subresource). Raises ApiError 400/404 as the kubelet does."""
        container = place.container
        found = await self.context.api.get("pods", place.namespace, place.pod)
        runner = self._runners.get(found["metadata"]["uid"])
        number = _run_number(found, runner, container) - (1 if options.previous else 0)
        path = log_path(self.context.pod_dir(found["metadata"]["uid"]), container, number)
        if not path.exists():
            raise ApiError(400, "BadRequest", _no_log(found, container, options.previous))
        known = _container(runner, container)
        over = asyncio.Event()
        if known is not None:
            over = known.log_ended(number)
        else:
            over.set()
        return read_log(path, over, options)

    def _runner_of(self, namespace: str, pod: str) -> PodRunner | None:
        for runner in self._runners.values():
            meta = runner.pod["metadata"]
            if (meta["namespace"], meta["name"]) == (namespace, pod) and not runner.done.is_set():
                return runner
        return None

    def container(self, place: Place) -> ContainerRunner | None:
        """A container of a pod of this node, whether it runs just now or not."""
        return _container(self._runner_of(place.namespace, place.pod), place.container)

    def attachment(self, namespace: str, pod: str) -> Attachment | None:
        """The network of a pod of this node."""
        runner = self._runner_of(namespace, pod)
        return runner.attachment if runner is not None else None

    async def object(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        return await read_object(self.context, resource, namespace, name)

    def limits(self) -> list[str]:
        general = [
            (
                "Containers are local processes that share this machine's CPU, memory and process table; "
                "resource limits are not enforced, and a container that runs as root is root on this machine."
            ),
            "gRPC probes only check that the port accepts a connection.",
            "NetworkPolicy, PersistentVolumes and ResourceQuotas are stored but have no effect.",
        ]
        return [*self.context.network.limits(), *general, *sorted(self.context.noted)]


SLICES: Final = "endpointslices.discovery.k8s.io"


def _arch() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _container(runner: PodRunner | None, name: str) -> ContainerRunner | None:
    if runner is None:
        return None
    return next((item for item in [*runner.main, *runner.init] if item.name == name), None)


def _run_number(pod: dict[str, Any], runner: PodRunner | None, name: str) -> int:
    found = _container(runner, name)
    if found is not None:
        return found.state.restarts
    status = pod.get("status") or {}
    for state in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        if state.get("name") == name:
            return int(state.get("restartCount") or 0)
    spec = pod["spec"]
    if any(item["name"] == name for item in [*spec["containers"], *(spec.get("initContainers") or ())]):
        return 0
    message = f"container {name} is not valid for pod {pod['metadata']['name']}"
    raise ApiError(400, "BadRequest", message)


def _no_log(pod: dict[str, Any], name: str, previous: bool) -> str:
    where = f'container "{name}" in pod "{pod["metadata"]["name"]}"'
    if previous:
        return f"previous terminated {where} not found"
    status = pod.get("status") or {}
    for state in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
        if state.get("name") == name and "waiting" in (state.get("state") or {}):
            return (
                f"{where} is waiting to start: {state['state']['waiting'].get('reason', 'ContainerCreating')}"
            )
    return f"{where} is waiting to start: ContainerCreating"
