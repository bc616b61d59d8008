"""`smi-mesh explain` on a running cluster says what the proxies then do."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.e2e.harness import NAMESPACE, Cluster
from tests.e2e.policies import allow, routes, split


def explained(cluster: Cluster, *words: str) -> Any:
    """The JSON of `smi-mesh explain`, in which the kubeconfig is the only thing it knows."""
    done = subprocess.run(
        [*cluster.command, "explain", "--kubeconfig", str(cluster.kubeconfig), "-o", "json", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def asked(cluster: Cluster, caller: str, method: str, path: str) -> Any:
    return explained(cluster, "--from", f"{caller}.{NAMESPACE}", "--to", "api-v1:8080", method, path)


def test_it_says_beforehand_what_happens(policies: Cluster) -> None:
    policies.apply(
        routes("items", "[{name: read, pathRegex: /items, methods: [GET]}]")
        + allow(rules="[{kind: HTTPRouteGroup, name: items, matches: [read]}]")
    )
    policies.programmed("traffictarget", "web-to-api-v1")
    calls = [
        (caller, method, path)
        for caller in ("web", "stranger")
        for method, path in [("GET", "/items"), ("DELETE", "/items"), ("GET", "/items/../admin")]
    ]
    allowed = {call: asked(policies, *call)["allowed"] == 1 for call in calls}
    seen = {
        (caller, method, path): policies.call(caller, url=f"http://api-v1:8080{path}", method=method)[
            "statuses"
        ]
        == {"200": 1}
        for caller, method, path in calls
    }
    assert allowed == seen
    assert sum(seen.values()) == 1


def test_a_denial_and_its_id_lead_to_the_same_answer(policies: Cluster) -> None:
    policies.apply(
        routes("items", "[{name: read, pathRegex: /items, methods: [GET]}]")
        + allow(rules="[{kind: HTTPRouteGroup, name: items, matches: [read]}]")
    )
    policies.programmed("traffictarget", "web-to-api-v1")
    (result,) = policies._order("web", "/call", {"url": "http://api-v1:8080/items", "method": "DELETE"})[
        "results"
    ]
    header = {name.lower(): value for name, value in dict(result["headers"]).items()}["x-smi-mesh-denial"]
    told = re.fullmatch(r"([a-z-]+); id=([0-9a-f]{12})", header)
    assert told is not None
    (backend,) = asked(policies, "web", "DELETE", "/items")["backends"]
    (verdict,) = backend["verdicts"]
    assert (verdict["reason"], verdict["denial"]) == told.groups()
    miss = f"method DELETE is not in match read of HTTPRouteGroup {NAMESPACE}/items"
    assert verdict["misses"] == [{"trafficTarget": f"{NAMESPACE}/web-to-api-v1", "miss": miss}]
    by_id = explained(policies, "--denial", told[2], "DELETE", "/items")
    assert (by_id["reason"], by_id["port"], by_id["misses"]) == (told[1], 8080, verdict["misses"])
    assert by_id["source"].endswith(f"/ns/{NAMESPACE}/sa/web")


def test_the_split_that_takes_it_is_named_with_shares(policies: Cluster) -> None:
    policies.apply(split({"api-v1": 3, "api-v2": 1}))
    policies.programmed("trafficsplit", "api")
    answer = explained(policies, "--from", f"web.{NAMESPACE}", "--to", f"api.{NAMESPACE}:8080", "GET", "/")
    assert answer["split"] == f"{NAMESPACE}/api"
    assert {way["service"]: way["probability"] for way in answer["backends"]} == {
        f"{NAMESPACE}/api-v1": 0.75,
        f"{NAMESPACE}/api-v2": 0.25,
    }
    assert answer["allowed"] == 0
