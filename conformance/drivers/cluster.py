"""The `driver.Mesh` of one case, on any cluster: a site lent to the case, and what the case made in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from conformance.collect import Entry, parse_steps
from conformance.driver import (
    Answer,
    Answers,
    Condition,
    Conversations,
    DriverError,
    Event,
    Heard,
    Http,
    Mesh,
    Object,
    Refusal,
)
from conformance.drivers import world
from conformance.drivers.kinds import is_smi
from conformance.drivers.site import Site
from conformance.expect import ExpectationError
from conformance.kube import MERGE_PATCH, KubeError

T = TypeVar("T")

JSON_PATCH: Final = "application/json-patch+json"
REFUSALS: Final = frozenset({400, 403, 409, 422})
MAX_CONFLICTS: Final = 20
"""How often an object is written anew because somebody else was quicker."""
PAUSE: Final = 0.03
"""Seconds between two looks at something that is awaited; grows to LONG_PAUSE."""
LONG_PAUSE: Final = 0.3


@dataclass(slots=True)
class Traces:
    """What a case left in its site."""

    made: dict[str, Object] = field(default_factory=dict)
    """Objects created, by path, in order."""
    namespaces: dict[str, Object] = field(default_factory=dict)
    """Namespaces changed: path → metadata as it was."""
    spoilt: bool = False
    """A standing object was changed: the site cannot be used again."""


class ClusterMesh(Mesh):
    """One case's view of the cluster. `traces` tells the site what is to be removed."""

    def __init__(self, site: Site, entry: Entry) -> None:
        self._site = site
        self._entry = entry
        self._values: dict[str, object] = {
            "namespace": site.name,
            "second": site.second,
            "image": site.plan.image,
        }
        self.traces = Traces()

    @property
    def namespace(self) -> str:
        return self._site.name

    @property
    def second(self) -> str:
        return self._site.second

    @property
    def step_objects(self) -> Mapping[str, tuple[Object, ...]]:
        return self._steps({})

    def _steps(self, values: Mapping[str, object]) -> Mapping[str, tuple[Object, ...]]:
        return parse_steps(self._entry.manifest, {**self._values, **values}, self._entry.id)

    def _step(self, step: str, values: Mapping[str, object]) -> tuple[Object, ...]:
        objects = self._steps(values).get(step, ())
        if not objects:
            raise DriverError(f"{self._entry.id}: its YAML has no step {step!r}")
        return objects

    # -- objects -----------------------------------------------------------------------------------

    async def apply(self, step: str = "", /, **values: object) -> tuple[Object, ...]:
        return await self.apply_object(*self._step(step, values))

    async def apply_object(self, *objects: Object) -> tuple[Object, ...]:
        return tuple([await self._put(obj) for obj in objects])

    async def _put(self, obj: Object) -> Object:
        try:
            return await self._write(obj)
        except KubeError as error:
            what = f"{obj['kind']} {obj['metadata']['name']}"
            if error.status in REFUSALS or error.status == 404:
                raise ExpectationError(f"{what} was refused: {error.message}") from None
            raise DriverError(f"{what}: {error.message}") from None

    async def _write(self, obj: Object) -> Object:
        """Create the object, or make it what is given; raises KubeError."""
        namespace = obj["metadata"].get("namespace", self.namespace)
        collection, path = await self._site.kinds.of(obj, namespace)
        there = await self._site.kube.find(path)
        if there is None:
            created: Object = await self._site.kube.request("POST", collection, body=obj)
            self.traces.made[path] = created
            return created
        self._note_change(path, there)
        if not is_smi(obj["apiVersion"]):
            merged: Object = await self._site.kube.request("PATCH", path, body=obj, content_type=MERGE_PATCH)
            return merged
        return await self._overwrite(path, obj, there)

    async def _overwrite(self, path: str, obj: Object, there: Object) -> Object:
        """PUT over whatever version is there: the mesh may be writing the status at the same time."""
        for _ in range(MAX_CONFLICTS):
            version = there["metadata"]["resourceVersion"]
            whole = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
            try:
                replaced: Object = await self._site.kube.request("PUT", path, body=whole)
            except KubeError as error:
                if error.status != 409:
                    raise
                there = await self._site.kube.request("GET", path)
            else:
                return replaced
        raise DriverError(f"{path}: somebody else changes it all the time")

    def _note_change(self, path: str, before: Object) -> None:
        if any(same_object(path, made) for made in self.traces.made):
            return
        if before.get("kind") == "Namespace":
            self.traces.namespaces.setdefault(path, before["metadata"])
        else:
            self.traces.spoilt = True

    async def attempt(self, step: str = "", /, **values: object) -> Refusal | None:
        for obj in self._step(step, values):
            refusal = await self.attempt_object(obj)
            if refusal is not None:
                return refusal
        return None

    async def attempt_object(self, obj: Object) -> Refusal | None:
        try:
            await self._write(obj)
        except KubeError as error:
            if error.status in REFUSALS:
                return Refusal(error.status, error.reason, error.message)
            raise DriverError(f"{obj['kind']} {obj['metadata']['name']}: {error.message}") from None
        return None

    async def patch(
        self,
        kind: str,
        name: str,
        change: object,
        *,
        version: str | None = None,
        namespace: str | None = None,
    ) -> Object:
        path = await self._site.kinds.path(kind, name, namespace or self.namespace, version)
        content = JSON_PATCH if isinstance(change, list) else MERGE_PATCH
        before = await self.read(kind, name, version=version, namespace=namespace)
        try:
            patched: Object = await self._site.kube.request("PATCH", path, body=change, content_type=content)
        except KubeError as error:
            raise _verdict(f"patching {kind} {name}", error) from None
        self._note_change(path, {"kind": kind, **before})
        return patched

    async def replace(self, obj: Object) -> Object:
        namespace = obj["metadata"].get("namespace", self.namespace)
        _, path = await self._site.kinds.of(obj, namespace)
        try:
            replaced: Object = await self._site.kube.request("PUT", path, body=obj)
        except KubeError as error:
            raise _verdict(f"replacing {obj['kind']} {obj['metadata']['name']}", error) from None
        return replaced

    async def delete(self, kind: str, name: str, *, namespace: str | None = None) -> None:
        path = await self._site.kinds.path(kind, name, namespace or self.namespace)
        if not any(same_object(path, made) for made in self.traces.made):
            self.traces.spoilt = True
        await self._site.remove([path])

    async def read(
        self, kind: str, name: str, *, version: str | None = None, namespace: str | None = None
    ) -> Object:
        path = await self._site.kinds.path(kind, name, namespace or self.namespace, version)
        try:
            found: Object = await self._site.kube.request("GET", path)
        except KubeError as error:
            raise _verdict(f"reading {kind} {name}", error) from None
        return found

    async def raw(self, path: str, query: Mapping[str, str] | None = None) -> tuple[int, Any]:
        try:
            return 200, await self._site.kube.request("GET", path, query=query)
        except KubeError as error:
            if not error.status:
                raise DriverError(error.message) from None
            return error.status, {"reason": error.reason, "message": error.message}

    async def conditions(
        self, kind: str, name: str, *, namespace: str | None = None
    ) -> Mapping[str, Condition]:
        obj = await self.read(kind, name, namespace=namespace)
        status = obj.get("status") or {}
        generation = obj["metadata"].get("generation")
        found = {}
        for entry in status.get("conditions") or []:
            seen = entry.get("observedGeneration", status.get("observedGeneration"))
            found[entry["type"]] = Condition(
                entry["type"],
                entry["status"],
                entry.get("reason", ""),
                entry.get("message", ""),
                seen == generation,
            )
        return found

    async def events(self, kind: str, name: str, *, namespace: str | None = None) -> tuple[Event, ...]:
        path = f"/api/v1/namespaces/{namespace or self.namespace}/events"
        selector = f"involvedObject.kind={kind},involvedObject.name={name}"
        try:
            listing = await self._site.kube.request("GET", path, query={"fieldSelector": selector})
        except KubeError as error:
            raise DriverError(f"events of {kind} {name}: {error.message}") from None
        return tuple(
            Event(item.get("type", ""), item.get("reason", ""), item.get("message", ""))
            for item in listing["items"]
            if item["involvedObject"].get("kind") == kind and item["involvedObject"].get("name") == name
        )

    # -- workloads ---------------------------------------------------------------------------------

    async def deploy(
        self,
        name: str,
        *,
        account: str | None = None,
        replicas: int = 1,
        env: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        ports: Sequence[tuple[str, int]] | None = None,
        meshed: bool = True,
        namespace: str | None = None,
        container: Mapping[str, Any] | None = None,
    ) -> None:
        where = namespace or self.namespace
        objects = world.workload(
            self._site.plan,
            name,
            account=account,
            replicas=replicas,
            env=env,
            labels=labels,
            annotations=annotations,
            ports=ports,
            meshed=meshed,
            container=container,
        )
        if self._site.standing_grants and where == self.namespace:
            who = account or name
            if who not in world.SERVERS:
                known = world.listening(env or {}, ports)
                objects += world.extra_grants(self._site.plan, who, self.namespace, self.second, known)
        for obj in objects:
            placed = {**obj, "metadata": {**obj["metadata"], "namespace": where}}
            if obj["kind"] == "ServiceAccount" and await self._exists(placed):
                continue
            await self._put(placed)
        await self._site.wait_pods(name, replicas, where)

    async def _exists(self, obj: Object) -> bool:
        _, path = await self._site.kinds.of(obj, obj["metadata"]["namespace"])
        return await self._site.kube.find(path) is not None

    async def scale(self, name: str, replicas: int, *, namespace: str | None = None) -> None:
        await self.patch("Deployment", name, {"spec": {"replicas": replicas}}, namespace=namespace)
        await self._site.wait_pods(name, replicas, namespace or self.namespace)

    async def address(self, app: str, *, namespace: str | None = None) -> str:
        return (await self._site.place(app, namespace)).ip

    async def reached(self, app: str, *, namespace: str | None = None) -> int:
        seen = await self._site.reach.ask(await self._site.place(app, namespace), "/seen")
        return sum(int(count) for count in seen.values())

    # -- traffic -----------------------------------------------------------------------------------

    async def call(
        self,
        app: str,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: str = "",
        count: int = 1,
        concurrency: int = 1,
        timeout: float = 5.0,
        keep_alive: bool = True,
        http: Http = "http/1.1",
    ) -> Answers:
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        order: dict[str, Any] = {
            "url": url,
            "method": method,
            "headers": [list(pair) for pair in pairs],
            "body": body,
            "count": count,
            "concurrency": concurrency,
            "timeout": timeout,
            "keep_alive": keep_alive,
        }
        if http != "http/1.1":
            order["http"] = http
        report = await self._site.order(app, "/call", order)
        summary = report["summary"]
        return Answers(
            total=int(summary["total"]),
            servers=dict(summary["servers"]),
            statuses={int(status): n for status, n in summary["statuses"].items()},
            errors=dict(summary["errors"]),
            results=tuple(_answer(result) for result in report.get("results", ())),
        )

    async def talk(
        self,
        app: str,
        host: str,
        port: int,
        *,
        send: Sequence[str] = ("ping",),
        count: int = 1,
        concurrency: int = 1,
        greeting: bool = False,
        timeout: float = 5.0,
    ) -> Conversations:
        order = {
            "host": host,
            "port": port,
            "send": list(send),
            "count": count,
            "concurrency": concurrency,
            "greeting": greeting,
            "timeout": timeout,
        }
        return _conversations(await self._site.order(app, "/tcp", order))

    async def datagrams(
        self,
        app: str,
        host: str,
        port: int,
        *,
        send: Sequence[str] = ("ping",),
        count: int = 1,
        concurrency: int = 1,
        timeout: float = 2.0,
    ) -> Conversations:
        order = {
            "host": host,
            "port": port,
            "send": list(send),
            "count": count,
            "concurrency": concurrency,
            "timeout": timeout,
        }
        return _conversations(await self._site.order(app, "/udp", order))

    # -- waiting -----------------------------------------------------------------------------------

    async def converge(
        self, probe: Callable[[], Awaitable[T]], what: str = "", *, seconds: float = 20.0
    ) -> T:
        return await converge(probe, what, seconds * self._site.plan.patience)

    async def settle(self) -> None:
        await self._site.settle()


