"""Findings as Kubernetes Events (core/v1): pure.

One Event per finding and object: its name is derived from what it says, so that saying it again is
the same Event with a higher count.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

from controller.kinds import BY_NAME
from smi.findings import Finding, Severity

COMPONENT: Final = "smi-mesh-controller"
_LONGEST_MESSAGE: Final = 1024  # the API server's limit
_LONGEST_NAME: Final = 230


def event_of(finding: Finding, uid: str, now: str) -> dict[str, Any]:
    """The Event that says `finding`. `uid` of the object, empty if not known; `now` is RFC 3339."""
    ref = finding.ref
    kind = BY_NAME.get(ref.kind)
    involved = {
        "apiVersion": kind.api_version if kind else ref.group or "v1",
        "kind": ref.kind,
        "name": ref.name,
        **({"namespace": ref.namespace} if ref.namespace else {}),
        **({"uid": uid} if uid else {}),
        **({"fieldPath": finding.field} if finding.field else {}),
    }
    namespace = ref.namespace or "default"  # where Events of cluster-wide objects live
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{ref.name[:_LONGEST_NAME]}.{_digest(finding, uid)}", "namespace": namespace},
        "involvedObject": involved,
        "type": "Normal" if finding.severity is Severity.INFO else "Warning",
        "reason": str(finding.reason),
        "message": _message(finding),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def again(event: dict[str, Any], now: str) -> dict[str, Any]:
    """The merge patch that says an existing Event once more."""
    count = event.get("count")
    return {"count": (count if isinstance(count, int) else 1) + 1, "lastTimestamp": now}


def _message(finding: Finding) -> str:
    text = f"{finding.field}: {finding.message}" if finding.field else finding.message
    return text[:_LONGEST_MESSAGE]


def _digest(finding: Finding, uid: str) -> str:
    parts = "\n".join((uid, finding.ref.kind, finding.reason, finding.field, finding.message))
    return blake2b(parts.encode(), digest_size=8).hexdigest()
