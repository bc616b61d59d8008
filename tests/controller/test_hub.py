"""Pokes become revisions: the hold-off, equal digests, failures, and waiting for a revision."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from controller.compile.compiler import compile as compile_world
from controller.compile.snapshot import Snapshot
from controller.compile.world import World
from controller.hub import HoldOff, Hub
from controller.tasks import Tasks
from smi.findings import ObjectRef
from tests.controller.compile.build import namespace, split, workload, world_of

CANARY = ObjectRef("split.smi-spec.io", "TrafficSplit", "shop", "canary")


def world(weight: int = 1, generation: int = 1, **metadata: Any) -> World:
    weights = {"web": weight, "api": 1}
    return world_of(
        [
            namespace(),
            *workload("web", "10.1.0.1"),
            *workload("api", "10.1.0.2", cluster_ip="10.96.0.5"),
            split("canary", "api", weights, generation=generation, **metadata),
        ]
    )


async def test_a_burst_of_pokes_settles_once() -> None:
    hold_off = HoldOff(quiet=0.02, longest=10)
    for _ in range(5):
        hold_off.poke()
    async with asyncio.timeout(5):
        await hold_off.settled()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await hold_off.settled()


async def test_endless_pokes_settle_at_the_longest_wait() -> None:
    hold_off = HoldOff(quiet=10, longest=0.05)

    async def poke_for_ever() -> None:
        while True:
            hold_off.poke()
            await asyncio.sleep(0)

    poking = Tasks()
    poking.start("poking", poke_for_ever())
    async with asyncio.timeout(5):
        await hold_off.settled()
    await poking.cancel()


async def test_equal_worlds_are_published_once() -> None:
    hub = Hub(compile_world)
    told: list[int] = []
    hub.listen(lambda: told.append(hub.revision))
    await hub.offer(world())
    await hub.offer(world())
    assert hub.revision == 1
    await hub.offer(world(weight=2, generation=2))
    assert (hub.revision, told) == (2, [1, 2])


async def test_since_follows_the_generation_not_the_revision() -> None:
    hub = Hub(compile_world)
    await hub.offer(world())
    await hub.offer(world_of([namespace("other"), namespace()]))
    await hub.offer(world())
    assert hub.latest is not None
    assert hub.latest.since == {CANARY: 3}, "it was gone at revision 2"
    await hub.offer(world(annotations={"smi-mesh.io/fallback": "root"}))
    assert hub.revision == 4
    assert hub.latest.since == {CANARY: 3}
    await hub.offer(world(generation=2))
    assert hub.latest.since == {CANARY: 5}
    await hub.offer(world(generation=2, uid="made anew"))
    assert hub.latest.since == {CANARY: 6}


async def test_a_failing_compiler_leaves_the_last_snapshot_in_force() -> None:
    broken = False

    def compile_or_fail(world: World, before: Snapshot | None, /) -> Snapshot:
        if broken:
            raise RuntimeError("a bug")
        return compile_world(world, before)

    outcomes: list[str] = []
    hub = Hub(compile_or_fail, observe=lambda _, outcome: outcomes.append(outcome))
    assert await hub.offer(world())
    broken = True
    assert not await hub.offer(world(weight=5))
    assert hub.revision == 1
    broken = False
    assert await hub.offer(world(weight=5))
    assert hub.revision == 2
    assert outcomes == ["published", "failed", "published"]


async def test_an_incomplete_world_is_never_compiled() -> None:
    """What a restart looks like: pokes arrive while not every kind has been listed."""
    worlds: list[World | None] = [None]
    hub = Hub(compile_world, quiet=0.001, longest=0.01)
    asked = asyncio.Event()

    def freeze() -> World | None:
        asked.set()
        return worlds[-1]

    running = Tasks()
    running.start("hub", hub.run(freeze))
    async with asyncio.timeout(5):
        hub.poke()
        await asked.wait()
        assert hub.latest is None
        worlds.append(world())
        hub.poke()
        assert (await hub.wait_for(1)).revision == 1
        worlds.append(None)
        asked.clear()
        hub.poke()
        await asked.wait()
        worlds.append(world(weight=9))
        hub.poke()
        assert (await hub.wait_for(2)).revision == 2
    await running.cancel()


async def test_waiting_for_a_revision_that_is_there_does_not_wait() -> None:
    hub = Hub(compile_world)
    await hub.offer(world())
    assert (await hub.wait_for(1)).revision == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await hub.wait_for(2)
