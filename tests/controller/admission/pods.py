"""Pods to inject into, and JSON Patch (RFC 6902 `add` only) to see what comes of it."""

from __future__ import annotations

import copy
from typing import Any


def apply(obj: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """The object after `patch`; fails where the API server would."""
    result = copy.deepcopy(obj)
    for operation in patch:
        assert operation["op"] == "add", operation
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
        ]
        target: Any = result
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if isinstance(target, list):
            index = len(target) if last == "-" else int(last)
            assert index <= len(target), operation
            target.insert(index, copy.deepcopy(operation["value"]))
        else:
            target[last] = copy.deepcopy(operation["value"])
    return result


def minimal() -> dict[str, Any]:
    return {"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}


def crowded() -> dict[str, Any]:
    """A pod that has one of everything the injector touches."""
    return {
        "metadata": {
            "name": "api-1",
            "labels": {"app": "api"},
            "annotations": {
                "smi-mesh.io/exclude-inbound-ports": "9000, 9001",
                "smi-mesh.io/exclude-outbound-ports": "5432",
            },
        },
        "spec": {
            "serviceAccountName": "api",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
            "initContainers": [
                {"name": "migrate", "image": "migrate:1", "env": [{"name": "A", "value": "b"}]}
            ],
            "containers": [
                {
                    "name": "app",
                    "image": "app:1",
                    "env": [
                        {"name": "HTTP_PROXY", "value": "http://corporate:3128"},
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    ],
                },
                {"name": "helper", "image": "helper:1"},
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
