"""Flagger by its API calls, its other ways: configuration, HPAs, webhooks, DaemonSets, blue/green, A/B."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.e2e import flagger_run
from tests.e2e.flagger_api import Api
from tests.e2e.flagger_run import FlaggerRun, Phase
from tests.e2e.harness import NAMESPACE, Cluster, wait_for
from tests.e2e.policies import EVERYTHING, allow
from tests.localmesh.kube_kit import Kube

URL = "http://podinfo:8080/"
REQUESTS = 100


@dataclass
class Hooks:
    """The other side of Flagger's webhooks: answers 200, but 403 to what is `closed`; knows who asked."""

    closed: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, phase), in order."""
    load: Callable[[], None] = lambda: None
    """What the load tester does."""
    port: int = 0

    def serve(self) -> ThreadingHTTPServer:
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert payload["name"] == "podinfo"
                assert payload["namespace"] == NAMESPACE
                name = self.path.strip("/")
                hooks.asked.append((name, payload["phase"]))
                if name == "load":
                    hooks.load()
                self.send_response(403 if name in hooks.closed else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def take(self) -> list[tuple[str, str]]:
        found, self.asked[:] = list(self.asked), []
        return found


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    found = Hooks()
    server = found.serve()
    yield found
    server.shutdown()
    server.server_close()


def workload(kind: str, revision: int = 1) -> str:
    """Its pods tell app, revision and the colour that their ConfigMap says."""
    return f"""
apiVersion: apps/v1
kind: {kind}
metadata: {{name: podinfo, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: podinfo}}}}
  template:
    metadata:
      labels: {{app: podinfo}}
      annotations: {{smi-mesh.io/exclude-inbound-ports: "9000"}}
    spec:
      serviceAccountName: podinfo
      terminationGracePeriodSeconds: 1
      volumes: [{{name: keys, secret: {{secretName: podinfo-keys}}}}]
      containers:
      - name: app
        image: smi-mesh/echo
        ports: [{{containerPort: 8080, name: http}}]
        volumeMounts: [{{name: keys, mountPath: /keys}}]
        env:
        - {{name: APP, valueFrom: {{fieldRef: {{fieldPath: "metadata.labels['app']"}}}}}}
        - {{name: COLOUR, valueFrom: {{configMapKeyRef: {{name: podinfo-config, key: colour}}}}}}
        - {{name: NAME, value: $(APP)-{revision}-$(COLOUR)}}
        - {{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
        - {{name: BIND, value: $(POD_IP)}}
---
"""


def config(colour: str) -> str:
    return f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: podinfo-config, namespace: {NAMESPACE}}}
data: {{colour: {colour}}}
---
"""


SECRET = f"""
apiVersion: v1
kind: Secret
metadata: {{name: podinfo-keys, namespace: {NAMESPACE}}}
stringData: {{key: secret}}
---
"""
AUTOSCALER = f"""
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: podinfo, namespace: {NAMESPACE}}}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: podinfo}}
  minReplicas: 1
  maxReplicas: 3
---
"""
ACCOUNT = f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: podinfo, namespace: {NAMESPACE}}}\n---\n"


def canary(kind: str, analysis: dict[str, Any], **more: Any) -> str:
    spec = {
        "provider": "smi:v1alpha2",
        "targetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "podinfo"},
        "service": {"port": 8080},
        "analysis": {"interval": "10s", "threshold": 1, **analysis},
        **more,
    }
    meta = {"name": "podinfo", "namespace": NAMESPACE}
    body = {"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": meta, "spec": spec}
    return json.dumps(body) + "\n---\n"


