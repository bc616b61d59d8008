"""The verbs, for every kind alike: what create, update, patch and delete mean to an object's life.

It knows metadata, generations, finalizers, preconditions and the order decode → admit → validate → store.
What is particular to a kind is asked of `Strategy`; who may call is decided before, in `handlers`. All
writes go through `_revise` or `create`, which retry when the object changed while a webhook was being
asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Protocol

from localmesh.apiserver import metadata, ownership
from localmesh.apiserver.call import IN_PROCESS, Call, DeleteOptions, ListPage, ListQuery, Target
from localmesh.apiserver.errors import (
    ApiError,
    Cause,
    already_exists,
    bad_request,
    conflict,
    continue_expired,
    forbidden,
    invalid,
    invalid_value,
    not_found,
    revision_too_large,
    success,
)
from localmesh.apiserver.jsonvalue import JsonObject, child, clone_object, dumps, loads, lookup
from localmesh.apiserver.ownership import Owner
from localmesh.apiserver.registry import Registry, Resource
from localmesh.apiserver.store import ChangedError, Item, Key, Store
from localmesh.apiserver.structure import structure_of

ATTEMPTS = 8
"""How often a write is recomputed when the object changes underneath it."""
INCONSISTENT = -1
"""The revision in a token that goes on with whatever is there."""
ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"
DEFAULT_POD_GRACE = 30


class Strategy(Protocol):
    """What is particular to a kind. Every method may raise ApiError."""

    def decode(self, target: Target, obj: JsonObject, call: Call) -> JsonObject:
        """Refuse or prune what the schema does not know, then default;
        returns an object the caller may change.
        """

    def prepare(self, target: Target, obj: JsonObject, old: JsonObject | None) -> None:
        """Fill in what the server decides (addresses, derived fields), in place."""

    def validate(self, target: Target, obj: JsonObject, old: JsonObject | None) -> list[Cause]: ...

    async def convert(
        self, resource: Resource, objects: Sequence[JsonObject], version: str
    ) -> list[JsonObject]:
        """Stored objects in a served version, as the caller's own copies."""

    async def to_storage(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """An object of any served version as it is stored."""

    def begin_deletion(self, target: Target, obj: JsonObject) -> None:
        """Mark an object whose deletion must wait, in place (phase Terminating, clean-up finalizers)."""


class Admission(Protocol):
    """Plug-ins and webhooks. `mutate` returns the object to go on with; both raise ApiError to refuse."""

    async def mutate(
        self, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None, call: Call
    ) -> JsonObject | None: ...

    async def validate(
        self, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None, call: Call
    ) -> None: ...


Mutation = Callable[[JsonObject], JsonObject]
"""Takes a copy of the current object in the request's version, returns the proposed one."""


class Rest:
    def __init__(self, store: Store, registry: Registry, strategy: Strategy, admission: Admission) -> None:
        self.store = store
        self.registry = registry
        self._strategy = strategy
        self._admission = admission

    # --- reading ---------------------------------------------------------------------------------

    async def get(self, target: Target) -> JsonObject:
        return await self.present(target, self._existing(target))

    async def present(self, target: Target, item: Item) -> JsonObject:
        """A stored item in the version of the request, the caller's own copy."""
        if self.stored_shape(target) and item.text:
            return loads(item.text)  # type: ignore[no-any-return]  # the store only holds objects
        converted = await self._strategy.convert(target.resource, [item.value], target.version)
        return converted[0]

    @staticmethod
    def stored_shape(target: Target) -> bool:
        """Whether the request sees objects exactly as they are stored."""
        return target.version == target.resource.storage_version and not target.resource.store_key

    async def page(self, target: Target, query: ListQuery) -> ListPage:
        """One page, in key order; ApiError 410 when a continued or exact list is beyond the window."""
        resource = target.resource
        revision, start = self._list_position(query)
        if revision == self.store.revision:
            items = self.store.items(resource.stored_as, target.namespace or None)
        else:
            items = self._items_at(resource, revision, target, query)
        chosen = [item for item in items if (start is None or item.key > start)]
        if query.labels.requirements:
            chosen = [item for item in chosen if query.labels.matches(item.value["metadata"].get("labels"))]
        if query.fields.requirements:
            chosen = [item for item in chosen if query.fields.matches(item.value)]
        page = chosen[: query.limit] if query.limit > 0 else chosen
        token, remaining = "", None
        if len(page) < len(chosen):
            token = _continue_token(revision, page[-1].key)
            selects = query.labels.requirements or query.fields.requirements
            remaining = None if selects else len(chosen) - len(page)
        return ListPage(await self._present_all(target, page), revision, token, remaining)

    def _list_position(self, query: ListQuery) -> tuple[int, Key | None]:
        current = self.store.revision
        if query.continue_token:
            revision, start = _read_token(query.continue_token)
            return (current if revision == INCONSISTENT else revision), start
        if query.revision is not None and query.revision > current:
            raise revision_too_large(query.revision, current)
        if query.exact and query.revision:
            return query.revision, None
        return current, None

    def _items_at(self, resource: Resource, revision: int, target: Target, query: ListQuery) -> list[Item]:
        try:
            return self.store.items_at(resource.stored_as, revision, target.namespace or None)
        except ApiError as error:
            if not query.continue_token:
                raise
            _, start = _read_token(query.continue_token)
            raise continue_expired(_continue_token(INCONSISTENT, start)) from error

    async def _present_all(self, target: Target, items: Sequence[Item]) -> list[JsonObject]:
        if self.stored_shape(target):
            return [item.value for item in items]
        return await self._strategy.convert(target.resource, [item.value for item in items], target.version)

    def _existing(self, target: Target) -> Item:
        resource = target.resource
        item = self.store.get(resource.stored_as, Key(target.namespace, target.name))
        if item is None:
            raise not_found(resource.plural, resource.group, target.name)
        return item

    # --- creating --------------------------------------------------------------------------------

    async def create(
        self, target: Target, body: JsonObject, call: Call, *, applies: bool = False
    ) -> JsonObject:
        """POST; `applies`: the body is the outcome of a server-side apply and has its managedFields."""
        resource = target.resource
        obj = self._new_object(target, body)
        self._check_namespace(target, obj)
        obj = self._strategy.decode(target, obj, call)
        if resource.has(subresource="status", version=target.version):
            obj.pop("status", None)
        owned = obj["metadata"].get("managedFields") if applies else _owned(target, {}, obj, call)
        metadata.fill(resource, obj, target.namespace)
        _own(obj, owned)
        self._strategy.prepare(target, obj, None)
        admitted = await self._admission.mutate(target, "CREATE", obj, None, call)
        if admitted is not None and admitted is not obj:
            obj = self._strategy.decode(target, admitted, call)
        self._validate(target, obj, None)
        await self._admission.validate(target, "CREATE", obj, None, call)
        return await self._insert(target, obj, call)

    async def _insert(self, target: Target, obj: JsonObject, call: Call) -> JsonObject:
        resource = target.resource
        key = Key(target.namespace, obj["metadata"]["name"])
        if self.store.get(resource.stored_as, key) is not None:
            raise already_exists(resource.plural, resource.group, key.name)
        if call.dry_run:
            return obj
        stored = await self._to_storage(target, obj)
        self._check_namespace(target, stored)
        try:
            item = self.store.put(resource.stored_as, key, stored, None)
        except ChangedError:
            raise already_exists(resource.plural, resource.group, key.name) from None
        return await self.present(target, item)

    def _new_object(self, target: Target, body: JsonObject) -> JsonObject:
        """The body with a metadata object and the right type and namespace, or a refusal."""
        obj = self._typed(target, body)
        meta = obj["metadata"]
        given = meta.get("namespace")
        if target.resource.namespaced and given and given != target.namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if target.name and meta.get("name") not in (None, "", target.name):
            raise _name_mismatch(meta["name"], target.name)
        if target.name:
            meta["name"] = target.name
        return obj

    def _typed(self, target: Target, body: JsonObject) -> JsonObject:
        """A shallow copy with its type checked and set."""
        resource = target.resource
        obj = dict(body)
        wanted = resource.api_version(target.version)
        given, kind = obj.get("apiVersion"), obj.get("kind")
        if given and given != wanted:
            message = (
                f"the API version in the data ({given}) does not match the expected API version ({wanted})"
            )
            raise bad_request(message)
        if kind and kind != resource.kind:
            if resource.is_custom:
                name = lookup(obj, "metadata", "name") or ""
                cause = invalid_value("kind", f'"{kind}"', f"must be {resource.kind}")
                # Upstream judges the rest too, without the defaults, which another kind does not get.
                whole = {**obj, "metadata": dict(child(obj, "metadata"))}
                causes = [cause, *self._strategy.validate(target, whole, None)]
                raise invalid(str(kind), resource.group, str(name), causes)
            raise bad_request(f'{kind} in version "{target.version}" cannot be handled as a {resource.kind}')
        obj["apiVersion"], obj["kind"] = wanted, resource.kind
        meta = obj.get("metadata")
        if meta is not None and not isinstance(meta, dict):
            raise bad_request(f"{resource.kind}: metadata must be an object")
        obj["metadata"] = dict(meta or {})
        return obj

    def _check_namespace(self, target: Target, obj: JsonObject) -> None:
        resource = target.resource
        if not resource.namespaced:
            return
        namespace = self.store.get("namespaces", Key("", target.namespace))
        if namespace is None:
            raise not_found("namespaces", "", target.namespace)
        if "deletionTimestamp" not in namespace.value["metadata"]:
            return
        why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
        error = forbidden(resource.plural, resource.group, obj["metadata"].get("name", ""), why)
        cause = Cause(
            "NamespaceTerminating", "metadata.namespace", f"namespace {target.namespace} is being terminated"
        )
        error.details = {**(error.details or {}), "causes": [cause.as_json()]}
        raise error

    def _validate(self, target: Target, obj: JsonObject, old: JsonObject | None) -> None:
        causes = metadata.validate(target.resource, obj, old) + self._strategy.validate(target, obj, old)
        if causes:
            name = obj["metadata"].get("name") or ""
            raise invalid(target.resource.kind, target.resource.group, name, causes)

    async def _to_storage(self, target: Target, obj: JsonObject) -> JsonObject:
        resource = target.resource
        if self.stored_shape(target):
            return obj
        return await self._strategy.to_storage(resource, obj)

    # --- changing --------------------------------------------------------------------------------

    async def update(self, target: Target, body: JsonObject, call: Call) -> JsonObject:
        """PUT: the whole object, guarded by its resourceVersion."""
        resource = target.resource
        proposed = self._new_object(target, body)
        if resource.is_custom and not proposed["metadata"].get("resourceVersion"):
            self._existing(target)
            cause = invalid_value("metadata.resourceVersion", "0", "must be specified for an update")
            raise invalid(resource.plural, resource.group, target.name, [cause])
        return await self.mutate(target, lambda _current: proposed, call)

    async def mutate(
        self, target: Target, mutation: Mutation, call: Call, *, applies: bool = False
    ) -> JsonObject:
        """PATCH and PUT: apply `mutation` to the current object, again if it changed meanwhile.
        `applies`: it is a server-side apply and says who owns what.
        """
        resource = target.resource
        for _ in range(ATTEMPTS):
            item = self._existing(target)
            current = await self.present(target, item)
            proposed = self._typed(target, mutation(clone_object(current)))
            self._check_preconditions(target, proposed, current)
            try:
                return await self._revise(target, item, current, proposed, call, applies=applies)
            except ChangedError:
                continue  # again; a revision the caller named is refused by the check above then
        raise conflict(resource.plural, resource.group, target.name)

    def _check_preconditions(self, target: Target, proposed: JsonObject, current: JsonObject) -> None:
        resource = target.resource
        meta, before = proposed["metadata"], current["metadata"]
        if meta.get("name") not in (None, "", target.name):
            raise _name_mismatch(meta["name"], target.name)
        revision, uid = meta.get("resourceVersion"), meta.get("uid")
        if revision and revision != before["resourceVersion"]:
            raise conflict(resource.plural, resource.group, target.name)
        if uid and uid != before["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {before['uid']}"
            raise conflict(resource.plural, resource.group, target.name, why)

    async def _revise(
        self,
        target: Target,
        item: Item,
        current: JsonObject,
        proposed: JsonObject,
        call: Call,
        *,
        applies: bool,
    ) -> JsonObject:
        """Take `proposed` through decoding, admission and validation, and store it in place of `item`."""
        new = self._combine(target, current, proposed, call)
        brought = proposed["metadata"].get("managedFields")
        _own(new, brought)
        owned = brought if applies else _owned(target, current, new, call)
        _own(new, owned)
        self._strategy.prepare(target, new, current)
        admitted = await self._admission.mutate(target, "UPDATE", new, current, call)
        if admitted is not None and admitted is not new:
            new = self._combine(target, current, admitted, call)
            _own(new, owned)
        _count_generation(target.resource, new, current)
        self._validate(target, new, current)
        await self._admission.validate(target, "UPDATE", new, current, call)
        stored = await self._to_storage(target, new)
        stored["metadata"]["resourceVersion"] = str(item.revision)
        if call.dry_run:
            return new
        if _finished(target.resource, stored):
            self._remove(target.resource, item)
            return stored
        if stored == item.value:
            return await self.present(target, item)
        return await self.present(target, self.store.put(target.resource.stored_as, item.key, stored, item))

    def _combine(self, target: Target, current: JsonObject, proposed: JsonObject, call: Call) -> JsonObject:
        """What `proposed` may change of `current`: only status through /status, all but status otherwise."""
        resource = target.resource
        if target.subresource == "status":
            decoded = self._strategy.decode(target, proposed, call)
            new = clone_object(current)
            _copy_or_drop("status", decoded, new)
            for key in _CHANGED_WITH_STATUS.get(resource.key, ()):
                _copy_or_drop(key, decoded["metadata"], new["metadata"])
            return new
        if target.subresource == "finalize":
            new = clone_object(current)
            new.setdefault("spec", {})["finalizers"] = list(lookup(proposed, "spec", "finalizers") or [])
            return new
        new = self._strategy.decode(target, proposed, call)
        metadata.keep(new, current)
        if resource.has("status", target.version):
            _copy_or_drop("status", current, new)
        return new

    # --- deleting --------------------------------------------------------------------------------

    async def delete(self, target: Target, options: DeleteOptions, call: Call) -> JsonObject:
        """The object while its deletion waits (finalizers, grace),
        else what upstream answers for the kind.
        """
        resource = target.resource
        for _ in range(ATTEMPTS):
            item = self._existing(target)
            self._check_delete_preconditions(target, item, options)
            current = await self.present(target, item)
            await self._admission.mutate(target, "DELETE", None, current, call)
            await self._admission.validate(target, "DELETE", None, current, call)
            try:
                return await self._delete(target, item, options, call)
            except ChangedError:
                continue
        raise conflict(resource.plural, resource.group, target.name)

    async def delete_collection(
        self, target: Target, query: ListQuery, options: DeleteOptions, call: Call
    ) -> ListPage:
        page = await self.page(target, query)
        for obj in page.items:
            meta = obj["metadata"]
            one = Target(target.resource, target.version, meta.get("namespace", ""), meta["name"])
            try:
                await self.delete(one, options, call)
            except ApiError as error:
                if error.code != 404:
                    raise
        return page

    def _check_delete_preconditions(self, target: Target, item: Item, options: DeleteOptions) -> None:
        resource, meta = target.resource, item.value["metadata"]
        if options.uid and options.uid != meta["uid"]:
            why = (
                f"the UID in the precondition ({options.uid}) does not match the UID in record "
                f"({meta['uid']}). The object might have been deleted and then recreated"
            )
            raise conflict(resource.kind, resource.group, target.name, why)
        if options.resource_version and options.resource_version != meta["resourceVersion"]:
            why = (
                f"the ResourceVersion in the precondition ({options.resource_version}) does not match the "
                f"ResourceVersion in record ({meta['resourceVersion']}). The object might have been modified"
            )
            raise conflict(resource.kind, resource.group, target.name, why)

    async def _delete(self, target: Target, item: Item, options: DeleteOptions, call: Call) -> JsonObject:
        resource = target.resource
        marked = clone_object(item.value)
        grace = _grace_seconds(resource, marked, options)
        _set_propagation(marked, options)
        deleting = "deletionTimestamp" in item.value["metadata"]
        if not deleting:
            self._strategy.begin_deletion(target, marked)
        meta = marked["metadata"]
        if not meta.get("finalizers"):
            meta.pop("finalizers", None)
        if grace == 0 and not _held(resource, marked):
            if not call.dry_run:
                self._remove(resource, item)
            if resource.deletes_to_object:
                return await self.present(target, item)
            return success(resource.plural, resource.group, item.key.name, meta["uid"])
        if not deleting or grace < meta.get("deletionGracePeriodSeconds", 0):
            meta["deletionTimestamp"] = metadata.now_text(grace)
            meta["deletionGracePeriodSeconds"] = grace
        if not deleting and "generation" in meta:
            meta["generation"] += 1
        if call.dry_run or marked == item.value:
            return (await self._strategy.convert(resource, [marked], target.version))[0]
        return await self.present(target, self.store.put(resource.stored_as, item.key, marked, item))

    def _remove(self, resource: Resource, item: Item) -> None:
        self.store.delete(resource.stored_as, item.key, item)


def _owned(target: Target, old: JsonObject, new: JsonObject, call: Call) -> list[JsonObject] | None:
    """managedFields after an update or creation. What the built-in controllers make is not tracked until
    somebody applies it: they write often, and nobody contends with them for it.
    """
    if not old and call.user is IN_PROCESS:
        return None
    resource = target.resource
    owner = Owner(
        call.manager or call.agent,
        "Update",
        resource.api_version(target.version),
        call.through or target.subresource,
    )
    structure = structure_of(resource, target.version)
    return ownership.updated(old, new, structure, owner, metadata.now_text())


def _own(obj: JsonObject, rows: list[JsonObject] | None) -> None:
    if rows:
        obj["metadata"]["managedFields"] = rows
    else:
        obj["metadata"].pop("managedFields", None)


_CHANGED_WITH_STATUS = {"pods": ("labels", "annotations"), "deployments.apps": ("annotations",)}
"""Metadata that upstream lets who writes a status change too: the kubelet, the deployment controller."""


def _copy_or_drop(key: str, source: JsonObject, into: JsonObject) -> None:
    if key in source:
        into[key] = source[key]
    else:
        into.pop(key, None)


def _name_mismatch(given: str, wanted: str) -> ApiError:
    return bad_request(f"the name of the object ({given}) does not match the name on the URL ({wanted})")


def _count_generation(resource: Resource, new: JsonObject, old: JsonObject) -> None:
    """Bump metadata.generation when the desired state changed."""
    if "generation" not in old["metadata"]:
        return
    if resource.is_custom:
        ignored = ("metadata", "status") if resource.has_status else ("metadata",)
        changed = {k: v for k, v in new.items() if k not in ignored} != {
            k: v for k, v in old.items() if k not in ignored
        }
    else:
        changed = any(new.get(key) != old.get(key) for key in _DESIRED)
    if changed:
        new["metadata"]["generation"] = old["metadata"]["generation"] + 1


_DESIRED = ("spec", "webhooks", "endpoints", "ports")


def _held(resource: Resource, obj: JsonObject) -> bool:
    """Whether finalizers keep the object; namespaces have a second list of them in spec."""
    in_spec = lookup(obj, "spec", "finalizers") if resource.key == "namespaces" else None
    return bool(obj["metadata"].get("finalizers") or in_spec)


def _finished(resource: Resource, obj: JsonObject) -> bool:
    """Nothing holds back a deletion that began earlier."""
    meta = obj["metadata"]
    if "deletionTimestamp" not in meta or meta.get("deletionGracePeriodSeconds"):
        return False
    return not _held(resource, obj)


def _grace_seconds(resource: Resource, obj: JsonObject, options: DeleteOptions) -> int:
    """Only pods that run somewhere are deleted gracefully; the node ends it with grace 0."""
    if resource.key != "pods":
        return 0
    if not lookup(obj, "spec", "nodeName") or lookup(obj, "status", "phase") in ("Succeeded", "Failed"):
        return 0
    if options.grace_seconds is not None:
        return max(0, options.grace_seconds)
    given = lookup(obj, "spec", "terminationGracePeriodSeconds")
    return int(given) if given is not None else DEFAULT_POD_GRACE


def _set_propagation(obj: JsonObject, options: DeleteOptions) -> None:
    """Translate propagationPolicy into the finalizers the garbage collector acts on, in place."""
    if options.propagation is None:
        return
    meta = obj["metadata"]
    kept = [name for name in meta.get("finalizers") or [] if name not in (ORPHAN, FOREGROUND)]
    wanted = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND], "Background": []}[options.propagation]
    meta["finalizers"] = kept + wanted


def _continue_token(revision: int, last: Key) -> str:
    return base64.urlsafe_b64encode(dumps([revision, last.namespace, last.name])).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Key]:
    try:
        revision, namespace, name = loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(revision), Key(str(namespace), str(name))
    except (ValueError, TypeError, binascii.Error) as error:
        raise bad_request(f"continue key is not valid: {token!r}") from error