async def converge(probe: Callable[[], Awaitable[T]], what: str, seconds: float) -> T:
    """Repeat `probe` until it raises no ExpectationError; afterwards one that tells the last failure."""
    deadline = time.monotonic() + seconds
    pause = PAUSE
    while True:
        try:
            return await probe()
        except ExpectationError as error:
            last = str(error)
        if time.monotonic() + pause > deadline:
            raise ExpectationError(f"{what or 'the expectation'}: not within {seconds:g} s; last: {last}")
        with suppress(TimeoutError):
            await asyncio.sleep(pause)
        pause = min(LONG_PAUSE, pause * 1.5)


def _verdict(what: str, error: KubeError) -> Exception:
    if error.status in REFUSALS or error.status == 404:
        return ExpectationError(f"{what}: {error.message}")
    return DriverError(f"{what}: {error.message}")


def same_object(path: str, other: str) -> bool:
    """Whether two paths name one object, perhaps in different versions of its group."""
    return _versionless(path) == _versionless(other)


def _versionless(path: str) -> tuple[str, ...]:
    parts = path.split("/")
    return tuple(part for index, part in enumerate(parts) if not (parts[1] == "apis" and index == 3))


def _answer(result: Mapping[str, Any]) -> Answer:
    return Answer(
        status=result["status"],
        server=result["server"],
        error=result["error"],
        detail=result["detail"],
        seconds=result["seconds"],
        headers={name.lower(): value for name, value in dict(result["headers"]).items()},
        body=result["body"],
    )


def _conversations(report: Mapping[str, Any]) -> Conversations:
    return Conversations(
        tuple(
            Heard(tuple(heard["received"]), heard["error"], heard["detail"], heard["seconds"])
            for heard in report["results"]
        )
    )
