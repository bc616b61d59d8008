"""Which tasks belong to a block of code, and that they can be ended without touching others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from controller.tasks import Tasks
from controller.watch.descendants import Descendants


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


def test_descendants_are_ended_however_deep_and_others_are_not(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    ended: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def parent(tasks: Tasks) -> None:
        tasks.start("grandchild", forever("grandchild"))
        await forever("child")

    async def scenario() -> None:
        Descendants.install(asyncio.get_running_loop())
        descendants, tasks = Descendants(), Tasks()
        before = tasks.start("before", forever("before"))
        with descendants.gathering():
            tasks.start("child", parent(tasks))
        after = tasks.start("after", forever("after"))
        for _ in range(3):  # child, then grandchild, get to their wait
            await asyncio.sleep(0)
        assert {task.get_name() for task in descendants.alive} == {"child", "grandchild"}
        assert await descendants.end([], 5) == 0
        assert sorted(ended) == ["child", "grandchild"]
        assert not before.done()
        assert not after.done()
        await tasks.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scenario())


async def test_a_task_that_does_not_end_is_counted() -> None:
    Descendants.install(asyncio.get_running_loop())
    release, descendants, tasks = asyncio.Event(), Descendants(), Tasks()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with descendants.gathering():
        tasks.start("stubborn", stubborn())
    await asyncio.sleep(0)
    assert await descendants.end([], 0.01) == 1
    release.set()
    await tasks.cancel()
