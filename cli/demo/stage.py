"""Carries orders to the cluster and to the pods, and measures when a change is live.

It applies manifests through the Kubernetes API and speaks to the control port of the application's
pods; it judges nothing and prints nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any, Final, Self

import aiohttp
import yaml

from cli.demo.judge import Tally
from cli.demo.story import CONTROL_PORT, NAMESPACE, Ask, Count, Dial, Step
from cli.errors import Failed
from cli.kube import Kube, Object, condition, is_current

READY_SECONDS: Final = 60.0
PROGRAMMED_SECONDS: Final = 10.0
"""How long a change may take before the story goes on without it."""
BATCH: Final = 25
CONCURRENCY: Final = 5
EXCHANGE_SECONDS: Final = 5.0


def manifest_text(name: str) -> str:
    """The text of a manifest of the demo."""
    return (resources.files("cli.demo.manifests") / name).read_text(encoding="utf-8")


def manifest_objects(name: str) -> list[Object]:
    """The objects of a manifest of the demo, in order."""
    return [obj for obj in yaml.safe_load_all(manifest_text(name)) if obj]


class Stage:
    """The shop on one cluster."""

    def __init__(self, kube: Kube, session: aiohttp.ClientSession) -> None:
        self._kube = kube
        self._session = session
        self._addresses: dict[str, str] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, kube: Kube) -> AsyncIterator[Self]:
        """A stage on the cluster behind `kube`."""
        async with aiohttp.ClientSession(trust_env=False) as session:
            yield cls(kube, session)

    async def clear(self) -> None:
        """Remove a shop that an earlier run left behind, and wait until it is gone."""
        path = f"/api/v1/namespaces/{NAMESPACE}"
        if await self._kube.find(path) is None:
            return
        await self._kube.request("DELETE", path)
        await self._kube.wait_gone(path, READY_SECONDS)

    async def apply(self, step: Step) -> float | None:
        """Apply a step's manifest; seconds until every watched object is live, None if never in time."""
        clocks = [_LiveClock(await self._path(*watched)) for watched in step.watched]
        names = {watched[1:]: clock for watched, clock in zip(step.watched, clocks, strict=True)}
        async with asyncio.TaskGroup() as group:
            watches = [group.create_task(clock.run(self._kube)) for clock in clocks]
            try:
                return await self._apply_and_time(manifest_objects(step.manifest), names)
            finally:
                for watch in watches:
                    watch.cancel()

    async def _apply_and_time(
        self, objects: Iterable[Object], clocks: Mapping[tuple[str, str], _LiveClock]
    ) -> float | None:
        began = time.monotonic()
        waited: list[tuple[_LiveClock, int]] = []
        for obj in objects:
            _, applied = await self._kube.apply(obj, NAMESPACE)
            clock = clocks.get((applied["kind"], applied["metadata"]["name"]))
            if clock is not None:
                waited.append((clock, applied["metadata"]["generation"]))
        live = began
        with suppress(TimeoutError):
            async with asyncio.timeout(PROGRAMMED_SECONDS):
                for clock, generation in waited:
                    live = max(live, await clock.reached(generation))
                return live - began
        return None

    async def _path(self, api_version: str, kind: str, name: str) -> str:
        return (await self._kube.resource(api_version, kind)).path(NAMESPACE, name)

    async def wait_ready(self, progress: Callable[[int, int], None]) -> None:
        """Wait until every Deployment of the shop is available; raises Failed naming those that are not."""
        names = [item["metadata"]["name"] for item in await self._deployments()]
        ready: set[str] = set()

        async def one(name: str) -> None:
            path = await self._path("apps/v1", "Deployment", name)
            await self._kube.wait(path, _available, READY_SECONDS, f"Deployment {name}")
            ready.add(name)
            progress(len(ready), len(names))

        progress(0, len(names))
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(one(name))
        except* TimeoutError:
            missing = ", ".join(sorted(set(names) - ready))
            raise Failed(
                f"the sample application is not ready after {READY_SECONDS:g} s: {missing}"
                f"\n{await self.complaints()}"
            ) from None
        await self._find_pods()

    async def _deployments(self) -> list[Object]:
        return await self._kube.objects("apps/v1", "Deployment", NAMESPACE)

    async def complaints(self) -> str:
        """What the pods and their events say, for a failure message."""
        lines = []
        for pod in await self._kube.objects("v1", "Pod", NAMESPACE):
            status = pod.get("status") or {}
            containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
            for state in containers:
                waiting = (state.get("state") or {}).get("waiting") or {}
                if waiting or not state.get("ready"):
                    why = f"{waiting.get('reason', 'not ready')} {waiting.get('message', '')}".rstrip()
                    lines.append(f"  {pod['metadata']['name']}/{state['name']}: {why}")
        return "\n".join(lines)

    async def _find_pods(self) -> None:
        for pod in await self._kube.objects("v1", "Pod", NAMESPACE):
            address = (pod.get("status") or {}).get("podIP")
            if address and not pod["metadata"].get("deletionTimestamp"):
                self._addresses[pod["metadata"]["labels"]["app"]] = address

    async def ask(self, ask: Ask) -> Mapping[str, Any]:
        """Have a pod send one request; its result as the control port reports it."""
        order = {"url": ask.url, "method": ask.method, "headers": dict(ask.headers)}
        return dict((await self._order(ask.caller, "/call", order))["results"][0])

    async def dial(self, dial: Dial) -> Mapping[str, Any]:
        """Have a pod talk to the database; the result as the control port reports it."""
        order = {"host": dial.host, "port": dial.port, "send": dial.line, "greeting": True}
        return dict((await self._order(dial.caller, "/tcp", order))["results"][0])

    async def count(self, count: Count, progress: Callable[[Tally], None]) -> Tally:
        """Have `web` send the requests in batches; `progress` sees the tally after each."""
        tally = Tally()
        while tally.sent < count.picks:
            order = {
                "url": "http://api:8080/items",
                "headers": dict(count.headers),
                "count": min(BATCH, count.picks - tally.sent),
                "concurrency": CONCURRENCY,
            }
            tally.add((await self._order("web", "/call", order))["summary"])
            progress(tally)
        return tally

    async def _order(self, caller: str, path: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
        url = f"http://{self._addresses[caller]}:{CONTROL_PORT}{path}"
        timeout = aiohttp.ClientTimeout(total=EXCHANGE_SECONDS * (int(order.get("count", 1)) + 2))
        asked = {"timeout": EXCHANGE_SECONDS, **order}
        try:
            async with self._session.post(url, json=asked, timeout=timeout) as response:
                answer: Mapping[str, Any] = await response.json()
                if response.status != 200:
                    raise Failed(f"{caller}'s control port answered {response.status}: {answer}")
                return answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Failed(f"{caller}'s control port {url} cannot be used: {error!r}") from None


def _available(deployment: Object) -> bool:
    found = condition(deployment, "Available")
    status = deployment.get("status") or {}
    current = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return bool(found and found["status"] == "True" and current)


class _LiveClock:
    """Notes when each generation of one object was first said to run in every proxy concerned."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._reached: dict[int, float] = {}
        self._news = asyncio.Event()

    async def run(self, kube: Kube) -> None:
        """Watch until cancelled."""
        async for obj in kube.follow(self._path):
            if obj is not None and is_current(obj, "Programmed"):
                self._reached.setdefault(obj["metadata"]["generation"], time.monotonic())
                self._news.set()

    async def reached(self, generation: int) -> float:
        """When (time.monotonic) `generation`, or a later one, was live; waits for it."""
        while True:
            times = [at for seen, at in self._reached.items() if seen >= generation]
            if times:
                return min(times)
            self._news.clear()
            await self._news.wait()
