"""PodDisruptionBudgets: how many of their pods may be evicted now. The eviction subresource asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.controllers.autoscaler import conditions
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import controller_of, current, selects
from localmesh.controllers.pods import is_active, is_ready, parse_time
from localmesh.controllers.statuswrite import write_status

RESOURCE: Final = "poddisruptionbudgets.policy"
EVICTED_FOR_S: Final = 120.0
"""How long an evicted pod counts as gone although it is still there (upstream's two minutes)."""
Json = Mapping[str, Any]


def status(budget: Json, pods: Sequence[Json], wanted: int, now: datetime) -> dict[str, Any]:
    """The status; `pods` are the active ones it selects, `wanted` how many their owners want."""
    spec, old = budget["spec"], budget.get("status") or {}
    evicted = {
        name: moment
        for name, moment in (old.get("disruptedPods") or {}).items()
        if any(pod["metadata"]["name"] == name for pod in pods) and _is_fresh(moment, now)
    }
    healthy = sum(is_ready(pod) and pod["metadata"]["name"] not in evicted for pod in pods)
    most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
    if most is not None:
        expected, desired = wanted, max(0, wanted - _share(most, wanted))
    elif isinstance(least, str):
        expected, desired = wanted, _share(least, wanted)
    else:
        expected, desired = len(pods), int(least or 0)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    enough = ("True", "SufficientPods") if allowed else ("False", "InsufficientPods")
    fresh: dict[str, Any] = {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
    }
    condition = conditions(old.get("conditions") or (), [("DisruptionAllowed", *enough, "")], now)[0]
    condition["observedGeneration"] = fresh["observedGeneration"]
    return fresh | ({"disruptedPods": evicted} if evicted else {}) | {"conditions": [condition]}


def _is_fresh(moment: str, now: datetime) -> bool:
    at = parse_time(moment)
    return at is not None and (now - at).total_seconds() < EVICTED_FOR_S


def _share(value: int | str, total: int) -> int:
    if isinstance(value, int):
        return value
    return math.ceil(int(value.removesuffix("%")) * total / 100)


class BudgetController:
    def __init__(self, api: Api) -> None:
        self._api = api
        self.loop = ControlLoop("budget", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "budgets",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, pdb: self.loop.add(key_of(pdb))),
            ),
            ("pods", lambda: feed(self._api.watch("pods"), self._on_pod)),
        )

    def _on_pod(self, _kind: str, pod: dict[str, Any]) -> None:
        labels = pod["metadata"].get("labels")
        for budget in self._api.peek_all(RESOURCE, pod["metadata"].get("namespace")):
            if covers(budget, labels):
                self.loop.add(key_of(budget))

    async def reconcile(self, key: Key) -> float | None:
        budget = await current(self._api, RESOURCE, *key)
        if budget is None or "deletionTimestamp" in budget["metadata"]:
            return None
        pods = [
            pod
            for pod in self._api.peek_all("pods", key[0])
            if is_active(pod) and covers(budget, pod["metadata"].get("labels"))
        ]
        fresh = status(budget, pods, self._wanted(pods), datetime.now(UTC))
        await write_status(self._api, RESOURCE, budget, fresh)
        return EVICTED_FOR_S if "disruptedPods" in fresh else None

    def _wanted(self, pods: Iterable[Json]) -> int:
        """How many pods the owners at the top want together; a pod of nobody's counts for itself."""
        scales: dict[str, int] = {}
        for pod in pods:
            top = self._top(pod)
            replicas = (top.get("spec") or {}).get("replicas") if top is not pod else None
            scales[top["metadata"]["uid"]] = int(replicas) if replicas is not None else 1
        return sum(scales.values())

    def _top(self, obj: Json) -> Json:
        owner = controller_of(obj)
        if owner is None:
            return obj
        resource = self._api.resource_of_kind(owner["apiVersion"], owner["kind"])
        found = self._api.peek(resource, obj["metadata"]["namespace"], owner["name"]) if resource else None
        if found is None or found["metadata"]["uid"] != owner["uid"]:
            return obj
        return self._top(found)


def covers(budget: Json, labels: Mapping[str, str] | None) -> bool:
    """Whether the budget speaks of pods with these labels; an empty selector speaks of all."""
    selector = budget["spec"].get("selector")
    return selector == {} or selects(selector, labels)
