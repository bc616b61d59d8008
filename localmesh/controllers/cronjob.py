"""CronJobs: a Job whenever the schedule says, within the concurrency policy, and only so many kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers import jobwork
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import controller_of, current, delete_quietly, owner_reference
from localmesh.controllers.pods import parse_time, time_text
from localmesh.controllers.statuswrite import write_status
from localmesh.events import EventRecorder, reference
from localmesh.schedules import MISSED_MAX, Schedule, ScheduleError

RESOURCE: Final = "cronjobs.batch"
KIND: Final = "CronJob"
SCHEDULED_AT: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Due:
    """What the clock asks of a CronJob now."""

    at: datetime | None
    """The time to make a Job for; None when none is due."""
    after: float | None
    """Seconds until the next one."""
    too_many: bool = False


def due(cron_job: Json, now: datetime) -> Due:
    """Raises ScheduleError for a schedule that cannot be read."""
    spec, status = cron_job["spec"], cron_job.get("status") or {}
    schedule = Schedule(spec["schedule"], spec.get("timeZone") or "")
    upcoming = schedule.after(now)
    wait = (upcoming - now).total_seconds() + 0.05 if upcoming is not None else None
    if spec.get("suspend"):
        return Due(None, None)
    earliest = parse_time(status.get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"]) or now
    limit = spec.get("startingDeadlineSeconds")
    if limit is not None:
        earliest = max(earliest, now - timedelta(seconds=int(limit)))
    at, missed = schedule.last(earliest, now)
    return Due(at, wait, missed > MISSED_MAX)


def job_for(cron_job: Json, at: datetime) -> dict[str, Any]:
    """The Job of one scheduled time; its name is the same for the same time, so it is made only once."""
    template = cron_job["spec"]["jobTemplate"]
    meta = template.get("metadata") or {}
    zone = cron_job["spec"].get("timeZone")
    stamp = Schedule("@hourly", zone or "").local(at).isoformat()
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{cron_job['metadata']['name']}-{int(at.timestamp()) // 60}",
            "labels": meta.get("labels") or {},
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED_AT: stamp},
            "ownerReferences": [owner_reference(cron_job, "batch/v1", KIND)],
        },
        "spec": template["spec"],
    }


def superfluous(cron_job: Json, jobs: Sequence[Json]) -> list[Json]:
    """Ended jobs beyond the history limits, the oldest ones."""
    found: list[Json] = []
    for kind, name, default in (
        ("Complete", "successfulJobsHistoryLimit", 3),
        ("Failed", "failedJobsHistoryLimit", 1),
    ):
        ended = [job for job in jobs if jobwork.condition_of(job, kind) is not None]
        ended.sort(
            key=lambda job: ((job.get("status") or {}).get("startTime") or "", job["metadata"]["name"])
        )
        found += ended[: max(0, len(ended) - int(cron_job["spec"].get(name, default)))]
    return found


class CronJobController:
    def __init__(
        self,
        api: Api,
        events: EventRecorder,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._events = events
        self._clock = clock
        self.loop = ControlLoop("cronjob", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "cronjobs",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, cj: self.loop.add(key_of(cj))),
            ),
            ("jobs", lambda: feed(self._api.watch("jobs.batch"), self._on_job)),
        )

    def _on_job(self, _kind: str, job: dict[str, Any]) -> None:
        owner = controller_of(job)
        if owner is not None and owner.get("kind") == KIND:
            self.loop.add((job["metadata"]["namespace"], owner["name"]))

    async def reconcile(self, key: Key) -> float | None:
        cron_job = await current(self._api, RESOURCE, *key)
        if cron_job is None or "deletionTimestamp" in cron_job["metadata"]:
            return None
        uid = cron_job["metadata"]["uid"]
        jobs = [
            job
            for job in await self._api.list("jobs.batch", key[0])
            if (controller_of(job) or {}).get("uid") == uid and "deletionTimestamp" not in job["metadata"]
        ]
        active = [job for job in jobs if jobwork.end_of(job) is None]
        self._tell_ended(cron_job, jobs)
        status = self._status(cron_job, jobs, active)
        for job in superfluous(cron_job, jobs):
            await self._delete(cron_job, job)
        now = self._clock()
        try:
            present = due(cron_job, now)
        except ScheduleError as error:  # written before this version checked schedules
            self._events.warning(cron_job, "UnparseableSchedule", f"unparseable schedule: {error}")
            await write_status(self._api, RESOURCE, cron_job, status)
            return None
        if present.too_many:
            message = f"too many missed start times: more than {MISSED_MAX}; only the last one is made up for"
            self._events.warning(cron_job, "TooManyMissedTimes", message)
        if present.at is not None:
            await self._launch(cron_job, active, present.at, status)
        await write_status(self._api, RESOURCE, cron_job, status)
        return present.after

    async def _launch(
        self, cron_job: dict[str, Any], active: Sequence[Json], at: datetime, status: dict[str, Any]
    ) -> None:
        """Make the Job of `at` if the policy lets it, and note it in `status`."""
        policy = cron_job["spec"].get("concurrencyPolicy", "Allow")
        if active and policy == "Forbid":
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._events.normal(cron_job, "JobAlreadyActive", message)
            return
        if policy == "Replace":
            for job in active:
                await self._delete(cron_job, job)
            status.pop("active", None)
        try:
            made = await self._api.create(
                "jobs.batch", cron_job["metadata"]["namespace"], job_for(cron_job, at)
            )
        except ApiError as error:
            if error.code != 409:
                self._events.warning(cron_job, "FailedCreate", f"Error creating job: {error}")
                raise
        else:
            self._events.normal(cron_job, "SuccessfulCreate", f"Created job {made['metadata']['name']}")
            status["active"] = [*status.get("active", ()), reference(made)]
        status["lastScheduleTime"] = time_text(at)

    async def _delete(self, cron_job: Json, job: Json) -> None:
        meta = job["metadata"]
        await delete_quietly(
            self._api, "jobs.batch", meta["namespace"], meta["name"], meta["uid"], "Background"
        )
        self._events.normal(cron_job, "SuccessfulDelete", f"Deleted job {meta['name']}")

    def _tell_ended(self, cron_job: Json, jobs: Sequence[Json]) -> None:
        known = {one.get("uid") for one in (cron_job.get("status") or {}).get("active") or ()}
        for job in jobs:
            end = jobwork.end_of(job)
            if end is not None and job["metadata"]["uid"] in known:
                message = f"Saw completed job: {job['metadata']['name']}, condition: {end['type']}"
                self._events.normal(cron_job, "SawCompletedJob", message)

    @staticmethod
    def _status(cron_job: Json, jobs: Sequence[Json], active: Sequence[Json]) -> dict[str, Any]:
        status = {key: value for key, value in (cron_job.get("status") or {}).items() if key != "active"}
        if active:
            status["active"] = [reference(job) for job in active]
        completed = [(job.get("status") or {}).get("completionTime") or "" for job in jobs]
        latest = max([status.get("lastSuccessfulTime") or "", *completed], default="")
        return status | ({"lastSuccessfulTime": latest} if latest else {})
