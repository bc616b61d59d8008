"""Workloads other than Deployments with the real kubectl: what it waits for comes, sidecars or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import NAMESPACE, Cluster, wait_for
from tests.e2e.policies import OPEN_API

PLAIN = "plain"
"""A namespace without sidecars, for what is about controllers only."""
WAIT = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def template(app: str, command: str = WAIT, revision: int = 1) -> str:
    return f"""
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: sh
        command: [sh, -c, {json.dumps(command)}]
        env: [{{name: REVISION, value: "{revision}"}}]
"""


def workload(kind: str, name: str, more: str = "") -> str:
    return f"""
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  {more}""" + template(name)


def job(name: str, image: str, command: list[str], more: str = "") -> str:
    return f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {more}
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: web
      containers:
      - {{name: app, image: {image}, command: {json.dumps(command)}}}
"""


@pytest.fixture(scope="module")
def plain(cluster: Cluster) -> Iterator[Cluster]:
    cluster.kubectl("create", "namespace", PLAIN)
    yield cluster
    cluster.kubectl("delete", "namespace", PLAIN)


def columns(cluster: Cluster, *what: str) -> dict[str, str]:
    """The only row of `kubectl get`, by column; columns are two spaces apart at least."""
    head, row = cluster.kubectl("get", *what, "-n", PLAIN).splitlines()
    names = [name.strip() for name in head.split("  ") if name.strip()]
    found = {}
    for number, name in enumerate(names):
        begin = head.index(name)
        end = head.index(names[number + 1]) if number + 1 < len(names) else None
        found[name] = row[begin:end].strip()
    return found


def test_a_job_completes_although_its_sidecar_runs(policies: Cluster) -> None:
    policies.apply(OPEN_API)
    code = "import urllib.request as u; print('answered', u.urlopen('http://api:8080/').status)"
    policies.apply(job("caller", "python", ["python", "-c", code], "completions: 2\n  parallelism: 2"))
    try:
        policies.kubectl("wait", "-n", NAMESPACE, "--for=condition=complete", "job/caller", "--timeout=40s")
        pods = policies.get("pods", "-n", NAMESPACE, "-l", "job-name=caller")["items"]
        assert [pod["status"]["phase"] for pod in pods] == ["Succeeded"] * 2
        for pod in pods:
            (sidecar,) = [
                one for one in pod["spec"]["initContainers"] if one.get("restartPolicy") == "Always"
            ]
            name = pod["metadata"]["name"]
            assert policies.kubectl("logs", name, "-c", "app", "-n", NAMESPACE) == "answered 200\n"
            states = {one["name"]: one["state"] for one in pod["status"]["initContainerStatuses"]}
            assert states[sidecar["name"]]["terminated"]["exitCode"] == 0
            assert "finalizers" not in pod["metadata"]
        assert "2/2" in policies.kubectl("get", "job", "caller", "-n", NAMESPACE)
    finally:
        policies.kubectl("delete", "job", "caller", "-n", NAMESPACE, "--wait=true")
    wait_for(
        "its pods to go", lambda: not policies.get("pods", "-n", NAMESPACE, "-l", "job-name=caller")["items"]
    )


def test_a_job_fails_and_is_forgotten(plain: Cluster) -> None:
    plain.kubectl("create", "serviceaccount", "web", "-n", PLAIN)
    plain.apply(job("broken", "sh", ["sh", "-c", "exit 3"], "backoffLimit: 0"), PLAIN)
    plain.kubectl("wait", "-n", PLAIN, "--for=condition=failed", "job/broken", "--timeout=20s")
    conditions = {one["type"]: one for one in plain.get("job", "broken", "-n", PLAIN)["status"]["conditions"]}
    assert conditions["Failed"]["reason"] == "BackoffLimitExceeded"
    wait_for("an event", lambda: "BackoffLimitExceeded" in plain.kubectl("get", "events", "-n", PLAIN))
    plain.kubectl("patch", "job", "broken", "-n", PLAIN, "-p", '{"spec": {"ttlSecondsAfterFinished": 0}}')
    plain.wait_gone("job/broken", PLAIN)
    wait_for("its pods to go", lambda: not plain.get("pods", "-n", PLAIN, "-l", "job-name=broken")["items"])


def revisions(cluster: Cluster, what: str) -> list[str]:
    rows = cluster.kubectl("rollout", "history", what, "-n", PLAIN).splitlines()
    return [row.split()[0] for row in rows if row[:1].isdigit()]


