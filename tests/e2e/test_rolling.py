"""Nothing is lost while a Deployment's pods are replaced, and probes ask the app itself."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.harness import NAMESPACE, Cluster, deployment, wait_for
from tests.e2e.policies import EVERYTHING, allow, tcp_route

pytestmark = pytest.mark.timeout(240)

CALLS: dict[str, dict[str, Any]] = {
    "GET": {},
    "POST": {"method": "POST", "body": "x" * 100},
    "a connection each": {"keep_alive": False, "method": "POST", "body": "x"},
    "HTTP/2": {"http": "http/2", "method": "POST", "body": "x"},
    "gRPC": {"http": "grpc"},
}
POLICIES = (
    EVERYTHING
    + tcp_route("line", 5432)
    + allow(destination="roll", rules="[{kind: HTTPRouteGroup, name: everything}]")
    + allow(destination="roll", name="web-to-line", rules="[{kind: TCPRoute, name: line}]")
)


def roll(revision: int, grace: int, probe: Mapping[str, Any] | None = None) -> str:
    """One replica: the old pod is deleted as soon as the new one is ready."""
    pods = deployment(
        "roll",
        replicas=None,
        env={"NAME": f"roll-{revision}", "TCP_PORT": "5432", "CONTROL_PORT": "off"},
        container={} if probe is None else {"readinessProbe": probe},
        grace=grace,
    )
    return f"""{pods}
apiVersion: v1
kind: Service
metadata: {{name: roll, namespace: {NAMESPACE}}}
spec:
  selector: {{app: roll}}
  ports: [{{name: http, port: 8080}}, {{name: tcp-line, port: 5432}}]
"""


@dataclass
class Traffic:
    """What came of constant traffic. `bad`: (kind of call, what was wrong) → how often."""

    totals: Counter[str] = field(default_factory=Counter)
    servers: set[str] = field(default_factory=set)
    bad: Counter[tuple[str, str]] = field(default_factory=Counter)


@contextmanager
def traffic(cluster: Cluster) -> Iterator[Traffic]:
    """Every kind of call at once, while the body runs."""
    seen, stop, lock = Traffic(), threading.Event(), threading.Lock()
    errors: list[BaseException] = []

    def call(kind: str) -> None:
        found = cluster.call(
            "web", url="http://roll:8080/", seconds=1, concurrency=2, interval=0.01, **CALLS[kind]
        )
        with lock:
            seen.totals[kind] += found["total"]
            seen.servers |= set(found["servers"])
            for what in ("errors", "reasons"):
                seen.bad += Counter({(kind, name): count for name, count in found[what].items()})
            wrong = found["total"] - found["statuses"].get("200", 0)
            seen.bad += Counter({(kind, "not 200"): wrong})

    def talk() -> None:
        found = cluster.talk("web", host="roll", port=5432, send=["a", "b", "c"], count=10, concurrency=2)
        with lock:
            seen.totals["TCP"] += sum(found.values())
            seen.bad += Counter({("TCP", str(name)): count for name, count in found.items() if name})

    def keep(one: Any, *arguments: str) -> None:
        try:
            while not stop.is_set():
                one(*arguments)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread below
            errors.append(error)

    threads = [threading.Thread(target=keep, args=(call, kind)) for kind in CALLS]
    threads.append(threading.Thread(target=keep, args=(talk,)))
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    if errors:
        raise errors[0]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """A machine that has other things to do."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _rolled(cluster: Cluster, manifest: str) -> None:
    cluster.apply(manifest)
    cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/roll", "--timeout=60s")


@pytest.mark.parametrize(
    ("rounds", "grace", "probe"),
    [(2, 1, None), (1, 30, {"tcpSocket": {"port": 5432}})],
    ids=["1 s, no probe", "30 s, probe"],
)
def test_a_rolling_update_loses_nothing(
    policies: Cluster, rounds: int, grace: int, probe: Mapping[str, Any] | None
) -> None:
    """S33. Without a probe a pod is ready, and the old one deleted, before its app listens."""
    _rolled(policies, roll(0, grace, probe))
    policies.apply(POLICIES)
    for name in ("web-to-roll", "web-to-line"):
        policies.programmed("traffictarget", name)
    try:
        with busy(2), traffic(policies) as seen:
            wait_for("traffic of every kind", lambda: len(seen.totals) == len(CALLS) + 1)
            for revision in range(1, rounds + 1):
                _rolled(policies, roll(revision, grace, probe))
            wait_for("the last pod is called", lambda: f"roll-{rounds}" in seen.servers)
    finally:
        policies.kubectl("delete", "-n", NAMESPACE, "deployment/roll", "service/roll", "--wait=false")
    assert seen.bad == {}, (seen.bad, seen.totals)
    assert seen.servers == {f"roll-{revision}" for revision in range(rounds + 1)}


LATE = """
import os, socket, sys, time
listening = socket.create_server((os.environ["BIND"], 9000))
open_by_order, _ = listening.accept()
database = socket.create_server((os.environ["BIND"], 5432))
while True:
    database.accept()[0].close()
"""
"""Listens on its excluded control port, and on the other one as soon as somebody has called there."""


def test_a_tcp_probe_proves_the_app(policies: Cluster) -> None:
    """Before the sidecar did it, it accepted for the app: the pod was ready at once."""
    script = "\n".join(f"          {line}" for line in LATE.strip().splitlines())
    policies.apply(
        f"""
apiVersion: v1
kind: Pod
metadata:
  name: late
  labels: {{app: late}}
  annotations: {{smi-mesh.io/exclude-inbound-ports: "9000"}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: python
    command:
    - python
    - -c
    - |
{script}
    ports: [{{containerPort: 5432, name: database}}]
    readinessProbe: {{tcpSocket: {{port: database}}, periodSeconds: 1}}
    env:
    - {{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: BIND, value: $(POD_IP)}}
"""
    )
    try:
        why = wait_for("the probe fails", lambda: _unhealthy(policies, "late"))
        assert "503" in why
        assert not _ready(policies, "late")
        _touch(policies.pods("late")[0]["status"]["podIP"], 9000)
        wait_for("the pod is ready", lambda: _ready(policies, "late"))
    finally:
        policies.kubectl("delete", "-n", NAMESPACE, "pod/late", "--wait=false")


def _touch(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=5).close()


def _unhealthy(cluster: Cluster, pod: str) -> str:
    """What the kubelet says of failed probes of the pod's app."""
    found = cluster.get("events", "-n", NAMESPACE, "--field-selector", f"involvedObject.name={pod}")["items"]
    messages = [event["message"] for event in found if event["reason"] == "Unhealthy"]
    return next((message for message in messages if "app-health" in message), "")


def _ready(cluster: Cluster, pod: str) -> bool:
    conditions = cluster.get("pod", pod, "-n", NAMESPACE)["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