@pytest.fixture
def namespace(policies: Cluster) -> Iterator[Cluster]:
    """What a Canary needs around it, and nothing of it left afterwards."""
    policies.kubectl("apply", "-f", "-", text=flagger_run.CANARY_CRD)
    policies.kubectl("wait", "--for=condition=Established", "crd/canaries.flagger.app", "--timeout=10s")
    rules = "[{kind: HTTPRouteGroup, name: everything}]"
    policies.apply(EVERYTHING + allow(destination="podinfo", rules=rules) + ACCOUNT + config("blue") + SECRET)
    yield policies
    released = json.dumps(
        {"metadata": {"finalizers": None}}
    )  # nobody is left to finalize what a failure left
    policies.kubectl(
        "patch", "canary", "podinfo", "-n", NAMESPACE, "--type=merge", "-p", released, check=False
    )
    policies.kubectl(
        "delete", "-n", NAMESPACE, "--ignore-not-found",
        "canary,deployment,daemonset,hpa,serviceaccount", "podinfo",
    )  # fmt: skip
    policies.kubectl("delete", "-n", NAMESPACE, "configmap/podinfo-config", "secret/podinfo-keys")
    policies.kubectl("delete", "crd", "canaries.flagger.app")


@dataclass
class Play:
    cluster: Cluster
    flagger: FlaggerRun

    def until(self, did: str) -> None:
        wait_for(f"Flagger to say {did!r}", lambda: did in self.flagger.advance(), 60)

    def writes(self) -> list[str]:
        found, self.flagger.api.writes[:] = list(self.flagger.api.writes), []
        return found

    def answers(self) -> dict[str, int]:
        """Who answers, once all proxies know the weights; every request is answered 200."""
        self.cluster.programmed("trafficsplit", "podinfo")
        answer = self.cluster.call("web", url=URL, count=REQUESTS, concurrency=8)
        assert answer["statuses"] == {"200": REQUESTS}, answer
        servers: dict[str, int] = answer["servers"]
        return servers


def take_over(cluster: Cluster, manifests: str) -> Play:
    cluster.apply(manifests)
    flagger = FlaggerRun(Api(Kube(cluster.kubeconfig), NAMESPACE), "podinfo", lambda _weight: True)
    flagger.start()
    play = Play(cluster, flagger)
    play.until("Initialization done!")
    return play


def test_configuration_is_promoted_through_gates(namespace: Cluster, hooks: Hooks) -> None:
    """Only the ConfigMap changes: a revision to Flagger, and the primary keeps its copy until promotion."""
    kinds = {
        "gate": "confirm-rollout",
        "smoke": "pre-rollout",
        "load": "rollout",
        "raise": "confirm-traffic-increase",
        "promote": "confirm-promotion",
        "abort": "rollback",
        "after": "post-rollout",
    }
    webhooks = [
        {"name": name, "type": kind, "url": f"http://127.0.0.1:{hooks.port}/{name}"}
        for name, kind in kinds.items()
    ]
    hooks.closed |= {"gate", "promote", "abort"}
    analysis = {"maxWeight": 50, "stepWeight": 50, "webhooks": webhooks}
    reference = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "podinfo"}
    play = take_over(
        namespace,
        workload("Deployment") + AUTOSCALER + canary("Deployment", analysis, autoscalerRef=reference),
    )
    assert play.writes() == [
        "POST services/podinfo-canary",
        "POST services/podinfo-primary",
        "POST configmaps/podinfo-config-primary",
        "POST secrets/podinfo-keys-primary",
        "POST deployments/podinfo-primary",
        "POST horizontalpodautoscalers/podinfo-primary",
        "POST services/podinfo",
        "PATCH deployments/podinfo",
        "POST trafficsplits/podinfo",
    ]
    assert [play.flagger.advance() for _ in range(3)] == ["no new revision"] * 3
    assert play.writes() == [], "nothing drifts from what Flagger wrote"
    hooks.take()

    namespace.apply(config("green"))
    play.until("waiting for approval")
    assert play.flagger.phase() is Phase.WAITING
    assert play.answers() == {"podinfo-primary-1-blue": REQUESTS}
    hooks.closed.remove("gate")
    served: list[dict[str, int]] = []
    hooks.load = lambda: served.append(play.answers())
    play.until("canary weight 50")
    play.until("waiting for promotion approval")
    assert set(served[0]) == {"podinfo-primary-1-blue", "podinfo-1-green"}
    assert play.flagger.phase() is Phase.WAITING_PROMOTION
    hooks.closed.remove("promote")
    play.until("Promotion completed!")
    order = list(dict.fromkeys(name for name, _phase in hooks.take() if name != "abort"))
    assert order == ["gate", "smoke", "raise", "load", "promote", "after"]
    assert play.answers() == {"podinfo-primary-1-green": REQUESTS}
    writes = play.writes()
    assert writes.index("PUT configmaps/podinfo-config-primary") < writes.index(
        "PUT deployments/podinfo-primary"
    )
    autoscaler = namespace.get("hpa", "podinfo-primary", "-n", NAMESPACE)
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == "podinfo-primary"
    assert play.flagger.advance() == "no new revision"

    namespace.apply(config("red"))
    hooks.closed.discard("abort")
    play.until("Canary failed!")
    assert play.flagger.phase() is Phase.FAILED
    assert play.answers() == {"podinfo-primary-1-green": REQUESTS}
    assert ("after", "Failed") in hooks.take()
    assert play.flagger.advance() == "no new revision"


