"""A Deployment's status: counters, and the conditions Available and Progressing. Pure, clock given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from localmesh.controllers.pods import parse_time, time_text
from localmesh.controllers.rollout import ReplicaSet, bounds, count, desired

Status = dict[str, Any]
_COUNTERS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def counters(deployment: Mapping[str, Any], sets: Sequence[ReplicaSet], new: ReplicaSet | None) -> Status:
    """The numbers and the Available condition's basis; zero counters are left out as upstream does."""
    total = sum(int(rs["spec"].get("replicas", 1)) for rs in sets)
    available = sum(count(rs, "availableReplicas") for rs in sets)
    status: Status = {
        "replicas": sum(count(rs, "replicas") for rs in sets),
        "updatedReplicas": count(new, "replicas") if new is not None else 0,
        "readyReplicas": sum(count(rs, "readyReplicas") for rs in sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, total - available),
    }
    status = {key: value for key, value in status.items() if value}
    status["observedGeneration"] = deployment["metadata"].get("generation", 1)
    collisions = (deployment.get("status") or {}).get("collisionCount")
    return status | ({"collisionCount": collisions} if collisions else {})


def available_condition(deployment: Mapping[str, Any], status: Status) -> tuple[str, str, str, str]:
    minimum = desired(deployment) - bounds(deployment)[1]
    if status.get("availableReplicas", 0) >= minimum:
        return "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability."
    return (
        "Available",
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    )


def is_complete(deployment: Mapping[str, Any], status: Status) -> bool:
    want = desired(deployment)
    return all(status.get(name, 0) == want for name in ("replicas", "updatedReplicas", "availableReplicas"))


def is_advancing(old: Status, new: Status) -> bool:
    """Whether any counter moved in the right direction since `old`."""

    def outdated(status: Status) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return outdated(new) < outdated(old) or any(new.get(name, 0) > old.get(name, 0) for name in grown)


def progressing_condition(
    deployment: Mapping[str, Any], old: Status, status: Status, new: ReplicaSet | None, now: datetime
) -> tuple[str, str, str, str] | None:
    """The Progressing condition to set, or None to leave the present one as it is."""
    limit = deployment["spec"].get("progressDeadlineSeconds", 600)
    if limit is None or deployment["spec"].get("paused"):
        return None
    name = f'ReplicaSet "{new["metadata"]["name"]}"' if new is not None else "Deployment"
    present = find(old, "Progressing")
    if is_complete(deployment, status):
        return "Progressing", "True", "NewReplicaSetAvailable", f"{name} has successfully progressed."
    if (
        present is not None
        and present["reason"] == "NewReplicaSetAvailable"
        and (status.get("replicas", 0) == status.get("updatedReplicas", 0))
    ):
        return None  # complete before: an unready pod now is no rollout
    if is_advancing(old, status):
        return "Progressing", "True", "ReplicaSetUpdated", f"{name} is progressing."
    if present is not None and _timed_out(present, int(limit), now):
        return "Progressing", "False", "ProgressDeadlineExceeded", f"{name} has timed out progressing."
    return None


def _timed_out(present: Mapping[str, Any], limit: int, now: datetime) -> bool:
    if present["reason"] == "ProgressDeadlineExceeded":
        return True
    if present["status"] != "True" or present["reason"] == "NewReplicaSetAvailable":
        return False
    since = parse_time(present.get("lastUpdateTime"))
    return since is not None and (now - since).total_seconds() >= limit


def deadline_in(deployment: Mapping[str, Any], status: Status, now: datetime) -> float | None:
    """Seconds until the progress deadline has to be looked at, None when it does not run."""
    limit = deployment["spec"].get("progressDeadlineSeconds", 600)
    present = find(status, "Progressing")
    running = present is not None and present["reason"] not in (
        "NewReplicaSetAvailable",
        "ProgressDeadlineExceeded",
    )
    if limit is None or not running or present is None or deployment["spec"].get("paused"):
        return None
    since = parse_time(present.get("lastUpdateTime"))
    return max(0.0, int(limit) - (now - since).total_seconds()) + 0.5 if since else None


def find(status: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    return next((dict(item) for item in status.get("conditions") or () if item["type"] == kind), None)


def with_condition(
    conditions: Sequence[Mapping[str, Any]],
    wanted: tuple[str, str, str, str],
    now: datetime,
    *,
    touch: bool = False,
) -> list[dict[str, Any]]:
    """Set a condition; its times move only when status or reason did, or with `touch`.

    One that moves goes to the end of the list, as upstream's do.
    """
    kind, value, reason, message = wanted
    text = time_text(now)
    known = next((item for item in conditions if item["type"] == kind), None)
    if known is not None and (known["status"], known["reason"]) == (value, reason) and not touch:
        return [dict(item) | ({"message": message} if item is known else {}) for item in conditions]
    since = known["lastTransitionTime"] if known is not None and known["status"] == value else text
    return [*(dict(item) for item in conditions if item is not known), _condition(wanted, text, since)]


def _condition(wanted: tuple[str, str, str, str], updated: str, since: str) -> dict[str, Any]:
    kind, value, reason, message = wanted
    return {
        "type": kind,
        "status": value,
        "lastUpdateTime": updated,
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }


def same_counters(one: Status, other: Status) -> bool:
    return all(one.get(name, 0) == other.get(name, 0) for name in _COUNTERS)
