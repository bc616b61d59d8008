"""CronJobs against the real API, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.cronjob import CronJobController
from localmesh.controllers.pods import parse_time
from localmesh.events import EventRecorder
from tests.localmesh.cluster_kit import container, memory_core

KEY = ("default", "tick")


@dataclass
class Clock:
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Schedule:
    """A CronJob that is looked at when the test says so."""

    api: Api
    clock: Clock
    controller: CronJobController

    async def pass_minutes(self, count: int = 1) -> None:
        self.clock.now += timedelta(minutes=count)
        await self.controller.reconcile(KEY)

    async def create(self, **spec: Any) -> None:
        template = {"spec": {"restartPolicy": "Never", "containers": [container()]}}
        wanted = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}} | spec
        body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"}, "spec": wanted}
        made = await self.api.create("cronjobs.batch", "default", body)
        born = parse_time(made["metadata"]["creationTimestamp"])
        assert born is not None
        self.clock.now = born.replace(second=0) + timedelta(minutes=1)
        await self.controller.reconcile(KEY)

    def jobs(self) -> list[str]:
        return [job["metadata"]["name"] for job in self.api.peek_all("jobs.batch", "default")]

    def name(self) -> str:
        """Of this minute's job."""
        return f"tick-{int(self.clock.now.timestamp()) // 60}"

    async def end(self, name: str, kind: str = "Complete") -> None:
        condition = {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status = {"conditions": [condition], "startTime": "2026-01-01T00:00:00Z"}
        if kind == "Complete":
            status["completionTime"] = "2026-01-01T00:01:00Z"
        await self.api.patch("jobs.batch", "default", name, {"status": status}, subresource="status")

    def status(self) -> dict[str, Any]:
        found = self.api.peek("cronjobs.batch", *KEY)
        assert found is not None
        return found["status"]


@pytest.fixture
async def cron() -> AsyncIterator[Schedule]:
    core = await memory_core()
    clock = Clock()
    yield Schedule(core.api, clock, CronJobController(core.api, EventRecorder(core.api, "cron"), clock))
    await core.close()


async def test_every_minute_has_one_job(cron: Schedule) -> None:
    await cron.create()
    first = cron.name()
    assert cron.jobs() == [first]
    await cron.controller.reconcile(KEY)
    assert cron.jobs() == [first], "once"
    await cron.pass_minutes()
    assert cron.jobs() == [first, cron.name()]
    assert len(cron.status()["active"]) == 2
    await cron.end(first)
    await cron.controller.reconcile(KEY)
    assert [one["name"] for one in cron.status()["active"]] == [cron.name()]
    assert cron.status()["lastSuccessfulTime"] == "2026-01-01T00:01:00Z"
    await cron.pass_minutes(30)
    assert len(cron.jobs()) == 3, "of missed times only the last is made up for"


async def test_forbid_waits_for_the_job_before(cron: Schedule) -> None:
    await cron.create(concurrencyPolicy="Forbid")
    first = cron.name()
    await cron.pass_minutes()
    assert cron.jobs() == [first]
    await cron.end(first)
    await cron.controller.reconcile(KEY)
    assert cron.jobs() == [first, cron.name()], "the time that was due meanwhile"


async def test_replace_ends_the_job_before(cron: Schedule) -> None:
    await cron.create(concurrencyPolicy="Replace")
    await cron.pass_minutes()
    assert cron.jobs() == [cron.name()]
    assert [one["name"] for one in cron.status()["active"]] == [cron.name()]


async def test_a_suspended_one_makes_no_jobs(cron: Schedule) -> None:
    await cron.create(suspend=True)
    await cron.pass_minutes()
    assert cron.jobs() == []


async def test_history_is_cut(cron: Schedule) -> None:
    await cron.create(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    for kind in ("Complete", "Failed", "Complete"):
        await cron.end(cron.name(), kind)
        await cron.pass_minutes()
    ended = [name for name in cron.jobs() if name != cron.name()]
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schedule": "often"}, "spec.schedule"),
        ({"timeZone": "Mars/Phobos"}, "spec.timeZone"),
        ({"concurrencyPolicy": "Maybe"}, "spec.concurrencyPolicy"),
    ],
)
async def test_what_cannot_run_is_refused(cron: Schedule, change: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError, match=field):
        await cron.create(**change)
