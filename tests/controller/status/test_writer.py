"""The status writer: only what differs, and again where it failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.compile.compiler import compile as compile_world
from controller.hub import Hub
from controller.kube import KubeError
from controller.metrics import Metrics
from controller.status.conditions import programmed
from controller.status.writer import StatusWriter
from controller.tasks import Tasks
from smi.findings import ObjectRef
from tests.controller.compile.build import namespace, split, workload, world_of
from tests.controller.kubeapi import StoredObjects
from tests.controller.pki import now

PATH = "/apis/split.smi-spec.io/v1alpha4/namespaces/shop/trafficsplits/canary"


@dataclass(frozen=True)
class Seen:
    uid: str
    conditions: tuple[Mapping[str, Any], ...] = ()


@dataclass
class Reporting:
    """A running writer; `done` of `concerned` proxies run everything."""

    api: StoredObjects = field(default_factory=StoredObjects)
    hub: Hub = field(default_factory=lambda: Hub(compile_world))
    done: int = 1
    concerned: int = 1
    seen: Seen = field(default_factory=lambda: Seen("uid-canary"))

    def find(self, ref: ObjectRef) -> Seen | None:
        return self.seen if ref.name == "canary" else None

    async def publish(self, weight: int = 1, generation: int = 1, root: str = "api") -> None:
        self.api.objects.setdefault(PATH, {"metadata": {"name": "canary"}})
        made = split("canary", root, {"v2": weight, "web": 1}, generation=generation)
        names = ("web", "api", "v2")
        services = [obj for n, name in enumerate(names) for obj in workload(name, f"10.1.0.{n}")]
        await self.hub.offer(world_of([namespace(), *services, made]))

    def conditions(self) -> dict[str, tuple[str, int]]:
        status = self.api.objects[PATH].get("status") or {"conditions": []}
        return {one["type"]: (one["status"], one["observedGeneration"]) for one in status["conditions"]}

    def written(self) -> list[str]:
        return [path for verb, path, _ in self.api.writes if verb == "merge" and path.endswith("/status")]

    async def until_says(self, **wanted: tuple[str, int]) -> None:
        async with asyncio.timeout(5):
            while not wanted.items() <= self.conditions().items():  # noqa: ASYNC110 - the API tells nobody
                await asyncio.sleep(0.002)

    def writer(self) -> StatusWriter:
        return StatusWriter(
            self.hub,
            self.api,
            Metrics(),
            find=self.find,
            progress=lambda _: lambda _: programmed(self.done, self.concerned),
            clock=now,
        )

    async def one_pass(self) -> float:
        """What the writer does after a publication; returns in how many seconds it wants another one."""
        assert self.hub.latest is not None
        return await self.writer()._write_conditions(self.hub.latest)


@pytest.fixture
async def reporting() -> AsyncIterator[Reporting]:
    report, running = Reporting(), Tasks()
    writer = report.writer()
    report.hub.listen(writer.poke)
    running.start("status", writer.run())
    yield report
    await running.cancel()


async def test_a_generation_is_reported_once(reporting: Reporting) -> None:
    await reporting.publish()
    await reporting.until_says(Accepted=("True", 1), BackendsResolved=("True", 1), Programmed=("True", 1))
    await reporting.publish(weight=2, generation=2)
    await reporting.until_says(Programmed=("True", 2))
    assert len(reporting.written()) == 2


async def test_what_stands_there_already_is_not_written(reporting: Reporting) -> None:
    """A restarted controller finds its own words."""
    await reporting.publish()
    await reporting.until_says(Programmed=("True", 1))
    stands = tuple(reporting.api.objects[PATH]["status"]["conditions"])
    second = Reporting(api=reporting.api, seen=Seen("uid-canary", stands))
    before = len(second.written())
    await second.publish()
    assert await second.one_pass() == 0
    assert len(second.written()) == before


async def test_a_failed_write_is_tried_again(reporting: Reporting) -> None:
    reporting.api.fails_with = KubeError(0, "Unreachable", "no API server")
    await reporting.publish()
    async with asyncio.timeout(5):
        await reporting.api.failed.wait()
    reporting.api.fails_with = None
    await reporting.until_says(Programmed=("True", 1))


async def test_counts_of_a_rollout_are_not_written_each_time(reporting: Reporting) -> None:
    reporting.concerned = 100
    await reporting.publish()
    await reporting.until_says(Programmed=("False", 1))
    for reporting.done in range(2, 10):
        await reporting.publish(weight=reporting.done)
    assert len(reporting.written()) == 1
    reporting.done = 100
    await reporting.publish(weight=50)
    await reporting.until_says(Programmed=("True", 1))
    assert len(reporting.written()) == 2


async def test_an_object_made_anew_is_not_told_of_the_former_one() -> None:
    report = Reporting(seen=Seen("another uid"))
    await report.publish()
    assert await report.one_pass() == 0
    assert report.conditions() == {}


async def test_a_finding_is_one_event_that_counts(reporting: Reporting) -> None:
    def events() -> list[dict[str, Any]]:
        return [obj for path, obj in reporting.api.objects.items() if "/events/" in path]

    async def until_count(count: int) -> dict[str, Any]:
        async with asyncio.timeout(5):
            while [one["count"] for one in events()] != [count]:  # noqa: ASYNC110 - the API tells nobody
                await asyncio.sleep(0.002)
        return events()[0]

    await reporting.publish(root="nobody")
    said = await until_count(1)
    assert (said["reason"], said["type"]) == ("RootNotFound", "Warning")
    assert said["involvedObject"]["uid"] == "uid-canary"
    await reporting.publish(root="nobody", weight=3)
    await reporting.publish(root="api")
    await reporting.until_says(ResolvedRefs=("True", 1))
    await reporting.publish(root="nobody")
    await until_count(2)
