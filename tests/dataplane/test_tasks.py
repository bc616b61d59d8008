"""Tasks: none is lost, no failure is silent."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from dataplane.tasks import Tasks
from tests.dataplane.waiting import until


async def test_a_failure_is_logged_with_the_name_and_told() -> None:
    told: list[tuple[str, BaseException]] = []
    tasks = Tasks(lambda name, failure: told.append((name, failure)))

    async def fail() -> None:
        raise ValueError("broken")

    task = tasks.start("brittle", fail())
    with pytest.raises(ValueError, match="broken"):
        await task
    await until(lambda: told)
    assert told[0][0] == "brittle"
    assert str(told[0][1]) == "broken"
    assert len(tasks) == 0


async def test_an_unawaited_task_is_held_and_its_failure_logged(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()
    gate = asyncio.Event()

    async def fail_later() -> None:
        await gate.wait()
        raise ValueError("broken later")

    tasks.start("forgotten", fail_later())
    await asyncio.sleep(0)
    gc.collect()
    with caplog.at_level(logging.ERROR):
        gate.set()
        await until(lambda: not len(tasks))
    assert "task forgotten failed" in caplog.text
    assert "broken later" in caplog.text


async def test_cancel_ends_all_and_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    tasks = Tasks(lambda name, _failure: told.append(name))
    waiting = [tasks.start(f"task {number}", asyncio.Event().wait()) for number in range(3)]
    await tasks.cancel()
    assert all(task.cancelled() for task in waiting)
    assert not told
    assert not caplog.records
