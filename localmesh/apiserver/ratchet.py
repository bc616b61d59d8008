"""Which faults an update of a custom resource may keep: those of values it does not change.

Else an object that was valid under an older schema could not even get a finalizer removed. Faults of CEL
rules are `rules`' to pass over. Pure. Source: "Validation ratcheting" in Kubernetes' documentation of
CustomResourceDefinitions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from localmesh.apiserver.errors import Cause
from localmesh.apiserver.jsonvalue import JsonObject

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_MISSING = object()


def new_faults(causes: list[Cause], new: JsonObject, old: JsonObject, schema: JsonObject) -> list[Cause]:
    """The causes that are not of a value which `old` has as well."""
    return [cause for cause in causes if not _is_kept(cause, new, old, schema)]


def _is_kept(cause: Cause, new: JsonObject, old: JsonObject, schema: JsonObject) -> bool:
    """Whether the value at fault, or for what is missing the object around it, is as it was."""
    steps = list(_steps(cause.field))
    if cause.reason == "FieldValueRequired":
        steps = steps[:-1]
    if not steps or steps[0] == "metadata":
        return False
    return _is_same(new, old, schema, steps)


def _steps(path: str) -> Iterator[str | int]:
    """`spec.list[0].x` → spec, list, 0, x. A key of a map with a dot in it leads nowhere, and is not kept."""
    if path != "<nil>":
        for match in _STEP.finditer(path.lstrip(".")):
            yield int(match[2]) if match[2] is not None else match[1]


def _is_same(new: Any, old: Any, schema: JsonObject, steps: list[str | int]) -> bool:
    if not steps:
        return new is not _MISSING and bool(new == old)
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if not isinstance(new, dict) or not isinstance(old, dict):
            return False
        inner = (schema.get("properties") or {}).get(step) or schema.get("additionalProperties")
        known = inner if isinstance(inner, dict) else {}
        return _is_same(new.get(step, _MISSING), old.get(step, _MISSING), known, rest)
    if not isinstance(new, list) or not isinstance(old, list) or step >= len(new):
        return False
    if schema.get("x-kubernetes-list-type") != "map":
        return bool(new == old)  # items have no identity: all of them or none
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    before = [item for item in old if _identity(item, keys) == _identity(new[step], keys)]
    items = schema.get("items")
    known = items if isinstance(items, dict) else {}
    return len(before) == 1 and _is_same(new[step], before[0], known, rest)


def _identity(item: Any, keys: Any) -> list[Any]:
    return [item.get(key) for key in keys] if isinstance(item, dict) else [item]
