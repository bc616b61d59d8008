"""CustomResourceDefinitions: from a definition to a served resource, and the definition's own conditions.

Pure functions; who acts on them is `definitions`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from localmesh.apiserver import rules
from localmesh.apiserver.errors import Cause, invalid_value, required
from localmesh.apiserver.jsonpath import JsonPath, JsonPathError
from localmesh.apiserver.jsonvalue import JsonObject, child, clone_object, dumps
from localmesh.apiserver.metadata import now_text
from localmesh.apiserver.registry import Resource, version_priority
from localmesh.apiserver.structural import CustomVersion, ScalePaths

KEY = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def resource_of(definition: JsonObject) -> Resource:
    """What a valid definition serves."""
    spec = definition["spec"]
    names = spec["names"]
    served = sorted((v["name"] for v in spec["versions"] if v.get("served")), key=version_priority)
    storage = next(version["name"] for version in spec["versions"] if version.get("storage"))
    versions = tuple(_version(version) for version in spec["versions"])
    return Resource(
        group=spec["group"],
        versions=tuple(served),
        kind=names["kind"],
        plural=names["plural"],
        singular=names.get("singular") or names["kind"].lower(),
        list_kind=names.get("listKind") or f"{names['kind']}List",
        namespaced=spec.get("scope") == "Namespaced",
        storage_version=storage,
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        generation=True,
        custom=versions,
        conversion_webhook=child(spec, "conversion").get("strategy") == "Webhook",
    )


def _version(version: JsonObject) -> CustomVersion:
    schema = child(version, "schema", "openAPIV3Schema")
    subresources = version.get("subresources") or {}
    warning = ""
    if version.get("deprecated"):
        warning = version.get("deprecationWarning") or f"{version['name']} is deprecated"
    return CustomVersion(
        name=version["name"],
        schema=schema,
        status=subresources.get("status") is not None,
        scale=_scale(subresources.get("scale")),
        columns=tuple(version.get("additionalPrinterColumns") or ()),
        selectable=frozenset(row["jsonPath"].lstrip(".") for row in version.get("selectableFields") or ()),
        warning=warning,
        rules=rules.read(schema),
    )


def _scale(scale: JsonObject | None) -> ScalePaths | None:
    if scale is None:
        return None

    def steps(name: str) -> tuple[str, ...]:
        return tuple(step for step in (scale.get(name) or "").split(".") if step)

    return ScalePaths(steps("specReplicasPath"), steps("statusReplicasPath"), steps("labelSelectorPath"))


# --- validation ----------------------------------------------------------------------------------


def validate(definition: JsonObject, old: JsonObject | None) -> list[Cause]:
    spec = child(definition, "spec")
    names = child(spec, "names")
    causes: list[Cause] = []
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    name = definition["metadata"].get("name") or ""
    if name != wanted:
        message = 'must be spec.names.plural+"."+spec.group'
        causes.append(invalid_value("metadata.name", f'"{name}"', message))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(required("spec.scope", "must be Namespaced or Cluster"))
    versions = spec.get("versions") or []
    stored = [version for version in versions if version.get("storage")]
    if len(stored) != 1:
        message = "must have exactly one version marked as storage version"
        causes.append(invalid_value("spec.versions", "[]", message))
    seen = [version.get("name") for version in versions]
    if len(set(seen)) != len(seen):
        causes.append(
            invalid_value("spec.versions", dumps(seen).decode(), "must contain unique version names")
        )
    for position, version in enumerate(versions):
        causes += _validate_version(version, f"spec.versions[{position}]")
    causes += _validate_conversion(child(spec, "conversion"))
    if old is not None:
        causes += _validate_change(spec, child(old, "spec"), definition)
    return causes


def _validate_version(version: JsonObject, path: str) -> list[Cause]:
    causes: list[Cause] = []
    schema = child(version, "schema").get("openAPIV3Schema")
    where = f"{path}.schema.openAPIV3Schema"
    if not schema:
        return [required(where, "schemas are required")]
    if schema.get("type") != "object":
        causes.append(
            invalid_value(f"{where}.type", dumps(schema.get("type")).decode(), "must be object at the root")
        )
    causes += _structural(schema, where)
    causes += _validate_rules(schema, where)
    for position, column in enumerate(version.get("additionalPrinterColumns") or []):
        try:
            JsonPath(column.get("jsonPath") or "")
        except JsonPathError as error:
            field = f"{path}.additionalPrinterColumns[{position}].jsonPath"
            causes.append(invalid_value(field, dumps(column.get("jsonPath")).decode(), str(error)))
    return causes


def _validate_rules(schema: JsonObject, where: str) -> list[Cause]:
    causes = []
    for path, rule in rules.each(schema, where):
        for name in ("rule", "messageExpression"):
            expression = rule.get(name)
            if (name == "rule" or expression) and not rules.unsupported(str(expression or "")):
                try:
                    rules.compiled(str(expression or ""))
                except rules.ExpressionError as error:
                    shown = dumps(expression).decode()
                    causes.append(invalid_value(f"{path}.{name}", shown, f"compilation failed: {error}"))
    return causes


def unchecked_rules(definition: JsonObject) -> Iterator[str]:
    """A warning for every rule that needs what is not supported here."""
    for position, version in enumerate(child(definition, "spec").get("versions") or []):
        schema = child(version, "schema").get("openAPIV3Schema")
        for path, rule in rules.each(schema, f"spec.versions[{position}].schema.openAPIV3Schema"):
            missing = rules.unsupported(str(rule.get("rule") or ""))
            if missing:
                yield f"{path} is not checked: localmesh does not support {missing}"


def _structural(schema: Any, path: str) -> list[Cause]:
    """Every specified value has a type, as upstream demands of structural schemas."""
    causes: list[Cause] = []
    if not isinstance(schema, dict):
        return [invalid_value(path, dumps(schema).decode(), "must be an object")]
    exempt = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not exempt:
        causes.append(required(f"{path}.type", "must not be empty for specified object fields"))
    for name, inner in (schema.get("properties") or {}).items():
        causes += _structural(inner, f"{path}.properties[{name}]")
    if isinstance(schema.get("items"), dict):
        causes += _structural(schema["items"], f"{path}.items")
    elif schema.get("type") == "array":
        causes.append(required(f"{path}.items", "must be specified"))
    if isinstance(schema.get("additionalProperties"), dict):
        causes += _structural(schema["additionalProperties"], f"{path}.additionalProperties")
        if schema.get("properties"):
            causes.append(
                Cause(
                    "FieldValueForbidden",
                    f"{path}.additionalProperties",
                    "Forbidden: additionalProperties and properties are mutual exclusive",
                )
            )
    return causes


def _validate_conversion(conversion: JsonObject) -> list[Cause]:
    strategy = conversion.get("strategy", "None")
    if strategy not in ("None", "Webhook"):
        message = 'supported values: "None", "Webhook"'
        return [
            Cause(
                "FieldValueNotSupported",
                "spec.conversion.strategy",
                f'Unsupported value: "{strategy}": {message}',
            )
        ]
    if strategy == "Webhook":
        config = child(conversion, "webhook", "clientConfig")
        if bool(config.get("url")) == bool(config.get("service")):
            field = "spec.conversion.webhook.clientConfig"
            return [required(field, "exactly one of url or service is required")]
    return []


def _validate_change(spec: JsonObject, before: JsonObject, definition: JsonObject) -> list[Cause]:
    causes = []
    for path in (("group",), ("scope",), ("names", "kind"), ("names", "plural")):
        new: Any = spec
        old: Any = before
        for step in path:
            new, old = new.get(step), old.get(step)
        if new != old:
            causes.append(invalid_value(f"spec.{'.'.join(path)}", dumps(new).decode(), "field is immutable"))
    kept = {version["name"] for version in spec.get("versions") or []}
    for name in child(definition, "status").get("storedVersions") or []:
        if name not in kept:
            message = f"must have at least version {name}: it is stored"
            causes.append(invalid_value("spec.versions", dumps(sorted(kept)).decode(), message))
    return causes


# --- status --------------------------------------------------------------------------------------


def initial_status(definition: JsonObject) -> JsonObject:
    stored = [v["name"] for v in child(definition, "spec").get("versions") or [] if v.get("storage")]
    return {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}


def is_established(definition: JsonObject) -> bool:
    return any(
        row.get("type") == "Established" and row.get("status") == "True"
        for row in child(definition, "status").get("conditions") or []
    )


def condition(obj: JsonObject, kind: str, status: str, reason: str, message: str) -> None:
    """Set a condition of a definition in place, moving lastTransitionTime only when the status changes."""
    rows = obj["status"].get("conditions") or []
    old = next((row for row in rows if row["type"] == kind), None)
    moved = old is None or old["status"] != status
    row = {
        "type": kind,
        "status": status,
        "lastTransitionTime": now_text() if old is None or moved else old["lastTransitionTime"],
        "reason": reason,
        "message": message,
    }
    obj["status"]["conditions"] = [row if one is old else one for one in rows] if old else [*rows, row]


def settle(definition: JsonObject, others: list[JsonObject]) -> JsonObject:
    """The definition with its names judged against `others` of the same group,
    and Established accordingly.
    """
    result = clone_object(definition)
    result.setdefault("status", {})
    names = result["spec"]["names"]
    clash = _clash(names, others)
    if clash:
        condition(result, "NamesAccepted", "False", "NameConflict", clash)
        if not is_established(result):
            condition(result, "Established", "False", "NotAccepted", "not all names are accepted")
    else:
        result["status"]["acceptedNames"] = names
        condition(result, "NamesAccepted", "True", "NoConflicts", "no conflicts found")
        condition(
            result, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted"
        )
    stored = result["status"].get("storedVersions") or []
    storage = next(version["name"] for version in result["spec"]["versions"] if version.get("storage"))
    if storage not in stored:
        result["status"]["storedVersions"] = [*stored, storage]
    return result


def _clash(names: JsonObject, others: list[JsonObject]) -> str:
    mine = {names["plural"], names.get("singular", ""), *(names.get("shortNames") or ())} - {""}
    for other in others:
        theirs = child(other, "status", "acceptedNames")
        taken = {theirs.get("plural"), theirs.get("singular"), *(theirs.get("shortNames") or ())}
        for name in sorted(mine & taken):
            return f'"{name}" is already in use'
        if theirs.get("kind") == names["kind"]:
            return f'"{names["kind"]}" is already in use'
    return ""
