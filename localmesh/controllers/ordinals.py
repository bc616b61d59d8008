"""StatefulSet decisions: which ordinal is made, replaced or removed next, and the status. Pure, clock given.

Follows the upstream control loop (stateful_set_control.go) in behaviour: one pod at a time in OrderedReady,
all at once in Parallel; a rolling update goes from the highest ordinal down to the partition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from localmesh.controllers.history import HASH_LABEL, History, template_of
from localmesh.controllers.pods import (
    available_in,
    is_finished,
    is_ready,
    is_terminating,
    phase,
    pod_from_template,
)

Json = Mapping[str, Any]
NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now."""

    create: tuple[int, ...] = ()
    """Ordinals."""
    delete: tuple[Json, ...] = ()
    failed: tuple[Json, ...] = ()
    """Those of `delete` that go because they ended."""


def wanted_ordinals(stateful_set: Json) -> range:
    spec = stateful_set["spec"]
    start = int((spec.get("ordinals") or {}).get("start") or 0)
    return range(start, start + int(spec.get("replicas", 1)))


def ordinal_of(stateful_set: Json, pod: Json) -> int | None:
    """The pod's ordinal; None when its name is not one of the set's."""
    stem, _, number = pod["metadata"]["name"].rpartition("-")
    mine = stem == stateful_set["metadata"]["name"] and number.isascii() and number.isdigit()
    return int(number) if mine else None


def partition_of(stateful_set: Json) -> int:
    rolling = stateful_set["spec"]["updateStrategy"].get("rollingUpdate") or {}
    return int(rolling.get("partition") or 0)


def revision_of(pod: Json) -> str:
    return str((pod["metadata"].get("labels") or {}).get(HASH_LABEL, ""))


def current_revision(stateful_set: Json, history: History) -> str:
    """The revision the set is coming from: what its status says, as long as that is known."""
    named = (stateful_set.get("status") or {}).get("currentRevision") or ""
    return named if history.named(named) is not None else history.name


def pod_for(stateful_set: Json, ordinal: int, history: History) -> dict[str, Any]:
    """The pod of an ordinal, below the partition from the current revision, else from the newest."""
    meta, spec = stateful_set["metadata"], stateful_set["spec"]
    rolling = spec["updateStrategy"]["type"] == "RollingUpdate"
    kept = rolling and ordinal < wanted_ordinals(stateful_set).start + partition_of(stateful_set)
    revision = history.named(current_revision(stateful_set, history)) if kept else None
    revision = revision or history.newest
    name = f"{meta['name']}-{ordinal}"
    pod = pod_from_template(template_of(revision), name)
    pod["metadata"]["labels"] |= {
        NAME_LABEL: name,
        INDEX_LABEL: str(ordinal),
        HASH_LABEL: revision["metadata"]["name"],
    }
    pod["spec"] |= {"hostname": name, "subdomain": spec.get("serviceName") or ""}
    return pod


def plan(stateful_set: Json, pods: Sequence[Json], newest: str, now: datetime) -> Plan:
    """The next step. `newest` is the name of the present template's revision."""
    ordered = stateful_set["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    wanted = wanted_ordinals(stateful_set)
    by_ordinal = {number: pod for pod in pods if (number := ordinal_of(stateful_set, pod)) is not None}
    create: list[int] = []
    over: list[Json] = []
    for ordinal in wanted:
        pod = by_ordinal.get(ordinal)
        if pod is None:
            create.append(ordinal)
        elif is_finished(pod):
            if not is_terminating(pod):
                over.append(pod)
        elif is_terminating(pod) or not _is_healthy(stateful_set, pod, now):
            if not ordered:
                continue
        else:
            continue
        if ordered:  # everything after it waits for this one
            return Plan(tuple(create), tuple(over), tuple(over))
    condemned = [by_ordinal[number] for number in sorted(by_ordinal, reverse=True) if number not in wanted]
    if ordered and condemned:
        return _remove_last(stateful_set, condemned, now)
    doomed = [*over, *(pod for pod in condemned if not is_terminating(pod))]
    if create or doomed or stateful_set["spec"]["updateStrategy"]["type"] != "RollingUpdate":
        return Plan(tuple(create), tuple(doomed), tuple(over))
    return _roll(stateful_set, by_ordinal, newest, now)


def _remove_last(stateful_set: Json, condemned: Sequence[Json], now: datetime) -> Plan:
    """The highest ordinal first; it must be healthy, unless it is the lowest one that is not."""
    last = condemned[0]
    if is_terminating(last):
        return Plan()
    unhealthy = [pod for pod in reversed(condemned) if not _is_healthy(stateful_set, pod, now)]
    if unhealthy and last in unhealthy and last is not unhealthy[0]:
        return Plan()
    return Plan(delete=(last,))


def _roll(stateful_set: Json, by_ordinal: Mapping[int, Json], newest: str, now: datetime) -> Plan:
    wanted = wanted_ordinals(stateful_set)
    for ordinal in reversed(wanted[partition_of(stateful_set) :]):
        pod = by_ordinal[ordinal]
        if revision_of(pod) != newest and not is_terminating(pod):
            return Plan(delete=(pod,))
        if is_terminating(pod) or not _is_healthy(stateful_set, pod, now):
            return Plan()
    return Plan()


def _is_healthy(stateful_set: Json, pod: Json, now: datetime) -> bool:
    return phase(pod) == "Running" and not is_terminating(pod) and _is_available(stateful_set, pod, now)


def _is_available(stateful_set: Json, pod: Json, now: datetime) -> bool:
    return available_in(pod, int(stateful_set["spec"].get("minReadySeconds") or 0), now) == 0


def status(stateful_set: Json, pods: Sequence[Json], history: History, now: datetime) -> dict[str, Any]:
    """The whole status but for the collision count; an update ends when all pods are new and ready."""
    mine = [pod for pod in pods if ordinal_of(stateful_set, pod) is not None]
    ready = [pod for pod in mine if phase(pod) == "Running" and is_ready(pod)]
    coming, newest = current_revision(stateful_set, history), history.name
    alive = [pod for pod in mine if not is_terminating(pod)]
    replicas = int(stateful_set["spec"].get("replicas", 1))
    counts = {
        "readyReplicas": len(ready),
        "currentReplicas": sum(revision_of(pod) == coming for pod in alive),
        "updatedReplicas": sum(revision_of(pod) == newest for pod in alive),
    }
    rolling = stateful_set["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    if rolling and counts["updatedReplicas"] == counts["readyReplicas"] == len(mine) == replicas:
        coming, counts["currentReplicas"] = newest, counts["updatedReplicas"]
    return {
        "observedGeneration": stateful_set["metadata"].get("generation", 1),
        "replicas": len(mine),
        **{key: value for key, value in counts.items() if value},
        "currentRevision": coming,
        "updateRevision": newest,
        "availableReplicas": sum(_is_available(stateful_set, pod, now) for pod in ready),
    }


def available_later(stateful_set: Json, pods: Sequence[Json], now: datetime) -> float | None:
    """In how many seconds the next ready pod becomes available; None if none will."""
    minimum = int(stateful_set["spec"].get("minReadySeconds") or 0)
    waits = [wait for pod in pods if (wait := available_in(pod, minimum, now))]
    return min(waits) + 0.01 if waits else None
