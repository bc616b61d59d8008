"""Deployments: one ReplicaSet per pod template, rolled over within the surge and unavailability bounds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers import progress, rollout
from localmesh.controllers.loop import ControlLoop, Key, feed, key_of
from localmesh.controllers.owners import claim, controller_of, current, delete_quietly, owner_reference
from localmesh.controllers.rollout import DESIRED, HASH_LABEL, MAX, REVISION, Scale
from localmesh.events import EventRecorder

RESOURCE: Final = "deployments.apps"
SETS: Final = "replicasets.apps"


class DeploymentController:
    def __init__(self, api: Api, events: EventRecorder) -> None:
        self._api = api
        self._events = events
        self.loop = ControlLoop("deployment", self.reconcile)

    def start(self) -> None:
        self.loop.start(
            (
                "deployments",
                lambda: feed(self._api.watch(RESOURCE), lambda _kind, dep: self.loop.add(key_of(dep))),
            ),
            (
                "replicasets",
                lambda: feed(self._api.watch(SETS), lambda _kind, rs: self._owner(rs, "Deployment")),
            ),
            ("pods", lambda: feed(self._api.watch("pods"), self._on_pod)),
        )

    def _owner(self, obj: dict[str, Any], kind: str) -> None:
        owner = controller_of(obj)
        if owner is not None and owner.get("kind") == kind:
            self.loop.add((obj["metadata"].get("namespace") or "", owner["name"]))

    def _on_pod(self, kind: str, pod: dict[str, Any]) -> None:
        """Recreate waits for the last old pod to be really gone."""
        owner = controller_of(pod)
        if kind != "DELETED" or owner is None or owner.get("kind") != "ReplicaSet":
            return
        namespace = pod["metadata"].get("namespace") or ""
        rs = self._api.peek(SETS, namespace, owner["name"])
        if rs is not None:
            self._owner(rs, "Deployment")

    async def reconcile(self, key: Key) -> float | None:
        deployment = await current(self._api, RESOURCE, *key)
        if deployment is None:
            return None
        sets = await claim(self._api, deployment, "apps/v1", "Deployment", SETS)
        if "deletionTimestamp" in deployment["metadata"]:
            await self._write_status(deployment, sets, _find_new(deployment, sets))
            return None
        new = _find_new(deployment, sets)
        if deployment["spec"].get("paused") or (new is not None and rollout.was_resized(deployment, sets)):
            if await self._scale_all(deployment, rollout.resize(deployment, sets, new)):
                sets = await claim(self._api, deployment, "apps/v1", "Deployment", SETS)
                new = _find_new(deployment, sets)
            elif not deployment["spec"].get("paused"):
                await self._annotate_all(deployment, sets)
        if not deployment["spec"].get("paused"):
            sets, new = await self._roll(deployment, sets)
        return await self._write_status(deployment, sets, new)

    # --- rolling -------------------------------------------------------------------------------------

    async def _roll(
        self, deployment: dict[str, Any], sets: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """One step of the rollout; returns the sets as they are afterwards."""
        if rollout.is_recreate(deployment) and not await self._old_are_gone(deployment, sets):
            return await self._again(deployment)
        new = await self._ensure_new(deployment, sets)
        if new is None:
            return sets, None
        old = [rs for rs in sets if rs["metadata"]["uid"] != new["metadata"]["uid"]]
        everything = rollout.size(new) + sum(rollout.size(rs) for rs in old)
        wanted = rollout.new_size(deployment, rollout.size(new), everything)
        if wanted != rollout.size(new):
            await self._scale_all(deployment, [Scale(new["metadata"]["name"], rollout.size(new), wanted)])
        else:
            await self._scale_all(deployment, rollout.shrink_old(deployment, new, old))
        sets, found = await self._again(deployment)
        if found is not None and progress.is_complete(deployment, progress.counters(deployment, sets, found)):
            await self._forget_old(
                deployment, [rs for rs in sets if rs["metadata"]["uid"] != found["metadata"]["uid"]]
            )
        return sets, found

    async def _again(self, deployment: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        sets = await claim(self._api, deployment, "apps/v1", "Deployment", SETS)
        return sets, _find_new(deployment, sets)

    async def _old_are_gone(self, deployment: dict[str, Any], sets: list[dict[str, Any]]) -> bool:
        new = _find_new(deployment, sets)
        old = [rs for rs in sets if new is None or rs["metadata"]["uid"] != new["metadata"]["uid"]]
        scales = [Scale(rs["metadata"]["name"], rollout.size(rs), 0) for rs in old if rollout.size(rs)]
        if await self._scale_all(deployment, scales):
            return False
        uids = {rs["metadata"]["uid"] for rs in old}
        pods = await self._api.list("pods", deployment["metadata"]["namespace"])
        return not any((controller_of(pod) or {}).get("uid") in uids for pod in pods)

    async def _ensure_new(
        self, deployment: dict[str, Any], sets: list[dict[str, Any]]
    ) -> dict[str, Any] | None:
        """The ReplicaSet of the present template, with the newest revision number; created when missing."""
        new = _find_new(deployment, sets)
        newest = max((rollout.revision(rs) for rs in sets if new is None or rs is not new), default=0)
        if new is None:
            return await self._create(deployment, sets, str(newest + 1))
        patch = rollout.catch_up(deployment, new, newest)
        if patch:
            new = await self._api.patch(SETS, new["metadata"]["namespace"], new["metadata"]["name"], patch)
        revision = new["metadata"]["annotations"][REVISION]
        if progress.find(deployment.get("status") or {}, "Progressing") is None:
            message = f'Found new replica set "{new["metadata"]["name"]}"'
            await self._progress(deployment, "FoundNewReplicaSet", message, revision)
        elif (deployment["metadata"].get("annotations") or {}).get(REVISION) != revision:
            await self._put_status(deployment, deployment["status"], {REVISION: revision})
        return new

    async def _create(
        self, deployment: dict[str, Any], sets: list[dict[str, Any]], revision: str
    ) -> dict[str, Any] | None:
        meta, spec = deployment["metadata"], deployment["spec"]
        collisions = int((deployment.get("status") or {}).get("collisionCount") or 0)
        digest = rollout.template_hash(spec["template"], collisions)
        template = dict(spec["template"])
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest}
        template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
        selector = dict(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: digest}
        replicas = rollout.new_size(deployment, 0, sum(rollout.size(rs) for rs in sets))
        rs = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "labels": labels,
                "annotations": self._annotations(deployment) | {REVISION: revision},
                "ownerReferences": [owner_reference(deployment, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": replicas,
                "selector": selector,
                "template": template,
                "minReadySeconds": spec.get("minReadySeconds") or 0,
            },
        }
        if not rs["spec"]["minReadySeconds"]:  # type: ignore[index]  # a dict literal of mixed values
            del rs["spec"]["minReadySeconds"]  # type: ignore[attr-defined]  # rs is plain JSON
        try:
            created = await self._api.create(SETS, meta["namespace"], rs)
        except ApiError as error:
            if error.code == 409:
                await self._count_collision(deployment, collisions)
                raise
            await self._progress(
                deployment, "ReplicaSetCreateError", f"Failed to create new replica set: {error}"
            )
            raise
        name = created["metadata"]["name"]
        if replicas:
            self._events.normal(
                deployment, "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {replicas}"
            )
        await self._progress(
            deployment, "NewReplicaSetCreated", f'Created new replica set "{name}"', revision
        )
        return created

    async def _count_collision(self, deployment: dict[str, Any], collisions: int) -> None:
        """The name is taken by a ReplicaSet of another template or owner: hash differently next time."""
        meta = deployment["metadata"]
        patch = {"status": {"collisionCount": collisions + 1}}
        await self._api.patch(RESOURCE, meta["namespace"], meta["name"], patch, subresource="status")

    def _annotations(self, deployment: dict[str, Any]) -> dict[str, str]:
        surge, _ = rollout.bounds(deployment)
        want = rollout.desired(deployment)
        return rollout.copied_annotations(deployment) | {DESIRED: str(want), MAX: str(want + surge)}

    async def _annotate_all(self, deployment: dict[str, Any], sets: list[dict[str, Any]]) -> None:
        surge, _ = rollout.bounds(deployment)
        want = rollout.desired(deployment)
        patch = {"metadata": {"annotations": {DESIRED: str(want), MAX: str(want + surge)}}}
        for rs in sets:
            if rollout.size(rs):
                await self._api.patch(SETS, rs["metadata"]["namespace"], rs["metadata"]["name"], patch)

    async def _scale_all(self, deployment: dict[str, Any], scales: list[Scale]) -> bool:
        surge, _ = rollout.bounds(deployment)
        want = rollout.desired(deployment)
        namespace = deployment["metadata"]["namespace"]
        for scale in scales:
            patch = {
                "metadata": {"annotations": {DESIRED: str(want), MAX: str(want + surge)}},
                "spec": {"replicas": scale.replicas},
            }
            await self._api.patch(SETS, namespace, scale.name, patch)
            way = "up" if scale.replicas > scale.before else "down"
            message = f"Scaled {way} replica set {scale.name} from {scale.before} to {scale.replicas}"
            self._events.normal(deployment, "ScalingReplicaSet", message)
        return bool(scales)

    async def _forget_old(self, deployment: dict[str, Any], old: list[dict[str, Any]]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit")
        if limit is None:
            limit = 10
        empty = [rs for rs in old if not rollout.size(rs) and not rollout.count(rs, "replicas")]
        empty.sort(key=rollout.revision)
        for rs in empty[: max(0, len(old) - int(limit))]:
            meta = rs["metadata"]
            await delete_quietly(self._api, SETS, meta["namespace"], meta["name"], meta["uid"])

    # --- status --------------------------------------------------------------------------------------

    async def _progress(
        self, deployment: dict[str, Any], reason: str, message: str, revision: str = ""
    ) -> None:
        """Record a step in the Progressing condition at once, before the counters move.

        With `revision`, the annotation goes in the same write: who sees the one sees the other.
        """
        status = dict(deployment.get("status") or {})
        if deployment["spec"].get("progressDeadlineSeconds", 600) is not None:
            value = "False" if reason == "ReplicaSetCreateError" else "True"
            wanted = ("Progressing", value, reason, message)
            status["conditions"] = progress.with_condition(
                status.get("conditions") or (), wanted, datetime.now(UTC)
            )
        await self._put_status(deployment, status, {REVISION: revision} if revision else {})

    async def _put_status(
        self,
        deployment: dict[str, Any],
        status: dict[str, Any],
        annotations: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        meta = deployment["metadata"]
        fresh = self._api.peek(RESOURCE, meta["namespace"], meta["name"])
        if fresh is None or fresh["metadata"]["uid"] != meta["uid"]:
            return
        gone = {key: None for key in fresh.get("status") or {} if key not in status}
        marked = {"annotations": dict(annotations)} if annotations else {}
        patch = {"metadata": {"uid": meta["uid"], **marked}, "status": {**status, **gone}}
        await self._api.patch(RESOURCE, meta["namespace"], meta["name"], patch, subresource="status")
        deployment["status"] = status
        if annotations:
            meta["annotations"] = {**(meta.get("annotations") or {}), **annotations}

    async def _write_status(
        self, deployment: dict[str, Any], sets: list[dict[str, Any]], new: dict[str, Any] | None
    ) -> float | None:
        now = datetime.now(UTC)
        old = deployment.get("status") or {}
        status = progress.counters(deployment, sets, new)
        conditions = list(old.get("conditions") or ())
        conditions = progress.with_condition(
            conditions, progress.available_condition(deployment, status), now
        )
        wanted = progress.progressing_condition(deployment, old, status, new, now)
        if wanted is not None:
            advancing = wanted[2] == "ReplicaSetUpdated"
            conditions = progress.with_condition(conditions, wanted, now, touch=advancing)
        conditions = self._paused(deployment, conditions, now)
        status["conditions"] = conditions
        if status != old:
            await self._put_status(deployment, status)
        return progress.deadline_in(deployment, status, now)

    def _paused(
        self, deployment: dict[str, Any], conditions: list[dict[str, Any]], now: datetime
    ) -> list[dict[str, Any]]:
        present = progress.find({"conditions": conditions}, "Progressing")
        paused = bool(deployment["spec"].get("paused"))
        was_paused = present is not None and present["reason"] == "DeploymentPaused"
        if paused and not was_paused:
            wanted = ("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        elif was_paused and not paused:
            wanted = ("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")
        else:
            return conditions
        return progress.with_condition(conditions, wanted, now)


def _find_new(deployment: dict[str, Any], sets: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The oldest set whose template is the Deployment's (there should be one at most)."""
    ordered = sorted(sets, key=lambda rs: rs["metadata"].get("creationTimestamp", ""))
    template = deployment["spec"]["template"]
    return next((rs for rs in ordered if rollout.same_template(rs["spec"]["template"], template)), None)
