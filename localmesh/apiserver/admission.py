"""Mutating and validating admission webhooks: which ones care about a request, what they are asked, what
counts.

Configurations are read from the store and compiled when they change. Mutating webhooks run one after
another in order of configuration and name, once more when a later one changed the object and they ask for
reinvocation; validating ones run together.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from localmesh.apiserver import patch, selectors
from localmesh.apiserver.call import Call, Target
from localmesh.apiserver.callout import Callout, CalloutError
from localmesh.apiserver.errors import ApiError, internal
from localmesh.apiserver.jsonvalue import JsonObject, child, loads
from localmesh.apiserver.registry import Resource
from localmesh.apiserver.rest import Strategy
from localmesh.apiserver.selectors import LabelSelector
from localmesh.apiserver.store import Change, Key, Store

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
_EXEMPT = frozenset({MUTATING, VALIDATING})
"""Webhooks are never asked about these, or a broken one could not be removed."""


@dataclass(frozen=True, slots=True)
class Rule:
    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: frozenset[str]
    scope: str

    def covers(self, operation: str, resource: Resource, version: str, subresource: str) -> bool:
        return (
            not self.operations.isdisjoint(("*", operation))
            and not self.groups.isdisjoint(("*", resource.group))
            and not self.versions.isdisjoint(("*", version))
            and self._covers_resource(resource.plural, subresource)
            and self.scope in ("*", "Namespaced" if resource.namespaced else "Cluster")
        )

    def _covers_resource(self, plural: str, subresource: str) -> bool:
        if not subresource:
            return not self.resources.isdisjoint(("*", "*/*", plural))
        wanted = (f"{plural}/{subresource}", f"*/{subresource}", f"{plural}/*", "*/*")
        return not self.resources.isdisjoint(wanted)


@dataclass(frozen=True, slots=True)
class Webhook:
    """One entry of a configuration, compiled."""

    configuration: str
    name: str
    config: JsonObject
    rules: tuple[Rule, ...]
    namespaces: LabelSelector
    objects: LabelSelector
    fail_open: bool
    seconds: float
    equivalent: bool
    reinvoke: bool

    def version_for(self, operation: str, target: Target) -> str | None:
        """The version in which the webhook wants to see the request; None if it does not."""
        candidates = [target.version]
        if self.equivalent:
            candidates += [version for version in target.resource.versions if version != target.version]
        for version in candidates:
            if any(
                rule.covers(operation, target.resource, version, target.subresource) for rule in self.rules
            ):
                return version
        return None


def compile_webhooks(configuration: JsonObject) -> Iterator[Webhook]:
    for hook in configuration.get("webhooks") or []:
        rules = tuple(
            Rule(
                frozenset(rule.get("operations") or ()),
                frozenset(rule.get("apiGroups") or ()),
                frozenset(rule.get("apiVersions") or ()),
                frozenset(rule.get("resources") or ()),
                rule.get("scope", "*"),
            )
            for rule in hook.get("rules") or []
        )
        yield Webhook(
            configuration["metadata"]["name"],
            hook["name"],
            hook.get("clientConfig") or {},
            rules,
            selectors.from_json(hook.get("namespaceSelector")),
            selectors.from_json(hook.get("objectSelector")),
            hook.get("failurePolicy") == "Ignore",
            float(hook.get("timeoutSeconds") or 10),
            hook.get("matchPolicy") != "Exact",
            hook.get("reinvocationPolicy") == "IfNeeded",
        )


class Webhooks:
    """The Admission of `rest`."""

    def __init__(self, store: Store, callout: Callout) -> None:
        self._store = store
        self._callout = callout
        self._strategy: Strategy | None = None
        self._compiled: dict[str, tuple[Webhook, ...]] = {}
        store.on_change(self._changed)

    def convert_with(self, strategy: Strategy) -> None:
        """How objects are shown in another version to webhooks that ask for it."""
        self._strategy = strategy

    async def mutate(
        self, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None, call: Call
    ) -> JsonObject | None:
        """`obj` itself when nothing changed it."""
        hooks = self._concerned(MUTATING, target, operation, obj, old)
        if not hooks:
            return obj
        current = obj
        changed_after: dict[int, bool] = {}
        for position, (hook, version) in enumerate(hooks):
            result = await self._mutate_once(hook, version, target, operation, current, old, call)
            if result is not current:
                current = result
                for earlier in range(position):
                    changed_after[earlier] = True
        for position, (hook, version) in enumerate(hooks):
            if hook.reinvoke and changed_after.get(position):
                current = await self._mutate_once(hook, version, target, operation, current, old, call)
        return current

    async def validate(
        self, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None, call: Call
    ) -> None:
        hooks = self._concerned(VALIDATING, target, operation, obj, old)
        if not hooks:
            return
        asked = [self._ask(hook, version, target, operation, obj, old, call) for hook, version in hooks]
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    # --- which ones ----------------------------------------------------------------------------------

    def _concerned(
        self, kind: str, target: Target, operation: str, obj: JsonObject | None, old: JsonObject | None
    ) -> list[tuple[Webhook, str]]:
        if target.resource.key in _EXEMPT:
            return []
        hooks = self._webhooks(kind)
        if not hooks:
            return []
        labels = self._namespace_labels(target, obj or old)
        seen = [(one["metadata"].get("labels") or {}) for one in (obj, old) if one is not None]
        found = []
        for hook in hooks:
            version = hook.version_for(operation, target)
            if version is None or (labels is not None and not hook.namespaces.matches(labels)):
                continue
            if any(hook.objects.matches(one) for one in seen):
                found.append((hook, version))
        return found

    def _namespace_labels(self, target: Target, obj: JsonObject | None) -> dict[str, str] | None:
        """Labels the namespaceSelector looks at; None where it does not apply (cluster-scoped objects)."""
        if target.resource.key == "namespaces":
            return ((obj or {}).get("metadata") or {}).get("labels") or {}
        if not target.resource.namespaced:
            return None
        item = self._store.get("namespaces", Key("", target.namespace))
        return (item.value["metadata"].get("labels") or {}) if item else {}

    def _webhooks(self, kind: str) -> tuple[Webhook, ...]:
        found = self._compiled.get(kind)
        if found is None:
            found = tuple(hook for item in self._store.items(kind) for hook in compile_webhooks(item.value))
            self._compiled[kind] = found
        return found

    def _changed(self, resource: str, _change: Change) -> None:
        if resource in _EXEMPT:
            self._compiled.pop(resource, None)

    # --- asking --------------------------------------------------------------------------------------

    async def _mutate_once(
        self,
        hook: Webhook,
        version: str,
        target: Target,
        operation: str,
        obj: JsonObject | None,
        old: JsonObject | None,
        call: Call,
    ) -> JsonObject | None:
        response = await self._ask(hook, version, target, operation, obj, old, call)
        text = response.get("patch") if response else None
        if not text or obj is None:
            return obj
        try:
            operations = loads(base64.b64decode(text))
            shown = await self._shown(target, obj, version)
            result = patch.json_patch(shown, operations)
        except (ValueError, binascii.Error, ApiError) as error:
            if hook.fail_open:
                return obj
            raise internal(
                f'failed calling webhook "{hook.name}": its patch does not apply: {error}'
            ) from error
        if result == shown:
            return obj
        return await self._shown(target, result, target.version)

    async def _shown(self, target: Target, obj: JsonObject, version: str) -> JsonObject:
        wanted = target.resource.api_version(version)
        if obj.get("apiVersion") == wanted or self._strategy is None:
            return obj
        return (await self._strategy.convert(target.resource, [obj], version))[0]

    async def _ask(
        self,
        hook: Webhook,
        version: str,
        target: Target,
        operation: str,
        obj: JsonObject | None,
        old: JsonObject | None,
        call: Call,
    ) -> JsonObject:
        """The response of one webhook, {} when it failed and may be ignored. ApiError when it says no."""
        uid = str(uuid.uuid4())
        try:
            review = await self._review(uid, version, target, operation, obj, old, call)
            answer = await self._callout.post(hook.config, review, hook.seconds)
            response = child(answer if isinstance(answer, dict) else {}, "response")
            if response.get("uid") != uid or not isinstance(response.get("allowed"), bool):
                raise CalloutError("the answer is no AdmissionReview response to our request")
        except CalloutError as error:
            if hook.fail_open:
                return {}
            raise internal(
                f'failed calling webhook "{hook.name}": failed to call webhook: {error}'
            ) from error
        for warning in response.get("warnings") or ():
            call.warn(str(warning))
        if not response["allowed"]:
            raise _denied(hook, child(response, "status"))
        return response

    async def _review(
        self,
        uid: str,
        version: str,
        target: Target,
        operation: str,
        obj: JsonObject | None,
        old: JsonObject | None,
        call: Call,
    ) -> JsonObject:
        resource = target.resource
        kind = {"group": resource.group, "version": version, "kind": resource.kind}
        plural = {"group": resource.group, "version": version, "resource": resource.plural}
        meta = (obj or old or {}).get("metadata") or {}
        request: JsonObject = {
            "uid": uid,
            "kind": kind,
            "resource": plural,
            "requestKind": {**kind, "version": target.version},
            "requestResource": {**plural, "version": target.version},
            "name": meta.get("name") or target.name,
            "operation": operation,
            "userInfo": call.user.as_json(),
            "object": await self._shown(target, obj, version) if obj is not None else None,
            "oldObject": await self._shown(target, old, version) if old is not None else None,
            "dryRun": call.dry_run,
            "options": None,
        }
        if target.namespace:
            request["namespace"] = target.namespace
        elif resource.key == "namespaces":
            request["namespace"] = meta.get("name") or target.name
        if target.subresource:
            request["subResource"] = request["requestSubResource"] = target.subresource
        return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def _denied(hook: Webhook, status: JsonObject) -> ApiError:
    code = status.get("code") if isinstance(status.get("code"), int) else 400
    assert isinstance(code, int)
    said = status.get("message") or status.get("reason") or "without explanation"
    shown = f": {said}" if status.get("message") or status.get("reason") else f" {said}"
    message = f'admission webhook "{hook.name}" denied the request{shown}'
    reason = status.get("reason") or ("Forbidden" if code == 403 else "")
    return ApiError(code if code >= 400 else 400, str(reason), message, status.get("details"))
