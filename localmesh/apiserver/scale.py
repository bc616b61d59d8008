"""The scale subresource: a narrow view of how many replicas something
has and should have (autoscaling/v1).
"""

from __future__ import annotations

from typing import Any

from localmesh.apiserver.call import Target
from localmesh.apiserver.errors import bad_request
from localmesh.apiserver.jsonvalue import JsonObject, lookup
from localmesh.apiserver.structural import ScalePaths

_BUILTIN = ScalePaths(("spec", "replicas"), ("status", "replicas"), ())


def read(target: Target, obj: JsonObject) -> JsonObject:
    """The Scale of an object."""
    places = _paths(target)
    meta = obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: JsonObject = {"replicas": lookup(obj, *places.status_replicas) or 0}
    selector = _selector(target, obj, places)
    if selector:
        status["selector"] = selector
    replicas = lookup(obj, *places.spec_replicas)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in shown if key in meta},
        "spec": {"replicas": replicas} if replicas is not None else {},
        "status": status,
    }


def write(target: Target, obj: JsonObject, wanted: JsonObject) -> JsonObject:
    """`obj` (changed in place) with the replicas a Scale asks for, guarded by the Scale's resourceVersion."""
    replicas: Any = lookup(wanted, "spec", "replicas")
    if replicas is None:
        replicas = 0
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request(f"Scale: spec.replicas must be a number, got {replicas!r}")
    revision = lookup(wanted, "metadata", "resourceVersion")
    if revision:
        obj["metadata"]["resourceVersion"] = revision
    place = _paths(target).spec_replicas
    container = obj
    for step in place[:-1]:
        container = container.setdefault(step, {})
    container[place[-1]] = replicas
    return obj


def _paths(target: Target) -> ScalePaths:
    if target.resource.is_custom:
        scale = target.resource.schema_of(target.version).scale
        assert scale is not None
        return scale
    return _BUILTIN


def _selector(target: Target, obj: JsonObject, places: ScalePaths) -> str:
    if target.resource.is_custom:
        found = lookup(obj, *places.label_selector) if places.label_selector else ""
        return found if isinstance(found, str) else ""
    selector = lookup(obj, "spec", "selector") or {}
    if target.resource.key == "replicationcontrollers":
        selector = {"matchLabels": selector}
    return selector_text(selector)


def selector_text(selector: JsonObject) -> str:
    """A metav1.LabelSelector in the syntax of the labelSelector parameter."""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or []:
        key, values = expression.get("key"), ",".join(sorted(expression.get("values") or ()))
        match expression.get("operator"):
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(str(key))
            case "DoesNotExist":
                terms.append(f"!{key}")
    return ",".join(terms)
