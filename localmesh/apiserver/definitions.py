"""Acts on CustomResourceDefinitions: accepts names, serves and withdraws resources, clears up before
deletion.

It follows the store and writes only status and the clean-up finalizer, a moment after the change that asks
for it.
"""

from __future__ import annotations

import asyncio

from localmesh.apiserver import crd
from localmesh.apiserver.call import Call, DeleteOptions, Target
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.jsonvalue import JsonObject, child, clone_object
from localmesh.apiserver.metadata import now_text
from localmesh.apiserver.ownership import Owner, updated
from localmesh.apiserver.registry import Registry
from localmesh.apiserver.rest import Rest
from localmesh.apiserver.store import Change, Item, Key
from localmesh.apiserver.structure import kind_structure
from localmesh.apiserver.tasks import TaskGroup

MANAGER = "kube-apiserver"
"""Who owns the status of definitions, as upstream."""


class Definitions:
    def __init__(self, rest: Rest, registry: Registry, tasks: TaskGroup) -> None:
        self._rest = rest
        self._store = rest.store
        self._registry = registry
        self._tasks = tasks
        self._terminating: dict[str, Key] = {}  # resource key → its definition
        self._store.on_change(self._changed)

    def load(self) -> None:
        """Serve what was established before a restart, and go on with what was not finished."""
        for item in self._store.items(crd.KEY):
            if crd.is_established(item.value):
                self._registry.add(crd.resource_of(item.value))
            self._later(item.key)

    def _changed(self, resource: str, change: Change) -> None:
        if resource == crd.KEY:
            if change.kind == "DELETED":
                self._registry.remove(change.item.key.name)
                self._terminating.pop(change.item.key.name, None)
                self._store.wake(change.item.key.name)
            else:
                self._later(change.item.key)
        elif resource in self._terminating and change.kind == "DELETED":
            self._later(self._terminating[resource])

    def _later(self, key: Key) -> None:
        asyncio.get_running_loop().call_soon(self._settle, key)

    def _settle(self, key: Key) -> None:
        item = self._store.get(crd.KEY, key)
        if item is None:
            return
        if "deletionTimestamp" in item.value["metadata"]:
            self._terminate(item)
            return
        others = [
            other.value
            for other in self._store.items(crd.KEY)
            if other.key != key and other.value["spec"]["group"] == item.value["spec"]["group"]
        ]
        settled = crd.settle(item.value, others)
        if crd.is_established(settled):
            self._registry.add(crd.resource_of(settled))
        if settled != item.value:
            self._store.put(crd.KEY, key, _owned(item.value, settled), item)

    def _terminate(self, item: Item) -> None:
        finalizers = item.value["metadata"].get("finalizers") or []
        if crd.CLEANUP_FINALIZER not in finalizers:
            return
        if self._store.count(item.key.name) == 0:
            self._finish(item)
        elif item.key.name not in self._terminating:
            self._terminating[item.key.name] = item.key
            self._tasks.start(f"clear {item.key.name}", self._clear(item.value))

    def _finish(self, item: Item) -> None:
        kept = [name for name in item.value["metadata"]["finalizers"] if name != crd.CLEANUP_FINALIZER]
        if not kept:
            self._store.delete(crd.KEY, item.key, item)
            return
        value = clone_object(item.value)
        value["metadata"]["finalizers"] = kept
        crd.condition(value, "Terminating", "False", "InstanceDeletionCompleted", "removed all instances")
        self._store.put(crd.KEY, item.key, value, item)

    async def _clear(self, definition: JsonObject) -> None:
        """Delete every instance; those with finalizers go when these are gone, which `_changed` sees."""
        resource = crd.resource_of(definition)
        for item in self._store.items(resource.key):
            target = Target(resource, resource.storage_version, item.key.namespace, item.key.name)
            try:
                await self._rest.delete(target, DeleteOptions(), Call())
            except ApiError as error:
                if error.code not in (404, 409):
                    raise


def _owned(old: JsonObject, new: JsonObject) -> JsonObject:
    """`new` with its conditions and names owned by the API server, if owners are tracked."""
    owner = Owner(MANAGER, "Update", new["apiVersion"], "status")
    rows = updated(old, new, kind_structure(new["apiVersion"], new["kind"]), owner, now_text())
    return {**new, "metadata": {**new["metadata"], "managedFields": rows}} if rows else new


def mark_terminating(definition: JsonObject) -> None:
    """What DELETE on a definition does first, in place."""
    meta = definition["metadata"]
    finalizers = meta.get("finalizers") or []
    if crd.CLEANUP_FINALIZER not in finalizers:
        meta["finalizers"] = [*finalizers, crd.CLEANUP_FINALIZER]
    definition["status"] = dict(child(definition, "status"))
    message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    crd.condition(definition, "Terminating", "True", "InstanceDeletionPending", message)
