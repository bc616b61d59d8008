"""HorizontalPodAutoscalers: kept and reported on, never acted upon, because nothing here measures resources.

The status says so: AbleToScale as upstream, ScalingActive False. `currentReplicas` and `desiredReplicas` are
what the target has and wants, whatever `minReplicas` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import current
from localmesh.controllers.pods import time_text
from localmesh.controllers.statuswrite import write_status
from localmesh.events import EventRecorder

RESOURCE: Final = "horizontalpodautoscalers.autoscaling"
TARGETS: Final = ("deployments.apps", "replicasets.apps", "statefulsets.apps")
REASON: Final = "LocalMeshControlPlane"
NOT_SCALING: Final = (
    "localmesh measures no resources and scales nothing by itself; use kubectl scale on the target"
)
Json = Mapping[str, Any]
Wanted = tuple[str, str, str, str]
"""(type, status, reason, message)."""


def status(autoscaler: Json, target: Json | None, why: str, now: datetime) -> dict[str, Any]:
    """The status; `target` is None when it cannot be had, and `why` says why."""
    old = autoscaler.get("status") or {}
    if target is None:
        wanted: list[Wanted] = [("AbleToScale", "False", "FailedGetScale", why)]
        counts = {"currentReplicas": 0, "desiredReplicas": 0}
    else:
        desired = int((target.get("spec") or {}).get("replicas", 1))
        counts = {
            "currentReplicas": int((target.get("status") or {}).get("replicas") or 0),
            "desiredReplicas": desired,
        }
        disabled = "scaling is disabled since the replica count of the target is zero"
        wanted = [
            (
                "AbleToScale",
                "True",
                "SucceededGetScale",
                "the HPA controller was able to get the target's current scale",
            ),
            ("ScalingActive", "False", REASON, NOT_SCALING)
            if desired
            else ("ScalingActive", "False", "ScalingDisabled", disabled),
        ]
    return counts | {"conditions": conditions(old.get("conditions") or (), wanted, now)}


def conditions(old: Sequence[Json], wanted: Sequence[Wanted], now: datetime) -> list[dict[str, Any]]:
    """Those conditions and no others; times stay where the status did."""
    before = {one["type"]: one for one in old}
    found = []
    for kind, value, reason, message in wanted:
        known = before.get(kind, {})
        since = known["lastTransitionTime"] if known.get("status") == value else time_text(now)
        found.append(
            {
                "type": kind,
                "status": value,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    return found


class AutoscalerController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self.loop = ControlLoop("autoscaler", self.reconcile)

    def start(self) -> None:
        def on_target(_kind: str, obj: dict[str, Any]) -> None:
            self._follow_target(obj)

        def followed(resource: str) -> Any:
            return lambda: feed(self._api.watch(resource), on_target)

        self.loop.start(
            (
                "autoscalers",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, hpa: self.loop.add(key_of(hpa))),
            ),
            *((resource, followed(resource)) for resource in TARGETS),
        )

    def _follow_target(self, obj: dict[str, Any]) -> None:
        namespace, name = key_of(obj)
        for hpa in self._api.peek_all(RESOURCE, namespace):
            reference = hpa["spec"]["scaleTargetRef"]
            if (reference.get("kind"), reference.get("name")) == (obj["kind"], name):
                self.loop.add(key_of(hpa))

    async def reconcile(self, key: Key) -> float | None:
        autoscaler = await current(self._api, RESOURCE, *key)
        if autoscaler is None or "deletionTimestamp" in autoscaler["metadata"]:
            return None
        target, why = self._target(key[0], autoscaler["spec"]["scaleTargetRef"])
        fresh = status(autoscaler, target, why, datetime.now(UTC))
        known = (autoscaler.get("status") or {}).get("conditions") or ()
        if target is None and not any(one.get("message") == why for one in known):
            self._events.warning(autoscaler, "FailedGetScale", why)
        await write_status(self._api, RESOURCE, autoscaler, fresh)
        return None

    def _target(self, namespace: str, reference: Json) -> tuple[Json | None, str]:
        kind, name = reference.get("kind", ""), reference.get("name", "")
        resource = self._api.resource_of_kind(reference.get("apiVersion") or "", kind)
        if resource not in TARGETS:
            return None, f"no matches for a scalable kind {kind!r} in {reference.get('apiVersion') or 'v1'!r}"
        target = self._api.peek(resource, namespace, name)
        return target, f'{resource} "{name}" not found' if target is None else ""