def test_a_daemonset_goes_from_blue_to_green_and_back_to_its_owner(namespace: Cluster) -> None:
    analysis = {"iterations": 2}
    play = take_over(namespace, workload("DaemonSet") + canary("DaemonSet", analysis, revertOnDeletion=True))
    assert play.answers() == {"podinfo-primary-1-blue": REQUESTS}
    namespace.apply(workload("DaemonSet", 2))
    play.until("canary iteration 2/2")
    assert play.answers() == {"podinfo-primary-1-blue": REQUESTS}
    play.until("Routing all traffic to canary")
    assert play.answers() == {"podinfo-2-blue": REQUESTS}
    play.until("Promotion completed!")
    assert play.answers() == {"podinfo-primary-2-blue": REQUESTS}
    address = namespace.pods("podinfo-primary")[0]["status"]["podIP"]
    with build_opener(ProxyHandler({})).open(f"http://{address}:15020/metrics", timeout=10) as metrics:
        counted = metrics.read().decode()
    assert 'destination_workload="podinfo-primary"' in counted, "the name that Flagger's queries ask for"

    def target_is_away() -> bool:
        status = namespace.get("daemonset", "podinfo", "-n", NAMESPACE)["status"]
        return bool(status["desiredNumberScheduled"] == status["numberMisscheduled"] == 0)

    wait_for("the target's pod to go", target_is_away)
    assert play.flagger.advance() == "no new revision"

    # A/B: Flagger's SMI routers write no match, so everybody is sent to the canary at once
    match = {"spec": {"analysis": {"match": [{"headers": {"x-canary": {"exact": "insider"}}}]}}}
    namespace.kubectl("patch", "canary", "podinfo", "-n", NAMESPACE, "--type=merge", "-p", json.dumps(match))
    namespace.apply(workload("DaemonSet", 3))
    play.until("canary iteration 1/2")
    assert play.answers() == {"podinfo-3-blue": REQUESTS}

    namespace.kubectl("delete", "canary", "podinfo", "-n", NAMESPACE, "--wait=false")

    def finalized() -> bool:
        try:
            play.flagger.finalize()
        except AssertionError:  # not ready: Flagger tries again
            return False
        return True

    wait_for("the target to be its owner's again", finalized)
    assert namespace.get("daemonset", "podinfo", "-n", NAMESPACE)["status"]["numberAvailable"] == 1
    for one in ("daemonset/podinfo-primary", "service/podinfo", "trafficsplit/podinfo", "canary/podinfo"):
        namespace.wait_gone(one)
