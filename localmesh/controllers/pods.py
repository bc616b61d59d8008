"""What controllers need to know of a pod: is it active, ready, available, and which goes first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Pod = Mapping[str, Any]


def parse_time(text: str | None) -> datetime | None:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) if text else None


def time_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_terminating(pod: Pod) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def phase(pod: Pod) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_finished(pod: Pod) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Pod) -> bool:
    return not is_finished(pod) and not is_terminating(pod)


def ready_since(pod: Pod) -> datetime | None:
    """Since when the Ready condition is True, or None."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return parse_time(condition.get("lastTransitionTime")) or datetime.min.replace(tzinfo=UTC)
    return None


def is_ready(pod: Pod) -> bool:
    return ready_since(pod) is not None


def available_in(pod: Pod, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the ready pod counts as available (0 = it does); None when it is not ready."""
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, min_ready_seconds - (now - since).total_seconds())


def deletion_rank(pod: Pod) -> tuple[int, int, int, float, int, str]:
    """Sort key: pods to delete first come first (unassigned, pending, unready, restarting, young)."""
    status = pod.get("status") or {}
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    restarts = sum(int(state.get("restartCount") or 0) for state in status.get("containerStatuses") or ())
    since = ready_since(pod)
    created = parse_time(pod["metadata"].get("creationTimestamp"))
    youth = -(since or created or datetime.min.replace(tzinfo=UTC)).timestamp() if (since or created) else 0.0
    assigned = 1 if (pod.get("spec") or {}).get("nodeName") else 0
    return (
        assigned,
        phases.get(status.get("phase", "Pending"), 1),
        1 if since else 0,
        youth,
        -restarts,
        pod["metadata"]["name"],
    )


def pod_from_template(template: Mapping[str, Any], name: str = "", prefix: str = "") -> dict[str, Any]:
    """A Pod as a pod template describes it, named `name`, or `prefix` and random letters."""
    meta = template.get("metadata") or {}
    named = {"name": name} if name else {"generateName": prefix}
    labels, annotations = dict(meta.get("labels") or {}), dict(meta.get("annotations") or {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**named, "labels": labels, "annotations": annotations},
        "spec": dict(template["spec"]),
    }
