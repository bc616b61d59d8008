"""Nothing is lost while things change: weights, certificates, the controller, a pod."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

import pytest

from tests.e2e.harness import LEAF_SECONDS, NAMESPACE, Cluster, load, load_until_done, wait_for
from tests.e2e.policies import OPEN_API, split

pytestmark = pytest.mark.timeout(300)


def _all_answered(outcome: dict[str, Any]) -> None:
    assert outcome["errors"] == {}, outcome
    assert outcome["statuses"] == {"200": outcome["total"]}, outcome
    assert outcome["total"] > 100, outcome


def test_weight_changes_lose_nothing(policies: Cluster) -> None:
    policies.apply(OPEN_API + split({"api-v1": 100, "api-v2": 0}))
    policies.programmed("trafficsplit", "api")
    with load(policies, url="http://api:8080/", seconds=6, concurrency=8) as outcome:
        for weight in (90, 50, 10, 0, 50, 100):
            policies.apply(split({"api-v1": weight, "api-v2": 100 - weight}))
            policies.programmed("trafficsplit", "api")
    _all_answered(outcome)
    assert set(outcome["servers"]) == {"api-v1", "api-v2"}


def test_the_controller_can_be_killed_and_restarted(policies: Cluster) -> None:
    policies.apply(OPEN_API + split({"api-v1": 50, "api-v2": 50}))
    policies.programmed("trafficsplit", "api")

    before = policies.controller()
    with load_until_done(policies, url="http://api:8080/", seconds=3, concurrency=8) as outcome:
        policies.kill(before, "controller")
        wait_for(
            "the controller restarted",
            lambda: _restarts(policies.controller()) > _restarts(before),
            seconds=30,
        )
        policies.kubectl(
            "wait", "-n", "smi-mesh-system", "--for=condition=Ready", "pod", "--all", "--timeout=30s"
        )
    _all_answered(outcome)
    # The new controller moves traffic again.
    policies.apply(split({"api-v1": 0, "api-v2": 100}))
    policies.programmed("trafficsplit", "api")
    assert policies.call("web", url="http://api:8080/", count=50)["servers"] == {"api-v2": 50}


def _restarts(pod: Any) -> int:
    statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
    return sum(int(status["restartCount"]) for status in statuses)


def test_certificates_rotate_under_load(policies: Cluster) -> None:
    policies.apply(OPEN_API + split({"api-v1": 50, "api-v2": 50}))
    policies.programmed("trafficsplit", "api")
    before = {app: _certificate_expiry(policies, app) for app in ("web", "api-v1", "api-v2")}
    with load_until_done(
        policies, url="http://api:8080/", seconds=5, concurrency=4, interval=0.005
    ) as outcome:
        for app, expiry in before.items():
            wait_for(
                f"{app} has a new certificate",
                lambda app=app, expiry=expiry: _certificate_expiry(policies, app) > expiry,  # type: ignore[misc]  # default
                LEAF_SECONDS,
            )
    _all_answered(outcome)
    # New connections are made with the new certificates too.
    answer = policies.call("web", url="http://api:8080/", count=20, keep_alive=False)
    assert answer["statuses"] == {"200": 20}


def _certificate_expiry(cluster: Cluster, app: str) -> float:
    """Unix seconds, from the proxy's own metrics."""
    ip = cluster.pods(app)[0]["status"]["podIP"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{ip}:15020/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(r"^smi_mesh_certificate_expiry\w*(?:\{[^}]*\})? (\S+)$", text, re.M)
    assert found, text
    return float(found.group(1))


def test_killing_a_pod_fails_only_what_it_was_answering(policies: Cluster) -> None:
    """Idempotent requests are retried once elsewhere, so none of them fails."""
    policies.kubectl("scale", "-n", NAMESPACE, "deployment/api-v1", "--replicas=2")
    policies.wait_ready("api-v1", 2)
    policies.apply(OPEN_API)
    policies.programmed("traffictarget", "web-to-api-v1")
    victim = policies.pods("api-v1")[0]
    concurrency = 8
    with load(policies, url="http://api-v1:8080/?delay=0.005", seconds=8, concurrency=concurrency) as reads:
        policies.kill(victim, "smi-mesh-proxy", "app")
        policies.kubectl(
            "delete", "-n", NAMESPACE, "pod", victim["metadata"]["name"], "--grace-period=0", "--force"
        )
    _all_answered(reads)

    policies.wait_ready("api-v1", 2)
    victim = policies.pods("api-v1")[0]
    with load(
        policies,
        url="http://api-v1:8080/?delay=0.005",
        method="POST",
        body="x",
        seconds=8,
        concurrency=concurrency,
    ) as writes:
        policies.kill(victim, "smi-mesh-proxy", "app")
        policies.kubectl(
            "delete", "-n", NAMESPACE, "pod", victim["metadata"]["name"], "--grace-period=0", "--force"
        )
    failed = writes["total"] - writes["statuses"].get("200", 0)
    assert failed <= concurrency, writes
    policies.kubectl("scale", "-n", NAMESPACE, "deployment/api-v1", "--replicas=1")
    policies.wait_ready("api-v1", 1)
