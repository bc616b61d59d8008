"""DaemonSet decisions: which nodes want a pod, which pods go, what the six counters say. Pure, clock given.

Follows the upstream daemon controller (daemon_controller.go, update.go) in behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from localmesh.controllers.history import HASH_LABEL
from localmesh.controllers.pods import available_in, is_ready, is_terminating, phase, pod_from_template
from localmesh.placement import UNSCHEDULABLE, refusal

Json = Mapping[str, Any]
_TOLERATED: Final = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (UNSCHEDULABLE, "NoSchedule"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. Pods that failed are among `delete`, and named in `failed` for an event."""

    create: tuple[str, ...] = ()
    """Names of nodes."""
    delete: tuple[Json, ...] = ()
    failed: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class _Placed:
    """One node and the set's pods on it, oldest first, as of `now`."""

    node: str
    wanted: bool
    pods: tuple[Json, ...]


def pod_for(daemon_set: Json, node: str, digest: str) -> dict[str, Any]:
    """The pod for one node, bound to it by affinity, and tolerating what ails a node."""
    pod = pod_from_template(daemon_set["spec"]["template"], prefix=f"{daemon_set['metadata']['name']}-")
    pod["metadata"]["labels"][HASH_LABEL] = digest
    spec = pod["spec"]
    here = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
    affinity = dict(spec.get("affinity") or {})
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": here}
    spec["affinity"] = affinity | {"nodeAffinity": node_affinity}
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *_tolerations(spec)]
    return pod


def _tolerations(spec: Json) -> list[dict[str, str]]:
    more = (("node.kubernetes.io/network-unavailable", "NoSchedule"),) if spec.get("hostNetwork") else ()
    return [{"key": key, "operator": "Exists", "effect": effect} for key, effect in (*_TOLERATED, *more)]


def runs_on(daemon_set: Json, node: Json) -> bool:
    """Whether the set wants a pod on the node."""
    spec = daemon_set["spec"]["template"]["spec"]
    tolerations = [*(spec.get("tolerations") or ()), *_tolerations(spec)]
    return not refusal({**spec, "tolerations": tolerations}, node)


def _place(daemon_set: Json, nodes: Sequence[Json], pods: Sequence[Json]) -> list[_Placed]:
    placed = {node["metadata"]["name"]: (runs_on(daemon_set, node), list[Json]()) for node in nodes}
    for pod in pods:
        placed.setdefault(node_of(pod), (False, []))[1].append(pod)
    return [_Placed(name, wanted, tuple(sorted(mine, key=_birth))) for name, (wanted, mine) in placed.items()]


def _birth(pod: Json) -> tuple[str, str]:
    return pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]


