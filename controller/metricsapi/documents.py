"""What the TrafficMetrics API says about itself, and lists, tables and refusals as JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

from controller.metricsapi.query import Document, Query, Refusal
from controller.metricsapi.resources import API_VERSION, GROUP, RESOURCES, VERSION
from smi.api.metrics import ObjectReference, Selector, TrafficMetrics, TrafficMetricsList
from smi.api.quantity import parse_quantity

Json = dict[str, Any]
_EQUALITY: Final = re.compile(r"\s*([^\s=!,()<>]+)\s*==?\s*([^\s=!,()<>]*)\s*")
_COLUMNS: Final = (
    ("Name", "string", "Name of the resource."),
    ("Success", "string", "Share of requests that succeeded."),
    ("RPS", "string", "Requests per second over the window."),
    ("P50", "string", "Half of the requests took at most this long."),
    ("P99", "string", "99 % of the requests took at most this long."),
    ("Edge", "string", "Which traffic: direction, side, other end; for splits the backend and its weight."),
)


def discovery(document: Document) -> Json:
    """APIGroupList, APIGroup or APIResourceList."""
    version = {"groupVersion": API_VERSION, "version": VERSION}
    group = {"name": GROUP, "versions": [version], "preferredVersion": version}
    match document:
        case Document.ROOTS:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
        case Document.GROUP:
            return {"kind": "APIGroup", "apiVersion": "v1", **group}
        case Document.RESOURCES:
            rows = []
            for one in RESOURCES.values():
                row = {
                    "name": one.plural,
                    "singularName": "",
                    "namespaced": one.namespaced,
                    "kind": "TrafficMetrics",
                    "verbs": ["get", "list"],
                }
                below = {**row, "name": f"{one.plural}/edges", "kind": "TrafficMetricsList", "verbs": ["get"]}
                rows += [row, below]
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": API_VERSION,
                "resources": rows,
            }


def listing(query: Query, items: Sequence[TrafficMetrics]) -> Json:
    """A TrafficMetricsList; its resource is the kind asked for, or the object whose edges these are."""
    resource = ObjectReference(
        kind=query.resource.kind,
        apiVersion=query.resource.api_version,
        namespace=query.namespace or None,
        name=query.name or None,
    )
    labels = match_labels(query.selector)
    selector = Selector(matchLabels=labels) if labels else None
    return as_json(TrafficMetricsList(resource=resource, selector=selector, items=list(items)))


def as_json(model: TrafficMetrics | TrafficMetricsList) -> Json:
    """The object as it goes over the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def match_labels(selector: str) -> dict[str, str]:
    """The equalities of a labelSelector; what else it demands cannot be said in `matchLabels`."""
    found = (_EQUALITY.fullmatch(part) for part in selector.split(","))
    return {one.group(1): one.group(2) for one in found if one is not None}


def status(refusal: Refusal) -> Json:
    """A Kubernetes Status (meta/v1) of failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": refusal.message,
        "reason": refusal.reason,
        "code": refusal.code,
    }


def table(items: Sequence[TrafficMetrics]) -> Json:
    """A meta.k8s.io/v1 Table, which is what `kubectl get` shows."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            {"name": name, "type": kind, "format": "name" if name == "Name" else "", "description": text,
             "priority": 0}
            for name, kind, text in _COLUMNS
        ],
        "rows": [{"cells": cells(item), "object": _partial(item)} for item in items],
    }  # fmt: skip


def cells(item: TrafficMetrics) -> list[str]:
    """One row: name, success, RPS, P50, P99 and which traffic. `-` where there was none."""
    values = {one.name: parse_quantity(one.value) for one in item.metrics}
    good, bad = values["success_count"], values["failure_count"]
    about = [item.metadata.name, "-", "-", "-", "-", _edge(item)]
    if good + bad:
        seconds = int(item.window.removesuffix("s")) or 1
        about[1:5] = [
            f"{float(100 * good / (good + bad)):.2f}%",
            f"{float((good + bad) / seconds):.1f}",
            _milliseconds(values["p50_response_latency"]),
            _milliseconds(values["p99_response_latency"]),
        ]
    return about


def _milliseconds(seconds: Fraction) -> str:
    value = float(seconds) * 1000
    return f"{value:.1f}ms" if value < 10 else f"{value:.0f}ms"


def _edge(item: TrafficMetrics) -> str:
    if item.backend is not None:
        return f"{item.backend.apex} -> {item.backend.name} ({item.backend.weight})"
    other = item.edge.resource.name if item.edge.resource is not None else None
    return f"{item.edge.direction.value} {other or 'anyone'} ({item.edge.side.value})"


def _partial(item: TrafficMetrics) -> Json:
    metadata = item.metadata.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
