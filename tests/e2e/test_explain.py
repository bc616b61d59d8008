"""`smi-mesh explain` on a running cluster says what the proxies then do."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any
from urllib.request import ProxyHandler, build_opener

from tests.e2e.harness import NAMESPACE, Cluster, deployment
from tests.e2e.policies import allow, routes, split, tcp_route

PASSES, DENIED, NOBODY, UNKNOWN = 0, 3, 5, 6
"""Exit codes of `smi-mesh explain` (docs/explain.md)."""


def explained(cluster: Cluster, *words: str, code: int = PASSES) -> Any:
    """The JSON of `smi-mesh explain`, in which the kubeconfig is the only thing it knows."""
    done = subprocess.run(
        [*cluster.command, "explain", "--kubeconfig", str(cluster.kubeconfig), "-o", "json", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def asked(cluster: Cluster, caller: str, method: str, path: str, *, passes: bool = False) -> Any:
    """What is said of a call to api-v1; the exit code has to agree."""
    words = ("--from", f"{caller}.{NAMESPACE}", "--to", "api-v1:8080", method, path)
    return explained(cluster, *words, code=PASSES if passes else DENIED)


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
    allowed = {
        call: asked(policies, *call, passes=call == ("web", "GET", "/items"))["allowed"] == 1
        for call in calls
    }
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
    logged = policies.kubectl("logs", "-n", NAMESPACE, "deploy/api-v1", "-c", "smi-mesh-proxy")
    lines = re.findall(rf"denied: {told[1]} (id=[0-9a-f]{{12}}) .*/sa/web", logged)
    metric = re.findall(
        rf'smi_mesh_denials_total\{{reason="{told[1]}",id="([0-9a-f]{{12}})"', scraped(policies, "api-v1")
    )
    # What stands in the response, in the log line and in the metric, each as it is copied from there.
    answers = [
        explained(policies, "--denial", written, "DELETE", "/items")
        for written in (header, lines[-1], *(one for one in metric if one == told[2]))
    ]
    assert len(answers) == 3
    assert answers[0] == answers[1] == answers[2]
    by_id = answers[0]
    assert (by_id["reason"], by_id["port"], by_id["misses"]) == (told[1], 8080, verdict["misses"])
    assert by_id["source"].endswith(f"/ns/{NAMESPACE}/sa/web")


def scraped(cluster: Cluster, app: str) -> str:
    """The page of metrics of a pod's sidecar."""
    ip = cluster.pods(app)[0]["status"]["podIP"]
    with build_opener(ProxyHandler({})).open(f"http://{ip}:15020/metrics", timeout=10) as answer:
        page: bytes = answer.read()
    return page.decode()


def test_a_caller_whose_sidecar_leaves_the_port_alone(policies: Cluster) -> None:
    everything = "[{kind: TCPRoute, name: everything}]"
    annotations = {"smi-mesh.io/exclude-outbound-ports": "8080"}
    policies.apply(
        tcp_route("everything")
        + "".join(allow(source, rules=everything) for source in ("web", "aside"))
        + deployment("aside", annotations=annotations)
    )
    try:
        policies.programmed("traffictarget", "aside-to-api-v1")
        policies.kubectl("wait", "-n", NAMESPACE, "--for=condition=Available", "deployment/aside")
        said = asked(policies, "aside", "GET", "/")
        assert said["identity"] is None
        assert [way["verdicts"][0]["reason"] for way in said["backends"]] == ["no-identity"]
        assert asked(policies, "web", "GET", "/", passes=True)["identity"].endswith("/sa/web")
        for caller, status in (("aside", "403"), ("web", "200")):
            assert policies.call(caller, url="http://api-v1:8080/")["statuses"] == {status: 1}
    finally:
        policies.kubectl("delete", "deployment,sa", "aside", "-n", NAMESPACE, "--wait=true")


def test_the_split_that_takes_it_is_named_with_shares(policies: Cluster) -> None:
    policies.apply(split({"api-v1": 3, "api-v2": 1}))
    policies.programmed("trafficsplit", "api")
    call = ("--from", f"web.{NAMESPACE}", "--to", f"api.{NAMESPACE}:8080", "GET", "/")
    answer = explained(policies, *call, code=DENIED)
    assert answer["split"] == f"{NAMESPACE}/api"
    assert {way["service"]: way["probability"] for way in answer["backends"]} == {
        f"{NAMESPACE}/api-v1": 0.75,
        f"{NAMESPACE}/api-v2": 0.25,
    }
    assert answer["allowed"] == 0
    policies.apply(split({"api-v1": 0}))
    assert "trouble" in explained(policies, *call, code=NOBODY)
    explained(policies, "--from", f"web.{NAMESPACE}", "--to", "nowhere:8080", code=UNKNOWN)
