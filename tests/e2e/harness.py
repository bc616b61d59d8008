"""The end-to-end tests' hands: start a cluster, apply manifests with kubectl, call from inside pods.

All waiting is by observation with a deadline. Nothing here knows how the mesh works.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import ProxyHandler, Request, build_opener

import yaml

from localmesh.node.process import CONTAINER_MARK, kill_marked
from smi.names import SYSTEM_NAMESPACE

T = TypeVar("T")

NAMESPACE = "shop"
LEAF_SECONDS = 60
"""Life of the workloads' certificates: long enough to be calm, short enough to rotate in a test."""

_POLICY_KINDS = "trafficsplits,traffictargets,identitybindings,httproutegroups,tcproutes,udproutes"


def wait_for(what: str, probe: Callable[[], T], seconds: float = 30.0) -> T:
    """Call `probe` until it returns something true; raises TimeoutError that says what was awaited."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s, last answer {value!r}")
        pause.wait(0.05)


@dataclass
class Cluster:
    """A running embedded cluster. `kubectl` is the real one; `call` goes through a pod's own app."""

    state: Path
    kubeconfig: Path
    command: list[str] = field(default_factory=lambda: [sys.executable, "-m", "cli"])

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        """Run kubectl; returns its output, raises AssertionError with what it said when it fails."""
        kubectl = shutil.which("kubectl")
        assert kubectl, "kubectl is missing: `make system` installs it"
        done = subprocess.run(
            [kubectl, *arguments],
            input=text,
            text=True,
            capture_output=True,
            timeout=90,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.state)},
        )
        if check and done.returncode:
            raise AssertionError(
                f"kubectl {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def wait_gone(self, what: str, namespace: str = NAMESPACE) -> None:
        """`kubectl wait --for=delete`, which before 1.24 complained about what is gone already."""
        told = self.kubectl("wait", "-n", namespace, "--for=delete", what, "--timeout=30s", check=False)
        assert "timed out" not in told, told
        assert "NotFound" in self.kubectl("get", what, "-n", namespace, check=False)

    def apply(self, manifest: str, namespace: str = NAMESPACE) -> str:
        return self.kubectl("apply", "-n", namespace, "-f", "-", text=manifest)

    def local(self, *arguments: str) -> Any:
        """Run `smi-mesh local …` against this cluster; returns its JSON."""
        done = subprocess.run(
            [*self.command, "local", *arguments, "--state-dir", str(self.state), "--output", "json"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def pods(self, app: str) -> list[Any]:
        found: list[Any] = self.get("pods", "-n", NAMESPACE, "-l", f"app={app}")["items"]
        return found

    def controller(self) -> Any:
        """The controller's pod, or None while there is none."""
        found = self.get("pods", "-n", SYSTEM_NAMESPACE)["items"]
        return found[0] if found else None

    def call(self, app: str, **order: Any) -> Any:
        """Have the app in pod `app` send HTTP requests; returns the summary of what came back."""
        return self._order(app, "/call", order)["summary"]

    def talk(self, app: str, **order: Any) -> dict[str | None, int]:
        """Have the app in pod `app` open TCP connections; returns how many ended with which error."""
        results = self._order(app, "/tcp", order)["results"]
        return dict(Counter(result["error"] for result in results))

    def _order(self, app: str, path: str, order: dict[str, Any]) -> Any:
        """POST to the app's control port, which is excluded from the mesh."""
        ip = self.pods(app)[0]["status"]["podIP"]
        request = Request(
            f"http://{ip}:9000{path}",
            data=json.dumps(order).encode(),
            headers={"content-type": "application/json"},
        )
        wait = float(order.get("seconds", 0)) + 60
        with build_opener(ProxyHandler({})).open(request, timeout=wait) as answer:
            return json.load(answer)

    def deploy_sample(self) -> None:
        """Namespace `shop`: callers web and stranger, api over api-v1 and api-v2, db over TCP."""
        self.kubectl("apply", "-f", "-", text=SAMPLE)
        self.kubectl(
            "wait", "-n", NAMESPACE, "--for=condition=Available", "deployment", "--all", "--timeout=60s"
        )

    def delete_policies(self) -> None:
        self.kubectl("delete", "-n", NAMESPACE, _POLICY_KINDS, "--all", "--wait=true")

    def programmed(self, kind: str, name: str) -> float:
        """Wait until every proxy concerned runs the object's current generation; seconds it took."""
        began = time.monotonic()
        self.kubectl("wait", "-n", NAMESPACE, "--for=condition=Programmed", f"{kind}/{name}", "--timeout=20s")
        return time.monotonic() - began

    def wait_ready(self, deployment: str, replicas: int, seconds: float = 60) -> None:
        """Wait until exactly so many replicas of a deployment are ready, and no other pod of it is left."""

        def ready() -> bool:
            status = self.get("deployment", deployment, "-n", NAMESPACE)["status"]
            return bool(status.get("readyReplicas", 0) == replicas == len(self.pods(deployment)))

        wait_for(f"{replicas} ready replicas of {deployment}", ready, seconds)

    def kill(self, pod: Any, *containers: str) -> None:
        """SIGKILL every process of these containers, as a crash would."""
        for container in containers:
            mark = f"{pod['metadata']['uid']}/{container}"
            assert kill_marked({CONTAINER_MARK: mark}), f"no process of {mark}"

    def diagnosis(self) -> str:
        """What a person would look at first when a test fails."""
        parts = [
            self.kubectl("get", "pods", "-A", "-o", "wide", check=False),
            self.kubectl("get", "events", "-A", check=False),
        ]
        logs = sorted(self.state.rglob("*.log"))
        parts += [f"--- {log.name}\n" + log.read_text(errors="replace")[-2000:] for log in logs]
        return "\n".join(parts)


def start_cluster(state: Path, *options: str) -> Cluster:
    """`smi-mesh local up` in a state directory of its own."""
    cluster = Cluster(state, state / "kubeconfig")
    up = cluster.local("up", "--leaf-seconds", str(LEAF_SECONDS), *options)
    return Cluster(state, Path(up["kubeconfig"]))


@contextmanager
def load(cluster: Cluster, app: str = "web", **request: Any) -> Iterator[dict[str, Any]]:
    """Requests flow from `app` while the body runs; afterwards the yielded dict holds the counts."""
    outcome: dict[str, Any] = {}
    with _beside(lambda: outcome.update(cluster.call(app, **request))):
        yield outcome


@contextmanager
def load_until_done(
    cluster: Cluster, app: str = "web", *, seconds: float, **request: Any
) -> Iterator[dict[str, Any]]:
    """As `load`, for as long as the body takes: call after call, each of `seconds`."""
    outcome: dict[str, Any] = {"total": 0, "statuses": {}, "servers": {}, "errors": {}}
    done = threading.Event()

    def calls() -> None:
        while not done.is_set():
            summary = cluster.call(app, seconds=seconds, **request)
            outcome["total"] += summary["total"]
            for name in ("statuses", "servers", "errors"):
                outcome[name] = dict(Counter(outcome[name]) + Counter(summary[name]))

    with _beside(calls):
        try:
            yield outcome
        finally:
            done.set()


@contextmanager
def _beside(work: Callable[[], None]) -> Iterator[None]:
    """`work` is done in a thread of its own while the body runs; it ends by itself, and fails the test."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=120)
    if errors:
        raise errors[0]
    assert not thread.is_alive(), "the load did not end"


def deployment(
    name: str,
    *,
    account: str | None = None,
    replicas: int | None = 1,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    env: Mapping[str, Any] | None = None,
    container: Mapping[str, Any] | None = None,
    grace: int = 5,
) -> str:
    """A Deployment of the echo app, which answers on port 8080 of its pod's address with its name.

    `account`: an existing ServiceAccount; None makes one of this name. `replicas` None: left to the API
    server's default, or to who scales it. `env`: values, or sources as in `valueFrom`; they come before
    the app's own, which they may replace. `container`: fields that replace the app's. `grace`:
    terminationGracePeriodSeconds.
    """
    given = dict(env or {})
    own = {key: value for key, value in {"NAME": name, "BIND": "$(POD_IP)"}.items() if key not in given}
    variables = {"POD_IP": {"fieldRef": {"fieldPath": "status.podIP"}}, **given, **own}
    app = {
        "name": "app",
        "image": "smi-mesh/echo",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [
            {"name": key, "value" if isinstance(value, str) else "valueFrom": value}
            for key, value in variables.items()
        ],
    }
    template = {
        "metadata": {
            "labels": {"app": name, **(labels or {})},
            "annotations": {"smi-mesh.io/exclude-inbound-ports": "9000", **(annotations or {})},
        },
        "spec": {
            "serviceAccountName": account or name,
            "terminationGracePeriodSeconds": grace,
            "containers": [{**app, **(container or {})}],
        },
    }
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if replicas is not None:
        spec["replicas"] = replicas
    objects: list[dict[str, Any]] = [{"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec}]
    if account is None:
        objects.insert(0, {"apiVersion": "v1", "kind": "ServiceAccount"})
    for one in objects:
        one["metadata"] = {"name": name, "namespace": NAMESPACE}
    return "".join(f"\n{yaml.safe_dump(one)}---" for one in objects)


def service(name: str, selector: str, port: int, port_name: str) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  selector: {{{selector}}}
  ports: [{{name: {port_name}, port: {port}}}]
---"""


SAMPLE = (
    f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{smi-mesh.io/inject: enabled}}}}
---"""
    + deployment("web")
    + deployment("stranger")
    + deployment("api-v1", labels={"part": "api"}, annotations={"smi-mesh.io/access-log": "json failures"})
    + deployment("api-v2", labels={"part": "api"})
    + deployment("db", env={"TCP_PORT": "5432"})
    + service("api", "part: api", 8080, "http")
    + service("api-v1", "app: api-v1", 8080, "http")
    + service("api-v2", "app: api-v2", 8080, "http")
    + service("db", "app: db", 5432, "tcp-db")
)
