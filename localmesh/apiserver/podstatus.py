"""The one word `kubectl get pods` shows for a pod, and the counts beside it,
as upstream's printer derives them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from localmesh.apiserver.jsonvalue import JsonObject, child, lookup


@dataclass(frozen=True, slots=True)
class PodSummary:
    reason: str
    ready: int
    total: int
    restarts: int
    last_restart: str | None


def summarise(pod: JsonObject) -> PodSummary:
    spec, status = child(pod, "spec"), child(pod, "status")
    reason = status.get("reason") or status.get("phase") or "Pending"
    sidecars = {
        container["name"]
        for container in spec.get("initContainers") or []
        if container.get("restartPolicy") == "Always"
    }
    init = status.get("initContainerStatuses") or []
    main = status.get("containerStatuses") or []
    waiting = _initialising(init, sidecars, len(spec.get("initContainers") or []))
    reason = waiting if waiting is not None else _running(reason, main, status)
    if pod["metadata"].get("deletionTimestamp"):
        reason = "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    counted = [row for row in init if row.get("name") in sidecars] + main
    restarts = counted if waiting is None else init
    return PodSummary(
        reason,
        sum(1 for row in counted if row.get("ready") and lookup(row, "state", "running") is not None),
        len(spec.get("containers") or []) + len(sidecars),
        sum(int(row.get("restartCount") or 0) for row in restarts),
        _last_restart(restarts),
    )


def _initialising(statuses: list[JsonObject], sidecars: set[str], total: int) -> str | None:
    """The status word while init containers are not done, None afterwards."""
    for position, row in enumerate(statuses):
        state = row.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if row.get("name") in sidecars and row.get("started"):
            continue
        if terminated is not None:
            return "Init:" + (terminated.get("reason") or f"ExitCode:{terminated.get('exitCode')}")
        if waiting and waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{position}/{total}"
    return None


def _running(reason: str, statuses: list[JsonObject], status: JsonObject) -> str:
    has_running = False
    for row in reversed(statuses):
        state = row.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = terminated.get("reason") or f"ExitCode:{terminated.get('exitCode')}"
        elif row.get("ready") and state.get("running") is not None:
            has_running = True
    if reason == "Completed" and has_running:
        conditions = status.get("conditions") or []
        ready = any(row.get("type") == "Ready" and row.get("status") == "True" for row in conditions)
        return "Running" if ready else "NotReady"
    return str(reason)


def _last_restart(statuses: Iterable[JsonObject]) -> str | None:
    times = [lookup(row, "lastState", "terminated", "finishedAt") for row in statuses]
    return max((time for time in times if time), default=None)
