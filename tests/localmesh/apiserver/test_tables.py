"""What `kubectl get` prints of workloads: columns and cells, as upstream's printers have them."""

from __future__ import annotations

from typing import Any

import pytest

from localmesh.apiserver import tables
from localmesh.apiserver.assemble import assemble
from localmesh.apiserver.store import Store

CONTAINERS = {"containers": [{"name": "app", "image": "x:1"}, {"name": "log", "image": "y"}]}
TEMPLATE = {"spec": CONTAINERS}
SELECTOR = {"matchLabels": {"app": "web"}}
WIDE = ["app,log", "x:1,y", "app=web"]
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}
POD_METRIC = {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"averageValue": "10"}}}
TARGET = {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5, "minReplicas": 2}
OWNER = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web", "controller": True}

KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "daemonsets.apps",
        {
            "spec": {
                "selector": SELECTOR,
                "template": {"spec": {**CONTAINERS, "nodeSelector": {"disk": "ssd"}}},
            },
            "status": {
                "desiredNumberScheduled": 3,
                "currentNumberScheduled": 2,
                "numberReady": 1,
                "updatedNumberScheduled": 2,
            },
        },
        {
            "Desired": 3,
            "Current": 2,
            "Ready": 1,
            "Up-to-date": 2,
            "Available": 0,
            "Node Selector": "disk=ssd",
            "Containers": "app,log",
            "Images": "x:1,y",
            "Selector": "app=web",
        },
    ),
    (
        "statefulsets.apps",
        {"spec": {"replicas": 2, "template": TEMPLATE}, "status": {"readyReplicas": 1}},
        {"Ready": "1/2", "Containers": "app,log", "Images": "x:1,y"},
    ),
    (
        "jobs.batch",
        {
            "spec": {"completions": 3, "template": TEMPLATE, "selector": SELECTOR},
            "status": {
                "succeeded": 3,
                "startTime": "2026-01-01T00:00:00Z",
                "completionTime": "2026-01-01T00:01:05Z",
                "conditions": [{"type": "Complete", "status": "True"}],
            },
        },
        {"Status": "Complete", "Completions": "3/3", "Duration": "65s", "Selector": "app=web"},
    ),
    (
        "jobs.batch",
        {"spec": {"template": TEMPLATE, "parallelism": 2}, "status": {"active": 2}},
        {"Status": "Running", "Completions": "0/1 of 2", "Duration": ""},
    ),
    (
        "cronjobs.batch",
        {
            "spec": {
                "schedule": "@daily",
                "timeZone": "Europe/Berlin",
                "suspend": True,
                "jobTemplate": {"spec": {"template": TEMPLATE}},
            },
            "status": {"active": [{}]},
        },
        {
            "Schedule": "@daily",
            "Timezone": "Europe/Berlin",
            "Suspend": "True",
            "Active": 1,
            "Last Schedule": "<none>",
            "Containers": "app,log",
            "Images": "x:1,y",
            "Selector": "<none>",
        },
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        {"spec": TARGET | {"metrics": [CPU, POD_METRIC]}, "status": {"currentReplicas": 2}},
        {
            "Reference": "Deployment/web",
            "Targets": "cpu: <unknown>/80%,<unknown>/10",
            "MinPods": "2",
            "MaxPods": 5,
            "Replicas": 2,
        },
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        {"spec": TARGET | {"targetCPUUtilizationPercentage": 50}},
        {"Targets": "cpu: <unknown>/50%", "Replicas": 0},
    ),
    (
        "poddisruptionbudgets.policy",
        {"spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 1}},
        {"Min Available": "N/A", "Max Unavailable": "25%", "Allowed Disruptions": 1},
    ),
    (
        "controllerrevisions.apps",
        {"revision": 3, "metadata": {"ownerReferences": [OWNER]}},
        {"Controller": "daemonset.apps/web", "Revision": 3},
    ),
]


@pytest.mark.parametrize(("resource", "obj", "wanted"), KINDS)
def test_workloads_are_printed(resource: str, obj: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = assemble(Store(None)).rest.registry.get(resource)
    assert found is not None
    printer = tables.printer_of(found, found.storage_version)
    whole = obj | {"metadata": {"name": "web", **obj.get("metadata", {})}}
    row = dict(zip((column.name for column in printer.columns), printer.cells(whole), strict=True))
    assert row["Name"] == "web"
    assert {name: row[name] for name in wanted} == wanted
