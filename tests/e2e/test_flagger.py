"""Canaries by Flagger and Argo Rollouts: their API calls, and the traffic that really flowed after each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from conformance.expect import judge_shares
from tests.e2e import flagger_run
from tests.e2e.flagger_api import Api
from tests.e2e.flagger_run import ArgoRouter, FlaggerRun, Phase, SplitRouter
from tests.e2e.harness import NAMESPACE, Cluster, deployment, wait_for
from tests.e2e.policies import EVERYTHING, OPEN_API, allow
from tests.localmesh.kube_kit import Kube

REQUESTS = 200
STEPS = (10, 20, 30, 40, 50)
THRESHOLD = 2
"""Failed checks before Flagger rolls back."""
BROKEN = (
    "import os\n"
    "from http.server import BaseHTTPRequestHandler as Handler, ThreadingHTTPServer as Server\n"
    "class Broken(Handler):\n"
    "    protocol_version = 'HTTP/1.1'\n"
    "    def do_GET(self):\n"
    "        self.send_response(500)\n"
    "        self.send_header('content-length', '0')\n"
    "        self.end_headers()\n"
    "Server((os.environ['BIND'], 8080), Broken).serve_forever()\n"
)
"""A revision that answers 500 to everything."""


def target(revision: int, **container: Any) -> str:
    """The Deployment a user owns. A pod's name tells the Deployment it is of and the revision."""
    app = {"fieldRef": {"fieldPath": "metadata.labels['app']"}}
    env = {"APP": app, "NAME": f"$(APP)-{revision}"}
    return deployment("podinfo", account="podinfo", replicas=None, env=env, container=container, grace=1)


CANARY = f"""
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {{name: podinfo, namespace: {NAMESPACE}}}
spec:
  provider: smi:v1alpha3
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: podinfo}}
  service: {{port: 8080}}
  analysis: {{interval: 10s, threshold: {THRESHOLD}, maxWeight: 50, stepWeight: 10}}
"""
ROLLOUT_CRD = (
    flagger_run.CANARY_CRD.replace("flagger.app", "argoproj.io")
    .replace("canaries", "rollouts")
    .replace("Canary", "Rollout")
    .replace("singular: canary", "singular: rollout")
    .replace("v1beta1", "v1alpha1")
)


@pytest.fixture
def api(policies: Cluster) -> Api:
    return Api(Kube(policies.kubeconfig), NAMESPACE)


@dataclass
class Play:
    """A canary under Flagger's care, and the mesh that carries its traffic."""

    cluster: Cluster
    flagger: FlaggerRun
    checks: list[bool] = field(default_factory=list)
    """What is left of the answers to Flagger's metric checks; fine when there is none left."""

    def until(self, did: str) -> None:
        """Tick until Flagger did this; raises TimeoutError otherwise."""
        wait_for(f"Flagger to say {did!r}", lambda: did in self.flagger.advance(), 60)

    def writes(self) -> list[str]:
        """What Flagger wrote since the last look."""
        found, self.flagger.api.writes[:] = list(self.flagger.api.writes), []
        return found

    def flows(self, weights: dict[str, int]) -> None:
        """Every request is answered 200, by the versions in proportion."""
        self.cluster.programmed("trafficsplit", "podinfo")
        answer = self.cluster.call("web", url="http://podinfo:8080/", count=REQUESTS, concurrency=8)
        assert answer["statuses"] == {"200": REQUESTS}, answer
        shares = judge_shares(weights, answer["servers"])
        assert all(share.ok for share in shares), shares


@pytest.fixture
def play(policies: Cluster, api: Api) -> Iterator[Play]:
    """Flagger has taken over revision 1."""
    policies.kubectl("apply", "-f", "-", text=flagger_run.CANARY_CRD)
    policies.kubectl("wait", "--for=condition=Established", "crd/canaries.flagger.app", "--timeout=10s")
    account = (
        f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: podinfo, namespace: {NAMESPACE}}}\n---"
    )
    rules = "[{kind: HTTPRouteGroup, name: everything}]"
    policies.apply(EVERYTHING + allow(destination="podinfo", rules=rules) + account + target(1) + CANARY)
    checks: list[bool] = []
    flagger = FlaggerRun(api, "podinfo", lambda weight: checks.pop(0) if checks else True)
    flagger.start()
    played = Play(policies, flagger, checks)
    played.until("Initialization done!")
    yield played
    policies.kubectl(
        "delete", "-n", NAMESPACE, "--ignore-not-found", "canary,deployment,serviceaccount", "podinfo"
    )
    policies.kubectl("delete", "crd", "canaries.flagger.app")


