"""Writes conditions and Events: only what differs, at a bounded rate, level-based.

Woken by publications and acknowledgements, it compares what each object should say with what it
says, so a missed wake-up or a failed write only delays. Knows no socket of a proxy and no kopf.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from controller.compile.conditions import Condition, ObjectStatus
from controller.hub import HoldOff, Hub, Published
from controller.kinds import BY_NAME
from controller.kube import Api, KubeError
from controller.metrics import Metrics
from controller.status.conditions import desired, differ
from controller.status.events import again, event_of
from smi.findings import Finding, ObjectRef

_log = logging.getLogger(__name__)

QUIET_SECONDS: Final = 0.03
LONGEST_SECONDS: Final = 0.1
_PENDING_SECONDS: Final = 1.0
"""An object's counts of a roll-out still going on are written at most this often."""
_RETRY_SECONDS: Final = 1.0
_PARALLEL: Final = 8
_MOST_EVENTS: Final = 50
"""New Events per pass: a flood of findings is spread over passes of one second."""


class Present(Protocol):
    """An object as it stands in the cluster."""

    @property
    def uid(self) -> str: ...

    @property
    def conditions(self) -> tuple[Mapping[str, Any], ...]: ...


Find = Callable[[ObjectRef], Present | None]
Progress = Callable[[Published], Callable[[ObjectStatus], Condition | None]]
"""For a publication: a function from an object to its `Programmed` condition; None: not known yet."""


@dataclass(slots=True)
class _Written:
    """What we wrote to an object last; the watch shows it a little later."""

    uid: str
    conditions: list[dict[str, Any]]
    at: float


class StatusWriter:
    """`poke` it whenever something changed; `run` writes."""

    def __init__(
        self,
        hub: Hub,
        api: Api,
        metrics: Metrics,
        *,
        find: Find,
        progress: Progress,
        clock: Callable[[], datetime],
    ) -> None:
        self._hub = hub
        self._api = api
        self._metrics = metrics
        self._find = find
        self._progress = progress
        self._clock = clock
        self._hold_off = HoldOff(QUIET_SECONDS, LONGEST_SECONDS)
        self._written: dict[ObjectRef, _Written] = {}
        self._told: set[Finding] = set()
        self._at_once = asyncio.Semaphore(_PARALLEL)

    def poke(self) -> None:
        self._hold_off.poke()

    async def run(self) -> None:
        """Write what differs after each settled burst of pokes, for ever."""
        stop = self._hub.listen(self.poke)
        try:
            while True:
                await self._hold_off.settled()
                latest = self._hub.latest
                if latest is None:
                    continue
                again_in = [await self._write_conditions(latest), await self._write_events(latest)]
                if waits := [seconds for seconds in again_in if seconds]:
                    asyncio.get_running_loop().call_later(min(waits), self.poke)
        finally:
            stop()

    async def _write_conditions(self, latest: Published) -> float:
        """One pass over every SMI object; returns in how many seconds another is needed, 0 for none."""
        conditions = latest.snapshot.conditions
        for ref in self._written.keys() - conditions.keys():
            del self._written[ref]
        progress = self._progress(latest)
        due = [
            self._write_one(status, wanted)
            for status in conditions.values()
            if (wanted := self._wanted(status, progress(status))) is not None
        ]
        return max(await asyncio.gather(*due), default=0.0)

    def _wanted(self, status: ObjectStatus, progress: Condition | None) -> list[dict[str, Any]] | None:
        """The conditions to write, or None if the object is gone or says all of it already."""
        present = self._present(status)
        if present is None:
            return None
        wanted = desired(status, progress, present, _text(self._clock()))
        return wanted if differ(wanted, present) else None

    def _present(self, status: ObjectStatus) -> Iterable[Mapping[str, Any]] | None:
        found = self._find(status.ref)
        if found is None or found.uid != status.uid:
            return None  # deleted, or made anew: the next Snapshot knows
        written = self._written.get(status.ref)
        if written is not None and written.uid == status.uid:
            return written.conditions
        return found.conditions

    async def _write_one(self, status: ObjectStatus, wanted: list[dict[str, Any]]) -> float:
        loop = asyncio.get_running_loop()
        before = self._written.get(status.ref)
        settled = all(one["status"] == "True" for one in wanted if one["type"] == "Programmed")
        if before is not None and not settled:
            left = before.at + _PENDING_SECONDS - loop.time()
            if left > 0:
                return left
        ref = status.ref
        path = f"{BY_NAME[ref.kind].path(ref.namespace, ref.name)}/status"
        try:
            async with self._at_once:
                await self._api.merge(path, {"status": {"conditions": wanted}})
        except KubeError as error:
            self._metrics.status_writes.labels("failed").inc()
            if error.absent:
                return 0.0
            _log.warning("status of %s is not written: %s", ref, error)
            return _RETRY_SECONDS
        self._metrics.status_writes.labels("written").inc()
        self._written[ref] = _Written(status.uid, wanted, loop.time())
        return 0.0

    async def _write_events(self, latest: Published) -> float:
        """Say what has not been said yet; what is no longer found may be said again later."""
        findings = set(latest.snapshot.findings)
        self._told &= findings
        fresh = sorted(findings - self._told)
        outcomes = await asyncio.gather(*(self._tell(finding) for finding in fresh[:_MOST_EVENTS]))
        return _RETRY_SECONDS if len(fresh) > _MOST_EVENTS or not all(outcomes) else 0.0

    async def _tell(self, finding: Finding) -> bool:
        """Write one Event, or count it up if it is there already; False: try again later."""
        found = self._find(finding.ref)
        now = _text(self._clock())
        event = event_of(finding, found.uid if found else "", now)
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/events"
        try:
            async with self._at_once:
                try:
                    await self._api.create(path, event)
                except KubeError as error:
                    if not error.conflict:
                        raise
                    present = await self._api.get(f"{path}/{name}")
                    await self._api.merge(f"{path}/{name}", again(present, now))
        except KubeError as error:
            self._metrics.events.labels("failed").inc()
            # A namespace that is going away takes no Events, and its objects need none.
            lost = error.status in (403, 404)
            if not lost:
                _log.warning("Event about %s is not written: %s", finding.ref, error)
            return lost
        self._metrics.events.labels("written").inc()
        self._told.add(finding)
        return True


def _text(moment: datetime) -> str:
    """RFC 3339 in UTC with seconds, as Kubernetes writes metav1.Time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
