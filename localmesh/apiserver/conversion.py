"""Built-in kinds served in more than one shape over one store: events in two groups, HPA v1 and v2.

Pure functions from stored to served shape and back. Objects passed in are not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from localmesh.apiserver.jsonvalue import JsonObject, clone_object, dumps, loads
from localmesh.apiserver.registry import Resource

Converter = Callable[[JsonObject], JsonObject]

# core/v1 name → events.k8s.io/v1 name; everything else is called the same in both.
_EVENT_NAMES: Mapping[str, str] = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
_EVENT_NAMES_BACK = {new: old for old, new in _EVENT_NAMES.items()}


def _renamed(obj: JsonObject, names: Mapping[str, str], api_version: str) -> JsonObject:
    result = {names.get(key, key): value for key, value in clone_object(obj).items()}
    result["apiVersion"] = api_version
    return result


_METRICS_ANNOTATION = "autoscaling.alpha.kubernetes.io/metrics"
_BEHAVIOR_ANNOTATION = "autoscaling.alpha.kubernetes.io/behavior"
_CONDITIONS_ANNOTATION = "autoscaling.alpha.kubernetes.io/conditions"


def _hpa_to_v1(obj: JsonObject) -> JsonObject:
    """What v1 has no fields for goes into annotations, as upstream does it."""
    result = clone_object(obj)
    result["apiVersion"] = "autoscaling/v1"
    spec, status = result.get("spec") or {}, result.get("status") or {}
    kept = {
        _BEHAVIOR_ANNOTATION: spec.pop("behavior", None),
        _CONDITIONS_ANNOTATION: status.pop("conditions", None),
    }
    status.pop("currentMetrics", None)
    others = []
    for metric in spec.pop("metrics", None) or []:
        resource = metric.get("resource") or {}
        target = resource.get("target") or {}
        if resource.get("name") == "cpu" and target.get("type") == "Utilization":
            spec["targetCPUUtilizationPercentage"] = target.get("averageUtilization")
        else:
            others.append(metric)
    kept[_METRICS_ANNOTATION] = others
    texts = {key: dumps(value).decode() for key, value in kept.items() if value}
    if texts:
        result["metadata"]["annotations"] = {**(result["metadata"].get("annotations") or {}), **texts}
    return result


def _hpa_to_v2(obj: JsonObject) -> JsonObject:
    result = clone_object(obj)
    result["apiVersion"] = "autoscaling/v2"
    spec = result.get("spec") or {}
    metrics = []
    utilization = spec.pop("targetCPUUtilizationPercentage", None)
    if utilization is not None:
        target = {"type": "Utilization", "averageUtilization": utilization}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    annotations = dict(result["metadata"].get("annotations") or {})
    metrics += _taken(annotations, _METRICS_ANNOTATION) or []
    behavior = _taken(annotations, _BEHAVIOR_ANNOTATION)
    conditions = _taken(annotations, _CONDITIONS_ANNOTATION)
    if metrics:
        spec["metrics"] = metrics
    if behavior:
        spec["behavior"] = behavior
    if conditions:
        result.setdefault("status", {}).setdefault("conditions", conditions)
    if "annotations" in result["metadata"]:
        result["metadata"]["annotations"] = annotations
        if not annotations:
            del result["metadata"]["annotations"]
    return result


def _taken(annotations: JsonObject, name: str) -> Any:
    """The value an annotation keeps as JSON, None if it is absent; text that is no JSON stays where it is."""
    try:
        value = loads(annotations.get(name, "null"))
    except ValueError:
        return None
    annotations.pop(name, None)
    return value


def serve(resource: Resource, obj: JsonObject, version: str) -> JsonObject:
    """`obj`, stored or served, as `resource` at `version` shows it."""
    wanted = resource.api_version(version)
    if obj.get("apiVersion") == wanted:
        return clone_object(obj)
    if resource.key == "events.events.k8s.io":
        return _renamed(obj, _EVENT_NAMES, wanted)
    if resource.key == "horizontalpodautoscalers.autoscaling":
        return _hpa_to_v1(obj) if version == "v1" else _hpa_to_v2(obj)
    return {**clone_object(obj), "apiVersion": wanted}


def store(resource: Resource, obj: JsonObject) -> JsonObject:
    """`obj` as it is stored."""
    if resource.key == "events.events.k8s.io":
        return _renamed(obj, _EVENT_NAMES_BACK, "v1")
    return serve(resource, obj, resource.storage_version)
