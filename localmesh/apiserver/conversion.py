"""Built-in kinds served in more than one shape over one store: events in two groups, HPA v1 and v2.

Pure functions from stored to served shape and back. Objects passed in are not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def _hpa_to_v1(obj: JsonObject) -> JsonObject:
    result = clone_object(obj)
    result["apiVersion"] = "autoscaling/v1"
    spec = result.get("spec") or {}
    others = []
    for metric in spec.pop("metrics", None) or []:
        resource = metric.get("resource") or {}
        target = resource.get("target") or {}
        if resource.get("name") == "cpu" and target.get("type") == "Utilization":
            spec["targetCPUUtilizationPercentage"] = target.get("averageUtilization")
        else:
            others.append(metric)
    if others:
        annotations = result["metadata"].setdefault("annotations", {})
        annotations[_METRICS_ANNOTATION] = dumps(others).decode()
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
    annotations = result["metadata"].get("annotations") or {}
    kept = annotations.pop(_METRICS_ANNOTATION, None)
    metrics += loads(kept) if kept else []
    if metrics:
        spec["metrics"] = metrics
    return result


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
