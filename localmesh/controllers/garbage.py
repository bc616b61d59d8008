"""Garbage collection by ownerReferences: background, foreground and orphaning deletion.

A graph of uids is kept from watches on every resource, custom ones included. Whether an owner exists is
always asked of the API (by uid), never concluded from the graph alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from localmesh.apiserver.api import Api
from localmesh.apiserver.errors import ApiError
from localmesh.controllers.loop import ControlLoop, Key
from localmesh.controllers.owners import current, delete_quietly
from localmesh.tasks import TaskGroup, keep_running

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
IGNORED: Final = frozenset({"events", "events.events.k8s.io", "leases.coordination.k8s.io", "bindings"})
RESYNC_S: Final = 1.0
"""How soon a new custom resource is watched."""


@dataclass(frozen=True, slots=True)
class _Node:
    resource: str
    namespace: str
    name: str
    uid: str
    owners: tuple[Mapping[str, Any], ...]
    deleting: bool
    finalizers: tuple[str, ...]


class GarbageCollector:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._nodes: dict[str, _Node] = {}
        self._dependents: dict[str, set[str]] = {}
        self._watches = TaskGroup("garbage watches")
        self._watched: dict[str, asyncio.Task[Any]] = {}
        self.loop = ControlLoop("garbage", self.reconcile)

    def start(self) -> None:
        self._watch_all()
        self.loop.start(("resources", self._follow_resources))

    async def stop(self) -> None:
        await self.loop.stop()
        await self._watches.stop()

    async def _follow_resources(self) -> None:
        while True:
            await asyncio.sleep(RESYNC_S)
            self._watch_all()

    def _watch_all(self) -> None:
        served = {
            resource.key: resource.stored_as
            for resource in self._api.resources()
            if resource.key not in IGNORED and "watch" in resource.verbs
        }
        for gone in [key for key in self._watched if key not in served]:
            self._watched.pop(gone).cancel()
        for key in served:
            if key not in self._watched:
                self._watched[key] = self._watches.start(
                    key, keep_running(f"garbage {key}", self._follower(key))
                )

    def _follower(self, resource: str) -> Any:
        async def follow() -> None:
            async for kind, obj in self._api.watch(resource):
                self._on_event(resource, kind, obj)

        return follow

    def _on_event(self, resource: str, kind: str, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        uid = meta["uid"]
        old = self._nodes.pop(uid, None)
        for owner in old.owners if old else ():
            self._dependents.get(owner["uid"], set()).discard(uid)
        if kind == "DELETED":
            for dependent in self._dependents.get(uid, ()):
                self.loop.add(("", dependent))
            for owner in old.owners if old else ():  # an owner may wait for its last dependent
                self.loop.add(("", owner["uid"]))
            if not self._dependents.get(uid):
                self._dependents.pop(uid, None)
            return
        owners = tuple(owner for owner in meta.get("ownerReferences") or () if owner.get("uid"))
        node = _Node(
            resource,
            meta.get("namespace") or "",
            meta["name"],
            uid,
            owners,
            "deletionTimestamp" in meta,
            tuple(meta.get("finalizers") or ()),
        )
        self._nodes[uid] = node
        for owner in owners:
            self._dependents.setdefault(owner["uid"], set()).add(uid)
        if owners or (node.deleting and (FOREGROUND in node.finalizers or ORPHAN in node.finalizers)):
            self.loop.add(("", uid))

    async def reconcile(self, key: Key) -> float | None:
        """`key` is ("", uid)."""
        node = self._nodes.get(key[1])
        if node is None:
            return None
        obj = await current(self._api, node.resource, node.namespace, node.name)
        if obj is None or obj["metadata"]["uid"] != node.uid:
            return None
        if "deletionTimestamp" in obj["metadata"]:
            finalizers = obj["metadata"].get("finalizers") or ()
            if ORPHAN in finalizers:
                await self._orphan_dependents(node)
                await self._drop_finalizer(node, obj, ORPHAN)
            elif FOREGROUND in finalizers:
                await self._delete_dependents(node, obj)
            return None
        if node.owners:
            await self._check_owners(node, obj)
        return None

    async def _check_owners(self, node: _Node, obj: dict[str, Any]) -> None:
        """Delete the object when all its owners are gone, else drop references to those that are."""
        states = [(owner, self._state(node, owner)) for owner in obj["metadata"].get("ownerReferences") or ()]
        alive = [owner for owner, state in states if state == "alive"]
        waiting = [owner for owner, state in states if state == "waiting"]
        gone = [owner for owner, state in states if state == "gone"]
        if not gone and not waiting:
            return
        if alive:
            patch = {"metadata": {"uid": node.uid, "ownerReferences": alive}}
            await self._api.patch(node.resource, node.namespace or None, node.name, patch)
            return
        policy = "Foreground" if waiting and self._dependents.get(node.uid) else "Background"
        await delete_quietly(self._api, node.resource, node.namespace or None, node.name, node.uid, policy)

    def _state(self, node: _Node, owner: Mapping[str, Any]) -> str:
        """alive, gone, or waiting (in foreground deletion)."""
        resource = self._api.resource_of_kind(owner.get("apiVersion", ""), owner.get("kind", ""))
        if resource is None:
            return "alive"  # its kind is not served now: never delete on a guess
        namespaced = any(known.key == resource and known.namespaced for known in self._api.resources())
        if namespaced and not node.namespace:
            return "alive"  # a cluster-scoped object cannot have a namespaced owner: left alone
        found = self._api.peek(resource, node.namespace if namespaced else None, owner["name"])
        if found is None or found["metadata"]["uid"] != owner["uid"]:
            return "gone"
        foreground = FOREGROUND in (found["metadata"].get("finalizers") or ())
        return "waiting" if "deletionTimestamp" in found["metadata"] and foreground else "alive"

    async def _delete_dependents(self, node: _Node, obj: dict[str, Any]) -> None:
        """Foreground: dependents first, and the object once none that blocks is left."""
        blocking = False
        for uid in list(self._dependents.get(node.uid, ())):
            dependent = self._nodes.get(uid)
            if dependent is None:
                continue
            owner = next((item for item in dependent.owners if item["uid"] == node.uid), {})
            blocking = blocking or bool(owner.get("blockOwnerDeletion"))
            self.loop.add(("", uid))
        if not blocking:
            await self._drop_finalizer(node, obj, FOREGROUND)

    async def _orphan_dependents(self, node: _Node) -> None:
        for uid in list(self._dependents.get(node.uid, ())):
            dependent = self._nodes.get(uid)
            if dependent is None:
                continue
            owners = [dict(owner) for owner in dependent.owners if owner["uid"] != node.uid]
            patch = {"metadata": {"uid": uid, "ownerReferences": owners or None}}
            try:
                await self._api.patch(dependent.resource, dependent.namespace or None, dependent.name, patch)
            except ApiError as error:
                if error.code not in (404, 409):
                    raise

    async def _drop_finalizer(self, node: _Node, obj: dict[str, Any], finalizer: str) -> None:
        meta = obj["metadata"]
        left = [name for name in meta.get("finalizers") or () if name != finalizer]
        patch = {
            "metadata": {
                "uid": node.uid,
                "resourceVersion": meta["resourceVersion"],
                "finalizers": left or None,
            }
        }
        try:
            await self._api.patch(node.resource, node.namespace or None, node.name, patch)
        except ApiError as error:
            if error.code != 404:
                raise