def environment(cluster: Cluster, app: str) -> list[str]:
    """REVISION of every pod that is not leaving."""
    pods = cluster.get("pods", "-n", PLAIN, "-l", f"app={app}")["items"]
    return [
        pod["spec"]["containers"][0]["env"][0]["value"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
    ]


@pytest.mark.parametrize(
    ("kind", "name", "more", "replicas"),
    [
        ("Deployment", "web", "replicas: 2", 2),
        ("DaemonSet", "agent", "", 1),
        ("StatefulSet", "db", "replicas: 2\n  serviceName: db", 2),
    ],
)
def test_rollout_status_history_undo_and_restart(
    plain: Cluster, kind: str, name: str, more: str, replicas: int
) -> None:
    what = f"{kind.lower()}/{name}"

    def rolled_out() -> None:
        plain.kubectl("rollout", "status", what, "-n", PLAIN, "--timeout=30s")

    plain.apply(workload(kind, name, more), PLAIN)
    rolled_out()
    plain.kubectl("set", "env", what, "REVISION=2", "-n", PLAIN)
    rolled_out()
    assert environment(plain, name) == ["2"] * replicas
    assert revisions(plain, what) == ["1", "2"]
    assert "REVISION:\t1" in plain.kubectl("rollout", "history", what, "--revision=1", "-n", PLAIN)
    plain.kubectl("rollout", "undo", what, "-n", PLAIN)
    rolled_out()
    assert environment(plain, name) == ["1"] * replicas
    assert revisions(plain, what) == ["2", "3"]
    before = {pod["metadata"]["uid"] for pod in plain.get("pods", "-n", PLAIN, "-l", f"app={name}")["items"]}
    plain.kubectl("rollout", "restart", what, "-n", PLAIN)
    rolled_out()
    after = {pod["metadata"]["uid"] for pod in plain.get("pods", "-n", PLAIN, "-l", f"app={name}")["items"]}
    assert len(after - before) >= replicas


def test_pods_of_a_statefulset_have_names_of_their_own(plain: Cluster) -> None:
    service = """
apiVersion: v1
kind: Service
metadata: {name: store}
spec: {clusterIP: None, selector: {app: store}, ports: [{port: 8080}]}
---"""
    look = "while ! getent hosts store-0.store; do sleep 0.1; done; " + WAIT
    manifest = workload("StatefulSet", "store", "serviceName: store\n  replicas: 2").replace(
        json.dumps(WAIT), json.dumps(look)
    )
    plain.apply(service + manifest, PLAIN)
    plain.kubectl("rollout", "status", "statefulset/store", "-n", PLAIN, "--timeout=30s")
    pods = {
        pod["metadata"]["name"]: pod for pod in plain.get("pods", "-n", PLAIN, "-l", "app=store")["items"]
    }
    assert sorted(pods) == ["store-0", "store-1"]
    address = pods["store-0"]["status"]["podIP"]
    wait_for(
        "store-1 to find store-0 by name",
        lambda: plain.kubectl("logs", "store-1", "-n", PLAIN).startswith(address),
    )
    assert columns(plain, "statefulset", "store")["READY"] == "2/2"
    plain.kubectl("scale", "statefulset/store", "--replicas=1", "-n", PLAIN)
    wait_for(
        "store-1 to go",
        lambda: (
            [p["metadata"]["name"] for p in plain.get("pods", "-n", PLAIN, "-l", "app=store")["items"]]
            == ["store-0"]
        ),
    )


def test_a_daemonset_goes_where_its_selector_leads(plain: Cluster) -> None:
    plain.apply(workload("DaemonSet", "probe"), PLAIN)
    plain.kubectl("rollout", "status", "daemonset/probe", "-n", PLAIN, "--timeout=30s")
    assert columns(plain, "daemonset", "probe")["AVAILABLE"] == "1"
    away: dict[str, Any] = {"spec": {"template": {"spec": {"nodeSelector": {"no": "such"}}}}}
    plain.kubectl("patch", "daemonset/probe", "-n", PLAIN, "-p", json.dumps(away))
    plain.kubectl("rollout", "status", "daemonset/probe", "-n", PLAIN, "--timeout=30s")
    assert columns(plain, "daemonset", "probe")["DESIRED"] == "0"
    wait_for("no pod", lambda: not plain.get("pods", "-n", PLAIN, "-l", "app=probe")["items"])


OTHERS = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: idle}
  minReplicas: 2
  maxReplicas: 5
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: idle}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template: {spec: {restartPolicy: Never, containers: [{name: app, image: sh}]}}
---"""


def test_what_is_only_reported_on(plain: Cluster) -> None:
    plain.apply(OTHERS + workload("Deployment", "idle"), PLAIN)
    plain.kubectl("rollout", "status", "deployment/idle", "-n", PLAIN, "--timeout=30s")
    plain.kubectl("wait", "-n", PLAIN, "--for=condition=AbleToScale", "hpa/web", "--timeout=10s")
    plain.kubectl("wait", "-n", PLAIN, "--for=condition=ScalingActive=false", "hpa/web", "--timeout=10s")
    shown = columns(plain, "horizontalpodautoscaler", "web")
    assert (shown["REFERENCE"], shown["TARGETS"]) == ("Deployment/idle", "cpu: <unknown>/80%")
    wait_for("the one replica there is", lambda: columns(plain, "hpa", "web")["REPLICAS"] == "1")
    v1 = json.loads(
        plain.kubectl("get", "--raw", f"/apis/autoscaling/v1/namespaces/{PLAIN}/horizontalpodautoscalers/web")
    )
    assert v1["spec"]["targetCPUUtilizationPercentage"] == 80
    wait_for("the budget", lambda: columns(plain, "pdb", "web")["MIN AVAILABLE"] == "1")
    assert columns(plain, "cronjob", "nightly")["SCHEDULE"] == "0 3 * * *"
    bad = OTHERS.split("---")[2].replace("0 3 * * *", "at three")
    refused = plain.kubectl("apply", "-n", PLAIN, "-f", "-", text=bad, check=False)
    assert "spec.schedule" in refused
    assert "expected five fields" in refused
    claims = (
        "  volumeClaimTemplates: [{metadata: {name: v}, spec: {accessModes: [ReadWriteOnce],"
        " resources: {requests: {storage: 1Gi}}}}]\n"
    )
    refused = plain.kubectl(
        "apply", "-n", PLAIN, "-f", "-", text=workload("StatefulSet", "disk", "serviceName: d") + claims,
        check=False,
    )  # fmt: skip
    assert "localmesh provisions no volumes" in refused
