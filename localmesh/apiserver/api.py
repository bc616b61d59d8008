"""The API as the controllers and the node of this process use it: the same verbs as over HTTP, without HTTP.

Resources are named `plural[.group]` ("pods", "deployments.apps") and served in their storage version. Objects
handed out are the caller's own; objects handed in are not kept. Every failure is an `ApiError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from localmesh.apiserver import patch as patches
from localmesh.apiserver.call import Call, DeleteOptions, ListQuery, Propagation, Target
from localmesh.apiserver.errors import ApiError, not_found
from localmesh.apiserver.jsonvalue import JsonObject, clone_object, loads
from localmesh.apiserver.registry import Resource
from localmesh.apiserver.rest import Rest
from localmesh.apiserver.selectors import parse_fields, parse_labels
from localmesh.apiserver.store import Key

__all__ = ["Api", "ApiError"]

Objects = list[JsonObject]
Events = list[tuple[str, JsonObject]]


class Api:
    """In-process client. Calls are made as system:masters and pass defaulting, admission and validation."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    @property
    def revision(self) -> int:
        """The newest resourceVersion given out."""
        return self._rest.store.revision

    def serves(self, resource: str) -> bool:
        """Whether the resource exists (custom ones appear with their definition)."""
        return self._rest.registry.get(resource) is not None

    def resources(self) -> list[Resource]:
        """Every resource served now, also custom ones; `.key` is the name used here."""
        return list(self._rest.registry)

    def resource_of_kind(self, api_version: str, kind: str) -> str | None:
        """`plural[.group]` of an apiVersion and kind (an ownerReference, say); None if it is not served."""
        group, _, version = api_version.rpartition("/")
        found = self._rest.registry.of_kind(group, version, kind)
        return found.key if found else None

    def peek(self, resource: str, namespace: str | None, name: str) -> JsonObject | None:
        """The stored object without a copy, None if absent: for reading only, never to be changed."""
        item = self._rest.store.get(self._resource(resource).stored_as, Key(namespace or "", name))
        return item.value if item else None

    def peek_all(self, resource: str, namespace: str | None = None) -> Objects:
        """The stored objects in key order without copies: for reading only, never to be changed."""
        return [item.value for item in self._rest.store.items(self._resource(resource).stored_as, namespace)]

    async def get(self, resource: str, namespace: str | None, name: str) -> JsonObject:
        return await self._rest.get(self._target(resource, namespace, name))

    async def list(
        self,
        resource: str,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Objects:
        """Matching objects in key order; `namespace` None means all of them."""
        target = self._target(resource, namespace)
        fields = parse_fields(field_selector, target.resource.selectable.__contains__)
        page = await self._rest.page(target, ListQuery(parse_labels(label_selector), fields))
        return [clone_object(item) for item in page.items]

    async def create(self, resource: str, namespace: str | None, obj: JsonObject) -> JsonObject:
        return await self._rest.create(self._target(resource, namespace), clone_object(obj), Call())

    async def update(
        self, resource: str, namespace: str | None, name: str, obj: JsonObject, subresource: str | None = None
    ) -> JsonObject:
        """Replace; a resourceVersion in `obj` that is not current raises ApiError 409."""
        target = self._target(resource, namespace, name, subresource)
        return await self._rest.update(target, clone_object(obj), Call())

    async def patch(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        patch: JsonObject,
        subresource: str | None = None,
    ) -> JsonObject:
        """Apply a JSON merge patch (RFC 7396)."""
        target = self._target(resource, namespace, name, subresource)

        def apply(current: JsonObject) -> JsonObject:
            merged: JsonObject = patches.merge(current, patch)
            return merged

        return await self._rest.mutate(target, apply, Call())

    async def delete(
        self,
        resource: str,
        namespace: str | None,
        name: str,
        *,
        propagation: Propagation | None = None,
        grace_seconds: int | None = None,
        uid: str | None = None,
    ) -> JsonObject:
        """Delete, or begin to when finalizers or a pod's grace period hold it back."""
        options = DeleteOptions(grace_seconds=grace_seconds, propagation=propagation, uid=uid)
        return await self._rest.delete(self._target(resource, namespace, name), options, Call())

    async def watch(
        self, resource: str, namespace: str | None = None
    ) -> AsyncIterator[tuple[str, JsonObject]]:
        """ADDED for everything there is, then ADDED, MODIFIED and DELETED as they happen; never ends by
        itself.

        A reader that falls behind the window of kept changes is brought up to date with the difference
        between what it was told and what is there now; for objects that vanished meanwhile it gets their
        metadata only.
        """
        found = self._resource(resource)
        store, stored_as = self._rest.store, found.stored_as
        told: dict[Key, str] = {}
        with store.waiting(stored_as) as written:
            position = store.position(stored_as)
            for item in store.items(stored_as, namespace):
                told[item.key] = _uid(item.value)
                yield "ADDED", loads(item.text)
            while True:
                written.clear()
                try:
                    changes = store.changes(stored_as, position)
                except ApiError:
                    position = store.position(stored_as)
                    for kind, obj in self._catch_up(found, namespace, told):
                        yield kind, obj
                    continue
                position += len(changes)
                for change in changes:
                    key = change.item.key
                    if namespace is not None and key.namespace != namespace:
                        continue
                    if change.kind == "DELETED":
                        told.pop(key, None)
                    else:
                        told[key] = _uid(change.item.value)
                    yield change.kind, loads(change.item.text)
                if not changes:
                    await written.wait()

    def _catch_up(self, resource: Resource, namespace: str | None, told: dict[Key, str]) -> Events:
        items = {item.key: item for item in self._rest.store.items(resource.stored_as, namespace)}
        events: Events = []
        for key, uid in list(told.items()):
            if key not in items or _uid(items[key].value) != uid:
                del told[key]
                events.append(("DELETED", _tombstone(resource, key, uid)))
        for key, item in items.items():
            events.append(("MODIFIED" if key in told else "ADDED", loads(item.text)))
            told[key] = _uid(item.value)
        return events

    def _resource(self, key: str) -> Resource:
        found = self._rest.registry.get(key)
        if found is None:
            raise not_found("resource type", "", key)
        return found

    def _target(
        self, key: str, namespace: str | None, name: str = "", subresource: str | None = None
    ) -> Target:
        resource = self._resource(key)
        scope = (namespace or "") if resource.namespaced else ""
        return Target(resource, resource.storage_version, scope, name, subresource or "")


def _uid(obj: JsonObject) -> str:
    return str(obj["metadata"]["uid"])


def _tombstone(resource: Resource, key: Key, uid: str) -> JsonObject:
    meta = {"name": key.name, "uid": uid, **({"namespace": key.namespace} if key.namespace else {})}
    return {
        "apiVersion": resource.api_version(resource.storage_version),
        "kind": resource.kind,
        "metadata": meta,
    }
