"""Runs cases: one worker per site, each case alone in its site, everything removed at the end.

A worker takes the next case that fits its site's state (open or closed) and turns the site over when
none is left. A case is judged once. Nothing here knows what a case asks for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from conformance.collect import CollectError, Entry
from conformance.driver import DriverError
from conformance.drivers.cluster import ClusterMesh
from conformance.drivers.kinds import Kinds
from conformance.drivers.reach import Reach
from conformance.drivers.site import Access, SettleError, Site
from conformance.drivers.world import Plan
from conformance.expect import ExpectationError
from conformance.kube import Kube, KubeError
from conformance.report import Outcome, Result

DEMOLISH_SECONDS: Final = 90.0


@dataclass(slots=True)
class Progress:
    """Where a run stands; `listen` is called after every change."""

    total: int
    listen: Callable[[Progress], None] = lambda _: None
    results: list[Result] = field(default_factory=list)
    running: dict[int, str] = field(default_factory=dict)
    """Site number → what it is doing."""
    troubles: list[str] = field(default_factory=list)

    def say(self, number: int, what: str) -> None:
        self.running[number] = what
        self.listen(self)

    def add(self, result: Result) -> None:
        self.results.append(result)
        self.listen(self)

    def trouble(self, text: str) -> None:
        self.troubles.append(text)
        self.listen(self)


class Queue:
    """Cases still to be run, by the state of the site they need."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._waiting: dict[Access, list[Entry]] = {"open": [], "closed": []}
        for entry in entries:
            self._waiting[entry.case.access].append(entry)
        for waiting in self._waiting.values():
            waiting.sort(key=lambda entry: -entry.case.seconds)  # the long ones first: they end the run

    def take(self, access: Access) -> Entry | None:
        """The next case for a site in this state, else one of the other state; None at the end."""
        other: Access = "closed" if access == "open" else "open"
        for state in (access, other):
            if self._waiting[state]:
                return self._waiting[state].pop(0)
        return None

    def rest(self) -> list[Entry]:
        return [entry for waiting in self._waiting.values() for entry in waiting]


async def run_cases(
    kube: Kube,
    plan: Plan,
    entries: Iterable[Entry],
    parallel: int,
    progress: Progress,
    *,
    fresh: bool = False,
) -> None:
    """Run `entries` into `progress`; removes every namespace it made, also when cancelled.

    `fresh` gives every case a site of its own (slow; for meshes that cannot be trusted to forget).
    """
    queue = Queue(entries)
    count = min(parallel, len(queue.rest()))
    async with aiohttp.ClientSession(trust_env=False) as session:
        shared = _Shared(kube, Reach(kube, session), Kinds(kube), plan, queue, progress, fresh)
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(_Worker(shared, number).run())


@dataclass(slots=True)
class _Shared:
    kube: Kube
    reach: Reach
    kinds: Kinds
    plan: Plan
    queue: Queue
    progress: Progress
    fresh: bool
    sites: int = 0


class _Worker:
    """One line of cases in one site after another."""

    def __init__(self, shared: _Shared, number: int) -> None:
        self._shared = shared
        self._number = number
        self._site: Site | None = None

    async def run(self) -> None:
        wish: Access = "closed" if self._number % 2 else "open"
        try:
            while entry := self._shared.queue.take(self._site.access if self._site else wish):
                self._shared.progress.add(await self._one(entry))
        finally:
            self._shared.progress.say(self._number, "cleaning up")
            await self._leave()
            self._shared.progress.running.pop(self._number, None)

    async def _one(self, entry: Entry) -> Result:
        began = time.monotonic()
        try:
            site = await self._ready_site(entry.case.access)
        except (DriverError, KubeError) as error:
            await self._leave()
            return Result(
                entry.case, entry.source, Outcome.ERROR, time.monotonic() - began, f"no site: {error}"
            )
        self._shared.progress.say(self._number, entry.id)
        began = time.monotonic()
        mesh = ClusterMesh(site, entry)
        outcome, message = await judge(entry, mesh)
        seconds = time.monotonic() - began
        await self._tidy(site, mesh)
        return Result(entry.case, entry.source, outcome, seconds, message, site.name)

    async def _ready_site(self, access: Access) -> Site:
        if self._site is None:
            self._shared.progress.say(self._number, "preparing a namespace")
            shared = self._shared
            shared.sites += 1
            self._site = Site(shared.kube, shared.reach, shared.kinds, shared.plan, shared.sites)
            await self._site.prepare()
        if self._site.access != access:
            self._shared.progress.say(self._number, f"turning to {access}")
            try:
                await self._site.become(access)
            except SettleError:
                # A mesh that does not take grants back: a new site has none, so no verdict depends on it.
                if access == "open":
                    raise
                await self._leave()
                return await self._ready_site(access)
        return self._site

    async def _tidy(self, site: Site, mesh: ClusterMesh) -> None:
        """Bring the site back to its first state, or give it up."""
        traces = mesh.traces
        if self._shared.fresh or traces.spoilt:
            await self._leave()
            return
        try:
            await site.remove(reversed(traces.made))
            for path, metadata in traces.namespaces.items():
                await site.restore_namespace(path, metadata)
            if traces.made or traces.namespaces:
                await site.settle()
            await site.forget_marks()
        except (DriverError, KubeError) as error:
            self._shared.progress.trouble(f"{site.name} is given up: {error}")
            await self._leave()

    async def _leave(self) -> None:
        """Remove the site; what cannot be removed in time is told, not hidden."""
        site, self._site = self._site, None
        if site is None:
            return
        try:
            async with asyncio.timeout(DEMOLISH_SECONDS):
                await site.demolish()
        except (DriverError, KubeError, TimeoutError) as error:
            self._shared.progress.trouble(f"namespaces {site.name} and {site.second} may be left: {error!r}")


async def judge(entry: Entry, mesh: ClusterMesh) -> tuple[Outcome, str]:
    """Run one case to its outcome, and say why it is not a pass. Only what the mesh did fails a case."""
    limit = entry.case.seconds
    try:
        async with asyncio.timeout(limit):
            await entry.case.run(mesh)
    except ExpectationError as error:
        return Outcome.FAILED, str(error)
    except TimeoutError:
        return Outcome.FAILED, f"not finished within {limit:g} s"
    except (DriverError, KubeError, CollectError) as error:
        return Outcome.ERROR, str(error)
    except Exception as error:  # noqa: BLE001 - a bug of one case must not end the others' run; it is reported
        return Outcome.ERROR, f"the case itself failed: {type(error).__name__}: {error}"
    return Outcome.PASSED, ""
