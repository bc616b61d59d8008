"""What a written object looks like when it is read back, as seen on kube-apiserver (kubernetes-api.md §3).

Flagger hashes the pod template: a default that comes later than the first write is a new revision to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from localmesh.apiserver.assemble import Core
from localmesh.apiserver.call import Call, DeleteOptions, Target
from localmesh.apiserver.errors import ApiError
from tests.localmesh.cluster_kit import memory_core

CONTAINER = {
    "name": "c",
    "image": "x:1",
    "ports": [{"containerPort": 80, "name": "http"}],
    "readinessProbe": {"httpGet": {"port": "http"}},
    "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
}
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [CONTAINER], "volumes": [{"name": "v", "configMap": {"name": "k"}}]},
}
FULL_TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "x:1",
                "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
                "readinessProbe": {
                    "httpGet": {"port": "http", "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1,
                    "periodSeconds": 10,
                    "successThreshold": 1,
                    "failureThreshold": 3,
                },
                "env": [
                    {
                        "name": "IP",
                        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}},
                    }
                ],
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
        "volumes": [{"name": "v", "configMap": {"name": "k", "defaultMode": 420}}],
    },
}
SELECTOR = {"matchLabels": {"app": "web"}}
WORKLOAD = {"selector": SELECTOR, "template": TEMPLATE}
FULL_WORKLOAD = {"selector": SELECTOR, "template": FULL_TEMPLATE, "revisionHistoryLimit": 10}
ONCE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}
FULL_ONCE = {
    **{key: value for key, value in FULL_TEMPLATE["spec"].items() if key not in ("containers", "volumes")},
    "restartPolicy": "Never",
    "containers": [
        {
            "name": "c",
            "image": "x",
            "imagePullPolicy": "Always",
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }
    ],
}
FULL_JOB = {
    "parallelism": 1,
    "completions": 1,
    "backoffLimit": 6,
    "completionMode": "NonIndexed",
    "suspend": False,
    "manualSelector": False,
    "podReplacementPolicy": "TerminatingOrFailed",
}
TARGET = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 3}
CPU_TARGET = {"type": "Utilization", "averageUtilization": 80}
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": CPU_TARGET}}

SPECS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "deployments.apps",
        WORKLOAD,
        FULL_WORKLOAD
        | {
            "replicas": 1,
            "progressDeadlineSeconds": 600,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
        },
    ),
    (
        "daemonsets.apps",
        WORKLOAD,
        FULL_WORKLOAD
        | {
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
        },
    ),
    (
        "statefulsets.apps",
        WORKLOAD | {"serviceName": "web"},
        FULL_WORKLOAD
        | {
            "serviceName": "web",
            "replicas": 1,
            "podManagementPolicy": "OrderedReady",
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        },
    ),
    (
        "cronjobs.batch",
        {"schedule": "@daily", "jobTemplate": {"spec": {"template": ONCE}}},
        {
            "schedule": "@daily",
            "concurrencyPolicy": "Allow",
            "suspend": False,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {},
                "spec": {"template": {"metadata": {}, "spec": FULL_ONCE}},
            },
        },
    ),
    (
        "horizontalpodautoscalers.autoscaling",
        TARGET | {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}},
        TARGET
        | {
            "minReplicas": 1,
            "metrics": [CPU],
            "behavior": {
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": "Max",
                    "policies": [
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                    ],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 60,
                    "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
                },
            },
        },
    ),
]


@pytest.fixture
async def core() -> AsyncIterator[Core]:
    found = await memory_core()
    yield found
    await found.close()


@pytest.mark.parametrize(("resource", "given", "wanted"), SPECS, ids=[row[0] for row in SPECS])
async def test_defaults_are_filled_once(
    core: Core, resource: str, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    made = await core.api.create(resource, "default", {"metadata": {"name": "web"}, "spec": given})
    assert made["spec"] == wanted
    again = await core.api.update(resource, "default", "web", made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_job_gets_selector_and_labels_of_its_own(core: Core) -> None:
    made = await core.api.create(
        "jobs.batch", "default", {"metadata": {"name": "j"}, "spec": {"template": ONCE}}
    )
    uid, spec = made["metadata"]["uid"], made["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "j",
        "controller-uid": uid,
        "job-name": "j",
    }
    assert {key: spec[key] for key in FULL_JOB} == FULL_JOB
    refused = {"metadata": {"name": "k"}, "spec": {"template": ONCE, "backoffLimitPerIndex": 1}}
    with pytest.raises(ApiError, match="localmesh does not implement it"):
        await core.api.create("jobs.batch", "default", refused)


def in_version(core: Core, resource: str, version: str) -> Target:
    found = core.rest.registry.get(resource)
    assert found is not None
    return Target(found, version, "default", "web")


async def test_an_autoscaler_keeps_everything_through_v1(core: Core) -> None:
    memory = {"type": "Resource", "resource": {"name": "memory", "target": CPU_TARGET}}
    spec = TARGET | {"minReplicas": 2, "metrics": [CPU, memory], "behavior": {"scaleDown": {}}}
    resource = "horizontalpodautoscalers.autoscaling"
    made = await core.api.create(resource, "default", {"metadata": {"name": "web"}, "spec": spec})
    old = in_version(core, resource, "v1")
    shown = await core.rest.get(old)
    assert shown["spec"] == TARGET | {"minReplicas": 2, "targetCPUUtilizationPercentage": 80}
    shown["spec"]["maxReplicas"] = 9
    await core.rest.update(old, shown, Call(validation="Strict"))
    after = await core.api.get(resource, "default", "web")
    assert after["spec"] == made["spec"] | {"maxReplicas": 9}
    assert "annotations" not in after["metadata"]


async def test_an_event_is_one_object_in_both_groups(core: Core) -> None:
    event = {
        "metadata": {"name": "web"},
        "regarding": {"kind": "Deployment", "name": "web", "namespace": "default"},
        "reason": "Synced",
        "note": "all is well",
        "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "action": "Sync",
        "reportingController": "flagger",
        "reportingInstance": "flagger-1",
    }
    new = in_version(core, "events.events.k8s.io", "v1")
    await core.rest.create(new, event, Call(validation="Strict"))
    old = in_version(core, "events", "v1")
    shown = await core.rest.get(old)
    assert (shown["involvedObject"]["name"], shown["message"]) == ("web", "all is well")
    assert (shown["reportingComponent"], shown["eventTime"]) == ("flagger", event["eventTime"])
    shown["count"] = 2
    await core.rest.update(old, shown, Call(validation="Strict"))
    again = await core.rest.get(new)
    assert (again["note"], again["deprecatedCount"]) == ("all is well", 2)
    await core.rest.delete(old, DeleteOptions(), Call())
    assert core.api.peek_all("events", "default") == []


async def test_a_lease_is_taken_by_one_candidate_only(core: Core) -> None:
    """Leader election: whoever writes over the version it read wins, times keep their microseconds."""
    resource = "leases.coordination.k8s.io"
    spec = {
        "holderIdentity": "one",
        "leaseDurationSeconds": 60,
        "acquireTime": "2026-01-01T00:00:00.123456Z",
        "renewTime": "2026-01-01T00:00:00.123456Z",
        "leaseTransitions": 0,
    }
    body = {"metadata": {"name": "web"}, "spec": spec}
    made = await core.api.create(resource, "default", body)
    assert made["spec"] == spec
    renewed = await core.api.update(
        resource, "default", "web", made | {"spec": spec | {"leaseTransitions": 1}}
    )
    with pytest.raises(ApiError) as refused:
        await core.api.update(resource, "default", "web", made | {"spec": spec | {"holderIdentity": "two"}})
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    again = await core.api.update(resource, "default", "web", renewed)
    assert again["metadata"]["resourceVersion"] == renewed["metadata"]["resourceVersion"]
    with pytest.raises(ApiError) as taken:
        await core.api.create(resource, "default", body)
    assert (taken.value.code, taken.value.reason) == (409, "AlreadyExists")
