"""Deployment decisions: template hash, surge and unavailable, how far to scale each ReplicaSet. Pure.

Follows the upstream deployment controller (rolling.go, sync.go, progress.go) in behaviour; the recorded
timeline is kubernetes-api.md, Appendix F.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
MAX: Final = "deployment.kubernetes.io/max-replicas"
HISTORY: Final = "deployment.kubernetes.io/revision-history"
NOT_COPIED: Final = ("kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX)
HISTORY_MAX: Final = 2000
"""Characters of the annotation that lists the revisions a template was before."""
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"

ReplicaSet = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """Set one ReplicaSet to `replicas`."""

    name: str
    before: int
    replicas: int


def template_hash(template: Mapping[str, Any], collisions: int = 0) -> str:
    """Ten safe characters that depend on the pod template alone (and on how often a name was taken)."""
    text = json.dumps([template, collisions], sort_keys=True, separators=(",", ":"))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    letters = []
    for _ in range(10):
        number, rest = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[rest])
    return "".join(letters)


def without_hash(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template as the Deployment has it."""
    meta = dict(template.get("metadata") or {})
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key != HASH_LABEL}
    meta["labels"] = labels
    return {**template, "metadata": {key: value for key, value in meta.items() if value}}


def same_template(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return without_hash(one) == without_hash(other)


def size(rs: ReplicaSet) -> int:
    return int(rs["spec"].get("replicas", 1))


def count(rs: ReplicaSet, field: str) -> int:
    return int((rs.get("status") or {}).get(field) or 0)


def revision(obj: Mapping[str, Any]) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def copied_annotations(deployment: Mapping[str, Any]) -> dict[str, str]:
    """The Deployment's annotations that its newest ReplicaSet carries too (the change cause, say)."""
    own = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in own.items() if key not in NOT_COPIED}


def catch_up(deployment: Mapping[str, Any], new: ReplicaSet, newest: int) -> dict[str, Any]:
    """A merge patch that brings the ReplicaSet of the present template up to date; {} when it is.

    `newest` is the highest revision of the others. Where it is not below the set's own, this is a rollback:
    the old template becomes the newest revision.
    """
    have = new["metadata"].get("annotations") or {}
    changed = {key: value for key, value in copied_annotations(deployment).items() if have.get(key) != value}
    if revision(new) <= newest:
        changed[REVISION] = str(newest + 1)
        past = [*filter(None, have.get(HISTORY, "").split(",")), *filter(None, [have.get(REVISION)])]
        while len(",".join(past)) > HISTORY_MAX:
            del past[0]
        changed |= {HISTORY: ",".join(past)} if past else {}
    patch: dict[str, Any] = {"metadata": {"annotations": changed}} if changed else {}
    seconds = deployment["spec"].get("minReadySeconds") or 0
    if seconds != (new["spec"].get("minReadySeconds") or 0):
        patch["spec"] = {"minReadySeconds": seconds or None}
    return patch


def desired(deployment: Mapping[str, Any]) -> int:
    return int(deployment["spec"].get("replicas", 1))


def is_recreate(deployment: Mapping[str, Any]) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") == "Recreate"


def bounds(deployment: Mapping[str, Any]) -> tuple[int, int]:
    """(max surge, max unavailable) as pods: percentages round up and down; never both zero."""
    if is_recreate(deployment):
        return 0, 0
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    total = desired(deployment)
    surge = _share(rolling.get("maxSurge", "25%"), total, math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), total, math.floor)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: int | str, total: int, rounding: Any) -> int:
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        return int(value)
    return int(rounding(int(value[:-1]) * total / 100))


def new_size(deployment: Mapping[str, Any], new: int, everything: int) -> int:
    """To how many pods the new ReplicaSet may grow now; `everything` counts all ReplicaSets' spec."""
    want = desired(deployment)
    if is_recreate(deployment):
        return want
    limit = want + bounds(deployment)[0]
    if new >= want:
        return want
    return new + max(0, min(limit - everything, want - new))


def shrink_old(deployment: Mapping[str, Any], new: ReplicaSet, old: Sequence[ReplicaSet]) -> list[Scale]:
    """How to scale old ReplicaSets down without falling below the minimum: broken pods first, then by age."""
    sizes = {rs["metadata"]["name"]: size(rs) for rs in old}
    total_old = sum(sizes.values())
    if not total_old:
        return []
    minimum = desired(deployment) - bounds(deployment)[1]
    new_unavailable = max(0, size(new) - count(new, "availableReplicas"))
    budget = total_old + size(new) - minimum - new_unavailable
    if budget <= 0:
        return []
    ordered = sorted(old, key=lambda rs: (rs["metadata"].get("creationTimestamp", ""), revision(rs)))
    for rs in ordered:  # pods that are not available cost nothing
        name = rs["metadata"]["name"]
        broken = min(budget, max(0, sizes[name] - count(rs, "availableReplicas")))
        sizes[name] -= broken
        budget -= broken
    available = count(new, "availableReplicas") + sum(count(rs, "availableReplicas") for rs in old)
    spare = available - minimum
    for rs in ordered:
        name = rs["metadata"]["name"]
        step = min(max(spare, 0), sizes[name])
        sizes[name] -= step
        spare -= step
    return [
        Scale(name, size(rs), sizes[name])
        for rs in ordered
        if sizes[name := rs["metadata"]["name"]] != size(rs)
    ]


def resize(deployment: Mapping[str, Any], sets: Sequence[ReplicaSet], new: ReplicaSet | None) -> list[Scale]:
    """What a change of `spec.replicas` means in the middle of a rollout: every active set gets its share."""
    want = desired(deployment)
    active = [rs for rs in sets if size(rs) > 0]
    if len(active) <= 1:
        only = active[0] if active else new
        return (
            [Scale(only["metadata"]["name"], size(only), want)]
            if only is not None and size(only) != want
            else []
        )
    if new is not None and size(new) == want == count(new, "availableReplicas"):
        return [Scale(rs["metadata"]["name"], size(rs), 0) for rs in active if rs is not new]
    if is_recreate(deployment):
        return []
    allowed = want + bounds(deployment)[0] if want else 0
    total = sum(size(rs) for rs in active)
    left = allowed - total
    ordered = sorted(active, key=lambda rs: (-size(rs), rs["metadata"].get("creationTimestamp", "")))
    sizes: dict[str, int] = {}
    for rs in ordered:
        share = round(size(rs) * allowed / total) - size(rs) if total else 0
        share = max(min(share, left), 0) if left > 0 else min(max(share, left), 0)
        sizes[rs["metadata"]["name"]] = size(rs) + share
        left -= share
    largest = ordered[0]["metadata"]["name"]
    sizes[largest] = max(0, sizes[largest] + left)
    return [
        Scale(name, size(rs), sizes[name])
        for rs in ordered
        if sizes[name := rs["metadata"]["name"]] != size(rs)
    ]


def was_resized(deployment: Mapping[str, Any], sets: Sequence[ReplicaSet]) -> bool:
    """Whether `spec.replicas` changed since the active sets were last scaled."""
    want = str(desired(deployment))
    annotations = [rs["metadata"].get("annotations") or {} for rs in sets if size(rs) > 0]
    return any(DESIRED in known and known[DESIRED] != want for known in annotations)