def test_a_canary_is_promoted_and_the_next_one_rolled_back(play: Play) -> None:
    cluster, flagger = play.cluster, play.flagger
    assert play.writes() == [
        "POST services/podinfo-canary",
        "POST services/podinfo-primary",
        "POST deployments/podinfo-primary",
        "POST services/podinfo",
        "PATCH deployments/podinfo",
        "POST trafficsplits/podinfo",
    ]
    play.flows({"podinfo-primary-1": 100, "podinfo-1": 0})
    assert [flagger.advance() for _ in range(3)] == ["no new revision"] * 3
    assert play.writes() == [], "nothing drifts from what Flagger wrote"

    cluster.apply(target(2))
    for weight in STEPS:
        play.until(f"canary weight {weight}")
        play.flows({"podinfo-2": weight, "podinfo-primary-1": 100 - weight})
    play.until("Copying")
    play.until("Routing all traffic to primary")
    play.flows({"podinfo-primary-2": 100, "podinfo-2": 0})
    play.until("Promotion completed!")
    assert play.writes() == [
        "PATCH deployments/podinfo",
        *["PUT trafficsplits/podinfo"] * len(STEPS),
        "PUT deployments/podinfo-primary",
        "PUT trafficsplits/podinfo",
        "PATCH deployments/podinfo",
    ]
    cluster.wait_ready("podinfo", 0)
    assert flagger.phase() is Phase.SUCCEEDED
    assert flagger.advance() == "no new revision"
    play.flows({"podinfo-primary-2": 100})

    cluster.apply(target(3, image="python", command=["python", "-c", BROKEN]))
    play.until("canary weight 10")
    cluster.programmed("trafficsplit", "podinfo")
    broken = cluster.call("web", url="http://podinfo:8080/", count=REQUESTS, concurrency=8)["statuses"]
    shares = judge_shares({"500": 10, "200": 90}, broken)
    assert all(share.ok for share in shares), shares
    play.checks += [False] * THRESHOLD
    for _ in range(THRESHOLD):
        play.until("Halt")
    play.until("Canary failed!")
    assert play.writes() == [
        "PATCH deployments/podinfo",
        "PUT trafficsplits/podinfo",
        "PUT trafficsplits/podinfo",
        "PATCH deployments/podinfo",
    ]
    play.flows({"podinfo-primary-2": 100})
    cluster.wait_ready("podinfo", 0)
    assert flagger.phase() is Phase.FAILED
    assert flagger.advance() == "no new revision", "a revision that failed is not tried again"
    events = cluster.kubectl(
        "get", "events", "-n", NAMESPACE, "--field-selector", "involvedObject.kind=Canary"
    )
    assert "Promotion completed!" in events
    assert "Canary failed!" in events

    cluster.kubectl("delete", "canary", "podinfo", "-n", NAMESPACE)
    owned = ("deployment/podinfo-primary", "service/podinfo", "trafficsplit/podinfo")
    for one in owned:
        cluster.wait_gone(one)


PAIR = "".join(
    f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{selector: {{app: {app}}}, ports: [{{name: http, port: 8080}}]}}
---"""
    for name, app in (("api-primary", "api-v1"), ("api-canary", "api-v2"))
)


def judge(cluster: Cluster, split: str, weights: dict[str, int], root: str = "api") -> None:
    cluster.programmed("trafficsplit", split)
    answer = cluster.call("web", url=f"http://{root}:8080/", count=REQUESTS, concurrency=8)
    assert answer["statuses"] == {"200": REQUESTS}, answer
    shares = judge_shares(weights, answer["servers"])
    assert all(share.ok for share in shares), shares


@pytest.mark.parametrize("provider", flagger_run.SPLIT_VERSIONS)
def test_flagger_shifts_weights_in_every_version(policies: Cluster, api: Api, provider: str) -> None:
    policies.apply(OPEN_API + PAIR)
    owner = policies.get("deployment", "api-v1", "-n", NAMESPACE)  # any object that exists
    router = SplitRouter(api, flagger_run.SPLIT_VERSIONS[provider], "api", owner)
    router.reconcile()
    assert router.routes() == (100, 0)
    judge(policies, "api", {"api-v1": 100, "api-v2": 0})
    router.set_routes(70, 30)
    judge(policies, "api", {"api-v1": 70, "api-v2": 30})
    router.reconcile()
    assert router.routes() == (70, 30), "a reconcile leaves the weights alone"
    router.set_routes(100, 0)
    judge(policies, "api", {"api-v1": 100, "api-v2": 0})
    assert api.writes == ["POST trafficsplits/api", "PUT trafficsplits/api", "PUT trafficsplits/api"]


@pytest.mark.parametrize(
    ("version", "root"), [("v1alpha1", "api"), ("v1alpha2", "api"), ("v1alpha3", "api"), ("v1alpha3", "")]
)
def test_argo_rollouts_sets_weights(policies: Cluster, api: Api, version: str, root: str) -> None:
    """Without a root service the stable one is the root, and a backend of itself."""
    policies.kubectl("apply", "-f", "-", text=ROLLOUT_CRD)
    policies.kubectl("wait", "--for=condition=Established", "crd/rollouts.argoproj.io", "--timeout=10s")
    smi = {"rootService": root} if root else {}
    canary = {
        "canaryService": "api-v2",
        "stableService": "api-v1",
        "trafficRouting": {"smi": smi},
    }
    rollout = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "shop"},
        "spec": {"strategy": {"canary": canary}},
    }
    policies.apply(OPEN_API + json.dumps(rollout))
    router = ArgoRouter(api, version, policies.get("rollout", "shop", "-n", NAMESPACE))
    for weight in (0, 25, 25, 100, 0):
        router.set_weight(weight)
        judge(policies, "shop", {"api-v2": weight, "api-v1": 100 - weight}, root or "api-v1")
    assert api.writes == ["POST trafficsplits/shop", *["PATCH trafficsplits/shop"] * 3]
    policies.kubectl("delete", "rollout", "shop", "-n", NAMESPACE)
    policies.wait_gone("trafficsplit/shop")
    policies.kubectl("delete", "crd", "rollouts.argoproj.io")
