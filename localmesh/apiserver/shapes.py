"""How lists of a kind merge: from the patch table for built-in kinds,
from list-type annotations for custom ones.
"""

from __future__ import annotations

from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.patch import OPAQUE, REPLACE, RULES, Rule, Shape
from localmesh.apiserver.registry import Resource
from localmesh.apiserver.types import table

_META = "V1ObjectMeta"


def shape_of(resource: Resource, version: str) -> Shape:
    if resource.is_custom:
        return _custom_root(resource.schema_of(version).schema)
    name = table().of_kind(resource.api_version(version), resource.kind)
    return builtin_shape(name) if name else OPAQUE


def builtin_shape(type_name: str) -> Shape:
    def field(name: str) -> tuple[Rule, Shape]:
        known = table().types.get(type_name, {}).get(name)
        if known is None:
            return REPLACE, OPAQUE
        inner = known.type.removeprefix("[]").removeprefix("{}")
        return RULES.get(type_name, {}).get(name, REPLACE), builtin_shape(inner)

    return Shape(field) if type_name in table().types else OPAQUE


def _custom_root(schema: JsonObject) -> Shape:
    inner = custom_shape(schema)

    def field(name: str) -> tuple[Rule, Shape]:
        return (REPLACE, builtin_shape(_META)) if name == "metadata" else inner.field(name)

    return Shape(field)


def custom_shape(schema: JsonObject) -> Shape:
    """x-kubernetes-list-type map merges by its keys, set unites; everything else is replaced."""

    def field(name: str) -> tuple[Rule, Shape]:
        known = (schema.get("properties") or {}).get(name) or schema.get("additionalProperties")
        if not isinstance(known, dict):
            return REPLACE, OPAQUE
        items = known.get("items")
        match known.get("x-kubernetes-list-type"):
            case "map":
                rule = Rule(merges=True, keys=tuple(known.get("x-kubernetes-list-map-keys") or ()))
            case "set":
                rule = Rule(merges=True)
            case _:
                rule = REPLACE
        return rule, custom_shape(items if isinstance(items, dict) else known)

    return Shape(field)
