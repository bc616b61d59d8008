"""A site: two prepared namespaces with the standing workloads, lent to one case after another.

Pods are what costs, so a site outlives a case; a case never shares it. After each case everything it made is
deleted and the mesh's word is awaited that it knows (`settle`). A site that cannot be brought back
to its first state is thrown away.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from conformance.driver import DriverError, Object
from conformance.drivers import world
from conformance.drivers.kinds import Kinds
from conformance.drivers.reach import Place, Reach
from conformance.kube import MERGE_PATCH, Kube, KubeError

READY_SECONDS: Final = 90.0
GONE_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 20.0
PROBE_SECONDS: Final = 2.0
PAUSE: Final = 0.03

Access = Literal["open", "closed"]


class SettleError(DriverError):
    """The mesh did not take up a change of the marker in time."""


class Site:
    """Two namespaces of one worker."""

    def __init__(self, kube: Kube, reach: Reach, kinds: Kinds, plan: world.Plan, number: int) -> None:
        self.kube = kube
        self.reach = reach
        self.kinds = kinds
        self.plan = plan
        self.name = f"smi-conformance-{plan.run}-{number}"
        self.second = f"{self.name}-b"
        self.access: Access = "closed"
        self._places: dict[tuple[str, str], Place] = {}
        self._turns = itertools.count(1)
        self._backends = itertools.cycle(world.SERVERS[:2])
        self._marks: dict[str, list[Object]] = {}

    @property
    def standing_grants(self) -> bool:
        """Whether the standing TrafficTargets are in force now."""
        return self.access == "open" and self.plan.profile.standing_grants

    # -- coming and going --------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Create the namespaces and workloads and wait until they are ready; raises DriverError."""
        try:
            for name in (self.name, self.second):
                await self.kube.apply(world.namespace(self.plan, name))
            first, other = world.standing(self.plan), world.standing_second(self.plan)
            await self._apply_all(first, self.name)
            await self._apply_all(other, self.second)
            names = [(obj["metadata"]["name"], self.name) for obj in first if obj["kind"] == "Deployment"]
            names += [(obj["metadata"]["name"], self.second) for obj in other if obj["kind"] == "Deployment"]
            async with asyncio.TaskGroup() as group:
                for name, namespace in names:
                    group.create_task(self._wait_standing(name, namespace))
        except* (DriverError, KubeError) as errors:
            raise DriverError(f"{self.name}: {_first(errors)}") from None

    async def _apply_all(self, objects: Iterable[Object], namespace: str) -> None:
        for obj in objects:
            await self.kube.apply(obj, namespace)

    async def _wait_standing(self, name: str, namespace: str) -> None:
        await self.wait_pods(name, 1, namespace)
        self._places[name, namespace] = await self.place(name, namespace)

    async def demolish(self, *, wait: bool = True) -> None:
        """Delete both namespaces, and wait until they are gone."""
        paths = [f"/api/v1/namespaces/{name}" for name in (self.name, self.second)]
        await self.remove(paths, wait=wait)

    async def remove(self, paths: Iterable[str], *, wait: bool = True) -> None:
        """Delete objects by path and wait until they are gone; those that are not there are fine."""
        listed = list(paths)
        try:
            await asyncio.gather(*(self._delete(path) for path in listed))
            if wait:
                await asyncio.gather(*(self._gone(path) for path in listed))
        except (KubeError, TimeoutError) as error:
            raise DriverError(f"{self.name}: {error}") from None

    async def _delete(self, path: str) -> None:
        try:
            await self.kube.request("DELETE", path)
        except KubeError as error:
            if error.status != 404:
                raise

    async def _gone(self, path: str) -> None:
        if await self.kube.find(path) is not None:
            await self.kube.wait_gone(path, GONE_SECONDS)

    async def restore_namespace(self, path: str, before: Mapping[str, Any]) -> None:
        """Give a namespace its labels and annotations back."""
        now = await self.kube.find(path) or {}
        change = {}
        for part in ("labels", "annotations"):
            old, new = before.get(part) or {}, now.get("metadata", {}).get(part) or {}
            change[part] = {**dict.fromkeys(new.keys() - old.keys()), **old}
        await self.kube.request("PATCH", path, body={"metadata": change}, content_type=MERGE_PATCH)

    # -- pods --------------------------------------------------------------------------------------

    async def _pods(self, app: str, namespace: str) -> list[Object]:
        return await self.kube.objects("v1", "Pod", namespace, f"app={app}")

    async def wait_pods(self, app: str, count: int, namespace: str) -> None:
        """Wait until exactly `count` pods of a workload exist and all are ready; raises DriverError."""
        pods: list[Object] = []
        try:
            async with asyncio.timeout(READY_SECONDS):
                while True:
                    pods = await self._pods(app, namespace)
                    if len(pods) == count and all(_ready(pod) for pod in pods):
                        return
                    await asyncio.sleep(0.15)
        except TimeoutError:
            states = "; ".join(_state(pod) for pod in pods) or "no pod"
            text = f"{namespace}: {app} is not ready after {READY_SECONDS:g} s: {states}"
            raise DriverError(text) from None

    async def place(self, app: str, namespace: str | None = None) -> Place:
        """A ready pod of a workload; `visitor` lives in the second namespace."""
        where = namespace or (self.second if app == "visitor" else self.name)
        known = self._places.get((app, where))
        if known is not None:
            return known
        for pod in await self._pods(app, where):
            if _ready(pod):
                return Place(where, pod["metadata"]["name"], pod["status"]["podIP"])
        raise DriverError(f"{where}: no pod of {app} is ready")

    async def order(self, app: str, path: str, order: Mapping[str, Any]) -> Any:
        """Give the application of a pod an order, and return its report."""
        rounds = -(-int(order.get("count", 1)) // int(order.get("concurrency", 1)))
        seconds = min(120.0, float(order["timeout"]) * rounds)
        return await self.reach.ask(await self.place(app), path, order, seconds)

    # -- what the mesh knows -----------------------------------------------------------------------

    async def become(self, access: Access) -> None:
        """Put the standing grants in force, or take them away; waits until traffic shows it."""
        if access == self.access:
            return
        grants = world.grants(self.plan, world.SERVERS, self.name, self.second)
        if self.plan.profile.standing_grants:
            if access == "open":
                await self._apply_all(grants, self.name)
            else:
                await self.remove([(await self.kinds.of(obj, self.name))[1] for obj in grants])
        self.access = access
        await self._until(self._grants_show, f"{self.name} becoming {access}")
        await self.settle()
        await self.forget_marks()

    async def _grants_show(self) -> bool:
        if not self.plan.profile.standing_grants:
            return True
        wanted = self.access == "open"
        looks = [
            self._served(caller, f"http://{server}.{self.name}:8080/")
            for caller in (*world.CALLERS, "visitor")
            for server in world.SERVERS
        ]
        return all((server is not None) == wanted for server in await asyncio.gather(*looks))

    async def settle(self) -> None:
        """Change the marker and wait until traffic shows the change; raises SettleError.

        Where everything is served (a namespace in a permissive mode) grants show nothing: there the servers
        themselves must show a change of the marker TrafficSplit.
        """
        if self.access == "open":
            await self._settle_split(world.CALLERS)
            return
        nonce = str(next(self._turns))
        await self._settle_grants(nonce)
        served = await self._among_servers(world.denied_path(nonce))
        if any(all(callers) for callers in served):
            await self._settle_split(world.SERVERS)

    async def _settle_split(self, callers: Iterable[str]) -> None:
        """Move the marker TrafficSplit and wait until all `callers` are sent where it says."""
        backend = next(self._backends)
        await self._mark("split", [world.marker_split(backend)])

        async def shown() -> bool:
            url = f"http://{world.MARKER}:8080/"
            looks = [self._served(caller, url) for caller in callers]
            return all(server == backend for server in await asyncio.gather(*looks))

        await self._until(shown, f"{self.name}: a change of the marker TrafficSplit")

    async def _settle_grants(self, nonce: str) -> None:
        """Let the marker TrafficTargets allow another path and wait until all servers do."""
        await self._mark("grants", world.marker_grants(nonce, self.name))

        async def shown() -> bool:
            return all(all(callers) for callers in await self._among_servers(world.marker_path(nonce)))

        await self._until(shown, f"{self.name}: a change of the marker TrafficTargets")

    async def _among_servers(self, path: str) -> list[list[bool]]:
        """For each server, whether it serves a path to each of the others.

        Servers are the callers here because cases grant nothing to them: what a case grants to `client`
        would be served whether the marker is known or not.
        """

        async def at(server: str) -> list[bool]:
            url = f"http://{server}:8080{path}"
            others = [other for other in world.SERVERS if other != server]
            return [
                found is not None for found in await asyncio.gather(*(self._served(o, url) for o in others))
            ]

        return await asyncio.gather(*(at(server) for server in world.SERVERS))

    async def _mark(self, marker: str, objects: list[Object]) -> None:
        """Create a marker, or change the first of its objects when it is there."""
        try:
            if marker in self._marks:
                await self.kube.apply(objects[0], self.name)
                return
            self._marks[marker] = objects
            await self._apply_all(objects, self.name)
        except KubeError as error:
            raise DriverError(f"{self.name}: the marker was refused: {error.message}") from None

    async def forget_marks(self) -> None:
        """Delete the marker objects."""
        marks = [obj for objects in self._marks.values() for obj in objects]
        self._marks.clear()
        await self.remove([(await self.kinds.of(obj, self.name))[1] for obj in marks])

    async def _served(self, caller: str, url: str) -> str | None:
        order = {"url": url, "timeout": PROBE_SECONDS}
        report = await self.order(caller, "/call", order)
        result = report["results"][0]
        return result["server"] if result["status"] == 200 else None

    async def _until(self, shown: Any, what: str) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                pause = PAUSE
                while not await shown():
                    await asyncio.sleep(pause)
                    pause = min(0.3, pause * 1.5)
        except TimeoutError:
            raise SettleError(f"{what} did not show in traffic within {SETTLE_SECONDS:g} s") from None


def _first(error: BaseException) -> BaseException:
    """The first leaf of what may be a group of groups."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _ready(pod: Object) -> bool:
    status = pod.get("status") or {}
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or []}
    return bool(
        not pod["metadata"].get("deletionTimestamp")
        and conditions.get("Ready") == "True"
        and status.get("podIP")
    )


def _state(pod: Object) -> str:
    status = pod.get("status") or {}
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    reasons = [
        f"{entry['name']}: {next(iter(entry['state'].values())).get('reason') or next(iter(entry['state']))}"
        for entry in containers
        if entry.get("state") and not entry.get("ready")
    ]
    return f"{pod['metadata']['name']} {status.get('phase', '?')} {', '.join(reasons)}".rstrip()
