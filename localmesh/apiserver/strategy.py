"""What is particular to a kind, gathered behind the one interface `rest` knows."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from localmesh.apiserver import conversion, crd, defaults, definitions, rules, structural, types, validate
from localmesh.apiserver.allocate import ServiceAllocator
from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.callout import Callout, CalloutError
from localmesh.apiserver.errors import Cause, bad_request, internal, invalid_value
from localmesh.apiserver.jsonvalue import JsonObject, child, clone_object, dumps
from localmesh.apiserver.ratchet import new_faults
from localmesh.apiserver.registry import Resource
from localmesh.apiserver.store import Key, Store
from localmesh.apiserver.structural import CustomVersion

CONVERSION_SECONDS = 30.0
_RULES_SKIPPED = Cause(
    "FieldValueInvalid",
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; correct the "
    "existing errors to complete validation",
)


class KindStrategy:
    """Dispatches to the built-in tables, or to the schema of a custom resource."""

    def __init__(self, store: Store, allocator: ServiceAllocator, callout: Callout) -> None:
        self._store = store
        self._allocator = allocator
        self._callout = callout

    # --- reading bodies ----------------------------------------------------------------------------

    def decode(self, target: Target, obj: JsonObject, call: Call) -> JsonObject:
        unknown: list[str] = []
        resource = target.resource
        if resource.is_custom:
            result = self._decode_custom(resource.schema_of(target.version), obj, unknown)
        else:
            result = self._decode_builtin(resource, target.version, obj, unknown)
        if resource.key == crd.KEY and not target.subresource:
            for text in crd.unchecked_rules(result):
                call.warn(text)
        if unknown or call.repeated:
            _report(resource, target.version, unknown, call)
        return result

    def _decode_custom(self, version: CustomVersion, obj: JsonObject, unknown: list[str]) -> JsonObject:
        result = structural.prune(obj, version.schema, unknown.append)
        meta = types.conform(obj["metadata"], "V1ObjectMeta", lambda name: unknown.append(f"metadata.{name}"))
        result["metadata"] = meta
        structural.fill_defaults(result, version.schema)
        return result

    def _decode_builtin(
        self, resource: Resource, version: str, obj: JsonObject, unknown: list[str]
    ) -> JsonObject:
        name = types.table().of_kind(resource.api_version(version), resource.kind)
        result = types.conform(obj, name, unknown.append) if name else clone_object(obj)
        result.setdefault("metadata", {})
        default = defaults.DEFAULTS.get(resource.key)
        if default is not None:
            default(result)
        return result

    # --- what the server decides -------------------------------------------------------------------

    def prepare(self, target: Target, obj: JsonObject, old: JsonObject | None) -> None:
        key = target.resource.key
        if target.subresource:
            return
        if old is None:
            start = defaults.INITIAL_STATUS.get(key)
            if start is not None:
                start(obj)
            if key == "jobs.batch":
                defaults.DEFAULTS[key](obj)  # the selector needs the uid, which exists only now
            elif key == crd.KEY:
                obj["status"] = crd.initial_status(obj)
            elif (
                target.resource.stored_as == "events" and target.version == "v1" and not target.resource.group
            ):
                defaults.stamp_event(obj)
        if key == "services":
            self._allocator.assign(obj, old)
        elif key == "namespaces" and old is not None:
            obj["spec"] = old.get("spec", {})

    # --- validation ----------------------------------------------------------------------------------

    def validate(self, target: Target, obj: JsonObject, old: JsonObject | None) -> list[Cause]:
        resource = target.resource
        if resource.is_custom:
            return _validate_custom(target, obj, old)
        if target.subresource:
            return []
        name = types.table().of_kind(resource.api_version(target.version), resource.kind)
        causes = validate.missing_fields(obj, name) if name else []
        if causes:
            return causes
        if resource.key == crd.KEY:
            return crd.validate(obj, old)
        check = validate.VALIDATORS.get(resource.key)
        return check(obj, old) if check is not None else []

    # --- versions ------------------------------------------------------------------------------------

    async def convert(
        self, resource: Resource, objects: Sequence[JsonObject], version: str
    ) -> list[JsonObject]:
        if not resource.is_custom:
            return [conversion.serve(resource, obj, version) for obj in objects]
        wanted = resource.api_version(version)
        others = [obj for obj in objects if obj["apiVersion"] != wanted]
        if not others or not resource.conversion_webhook:
            return [{**clone_object(obj), "apiVersion": wanted} for obj in objects]
        converted = iter(await self._ask_webhook(resource, others, wanted))
        return [clone_object(obj) if obj["apiVersion"] == wanted else next(converted) for obj in objects]

    async def to_storage(self, resource: Resource, obj: JsonObject) -> JsonObject:
        if not resource.is_custom:
            return conversion.store(resource, obj)
        return (await self.convert(resource, [obj], resource.storage_version))[0]

    async def _ask_webhook(
        self, resource: Resource, objects: Sequence[JsonObject], wanted: str
    ) -> list[JsonObject]:
        item = self._store.get(crd.KEY, Key("", resource.key))
        config = child(item.value if item else {}, "spec", "conversion", "webhook", "clientConfig")
        uid = str(uuid.uuid4())
        review = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": list(objects)},
        }
        what = (
            f"conversion webhook for {resource.api_version(resource.storage_version)}, Kind={resource.kind}"
        )
        try:
            answer = await self._callout.post(config, review, CONVERSION_SECONDS)
        except CalloutError as error:
            raise internal(f"{what} failed: {error}") from error
        response = child(answer if isinstance(answer, dict) else {}, "response")
        result = child(response, "result")
        if response.get("uid") != uid or result.get("status") != "Success":
            raise internal(f"{what} failed: {result.get('message') or 'unexpected answer'}")
        return _checked(what, objects, response.get("convertedObjects"), wanted)

    def begin_deletion(self, target: Target, obj: JsonObject) -> None:
        if target.resource.key == "namespaces":
            obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        elif target.resource.key == crd.KEY:
            definitions.mark_terminating(obj)


def _report(resource: Resource, version: str, unknown: list[str], call: Call) -> None:
    """Unknown and repeated fields as fieldValidation asks: a refusal, warnings, or nothing."""
    texts = [f'unknown field "{path}"' for path in dict.fromkeys(unknown)]
    texts += [f'duplicate field "{path}"' for path in call.repeated]
    if call.validation == "Strict":
        shown = ", ".join(texts)
        raise bad_request(
            f'{resource.kind} in version "{version}" cannot be handled as a {resource.kind}: strict decoding '
            f"error: {shown}"
        )
    if call.validation == "Warn":
        for text in texts:
            call.warn(text)


def _validate_custom(target: Target, obj: JsonObject, old: JsonObject | None) -> list[Cause]:
    version = target.resource.schema_of(target.version)
    causes = structural.validate(obj, version.schema)
    if old is not None:
        causes = new_faults(causes, obj, old, version.schema)
    causes += _validate_scale(version, obj)
    # Duplicates in a list are found apart from the schema upstream, and do not keep rules from being checked.
    incomplete = any(cause.reason != "FieldValueDuplicate" for cause in causes)
    if version.rules is None:
        return causes
    if not incomplete and obj["metadata"].get("name"):
        return causes + list(rules.broken(obj, version.rules, old))[: structural.MAX_CAUSES]
    return [*causes, _RULES_SKIPPED] if old is None else causes


def _validate_scale(version: CustomVersion, obj: JsonObject) -> list[Cause]:
    if version.scale is None:
        return []
    place = version.scale.spec_replicas
    replicas = child(obj, *place[:-1]).get(place[-1])
    field = "." + ".".join(place)
    if replicas is None:
        return []
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        kind = structural.type_name(replicas)
        return [
            invalid_value(
                field, "0", f"{field} accessor error: {replicas} is of the type {kind}, expected int64"
            )
        ]
    if replicas < 0:
        return [invalid_value(field, dumps(replicas).decode(), "should be a non-negative integer")]
    return []


def _checked(what: str, objects: Sequence[JsonObject], converted: object, wanted: str) -> list[JsonObject]:
    """The webhook's objects, if they are the same objects in the wanted version."""
    if not isinstance(converted, list) or len(converted) != len(objects):
        raise internal(f"{what} failed: expected {len(objects)} converted objects")
    for before, after in zip(objects, converted, strict=True):
        if (
            not isinstance(after, dict)
            or after.get("apiVersion") != wanted
            or after.get("kind") != before["kind"]
        ):
            raise internal(f"{what} failed: an object has the wrong apiVersion or kind")
        meta, kept = child(after, "metadata"), before["metadata"]
        if (meta.get("name"), meta.get("namespace"), meta.get("uid")) != (
            kept.get("name"),
            kept.get("namespace"),
            kept.get("uid"),
        ):
            raise internal(f"{what} failed: an object changed its identity")
        # Only labels and annotations may be converted.
        after["metadata"] = {**kept, **{key: meta[key] for key in ("labels", "annotations") if key in meta}}
    return converted