def node_of(pod: Json) -> str:
    """The node a pod is on, or is made for; "" when it says neither."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    for term in terms or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field.get("values"):
                return str(field["values"][0])
    return ""


def is_updated(pod: Json, digest: str) -> bool:
    return (pod["metadata"].get("labels") or {}).get(HASH_LABEL) == digest


def plan(daemon_set: Json, nodes: Sequence[Json], pods: Sequence[Json], digest: str, now: datetime) -> Plan:
    """One step: a pod where there is none, none where none is wanted, and then the rolling update.

    `digest` is the hash of the present template's revision.
    """
    create: list[str] = []
    delete: list[Json] = []
    failed: list[Json] = []
    surging = bounds(daemon_set, len(nodes))[0] > 0
    placed = _place(daemon_set, nodes, pods)
    for place in placed:
        if not place.wanted:
            delete += [pod for pod in place.pods if not is_terminating(pod)]
        elif not place.pods:
            create.append(place.node)
        else:
            alive = [pod for pod in place.pods if not is_terminating(pod)]
            over = [pod for pod in alive if phase(pod) in ("Failed", "Succeeded")]
            running = [pod for pod in alive if pod not in over]
            failed += over
            delete += over
            delete += _excess(daemon_set, running, digest, now) if surging else running[1:]
    if create or delete:
        return Plan(tuple(create), tuple(delete), tuple(failed))
    if daemon_set["spec"]["updateStrategy"]["type"] != "RollingUpdate":
        return Plan()
    return _roll(daemon_set, placed, digest, now)


def _excess(daemon_set: Json, running: Sequence[Json], digest: str, now: datetime) -> list[Json]:
    """While surging: the old pod goes once the new one is available, or when it is itself not ready."""
    if len(running) <= 1:
        return []
    new = [pod for pod in running if is_updated(pod, digest)]
    old = [pod for pod in running if not is_updated(pod, digest)]
    gone = new[1:] + old[1:]
    if new and old and (not is_ready(old[0]) or _is_available(daemon_set, new[0], now)):
        gone.append(old[0])
    return gone


def _is_available(daemon_set: Json, pod: Json, now: datetime) -> bool:
    return available_in(pod, int(daemon_set["spec"].get("minReadySeconds") or 0), now) == 0


def bounds(daemon_set: Json, nodes: int) -> tuple[int, int]:
    """(max surge, max unavailable) as pods; both round up, as upstream does for DaemonSets."""
    rolling = daemon_set["spec"]["updateStrategy"].get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", 0), nodes)
    unavailable = _share(rolling.get("maxUnavailable", 1), nodes)
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: int | str, total: int) -> int:
    if isinstance(value, int):
        return value
    return math.ceil(int(value.removesuffix("%")) * total / 100)


def _roll(daemon_set: Json, placed: Sequence[_Placed], digest: str, now: datetime) -> Plan:
    wanted = [place for place in placed if place.wanted]
    surge, most = bounds(daemon_set, len(wanted))
    broken: list[_Placed] = []
    whole: list[_Placed] = []
    unavailable = surging = 0
    for place in wanted:
        new = [pod for pod in place.pods if is_updated(pod, digest)]
        old = [pod for pod in place.pods if not is_updated(pod, digest)]
        if not old or any(is_terminating(pod) for pod in old):
            unavailable += not any(_is_available(daemon_set, pod, now) for pod in new)
        elif new:
            surging += 1
        elif _is_available(daemon_set, old[0], now):
            whole.append(place)
        else:  # to replace what serves nobody costs nothing
            broken.append(place)
            unavailable += 1
    if surge:
        chosen = broken + whole[: max(0, surge - surging - len(broken))]
        return Plan(create=tuple(place.node for place in chosen))
    chosen = broken + whole[: max(0, most - unavailable)]
    return Plan(delete=tuple(place.pods[0] for place in chosen))


def status(
    daemon_set: Json, nodes: Sequence[Json], pods: Sequence[Json], digest: str, now: datetime
) -> dict[str, Any]:
    """The counters; numbers that are zero are left out where upstream leaves them out."""
    placed = _place(daemon_set, nodes, pods)
    wanted = [place for place in placed if place.wanted]
    oldest = [place.pods[0] for place in wanted if place.pods]
    available = sum(_is_available(daemon_set, pod, now) for pod in oldest)
    always = {
        "currentNumberScheduled": len(oldest),
        "desiredNumberScheduled": len(wanted),
        "numberMisscheduled": sum(1 for place in placed if place.pods and not place.wanted),
        "numberReady": sum(is_ready(pod) for pod in oldest),
        "observedGeneration": daemon_set["metadata"].get("generation", 1),
    }
    optional = {
        "updatedNumberScheduled": sum(is_updated(pod, digest) for pod in oldest),
        "numberAvailable": available,
        "numberUnavailable": len(wanted) - available,
    }
    return always | {key: value for key, value in optional.items() if value}


def available_later(daemon_set: Json, pods: Sequence[Json], now: datetime) -> float | None:
    """In how many seconds the next ready pod becomes available (minReadySeconds); None if none will."""
    minimum = int(daemon_set["spec"].get("minReadySeconds") or 0)
    waits = [wait for pod in pods if (wait := available_in(pod, minimum, now))]
    return min(waits) + 0.01 if waits else None
