"""Rate limits and circuit breakers by annotation, with real processes over HTTP/1.1, HTTP/2, gRPC and TCP.

Rates are per hour, so a bucket holds its burst for the whole test. The bucket of a limit whose text
changes begins full, which is how the tests come to fresh ones.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.e2e.harness import NAMESPACE, Cluster, wait_for
from tests.e2e.policies import OPEN_API, allow, tcp_route

RATE, CONNECTIONS = "smi-mesh.io/rate-limit", "smi-mesh.io/connection-rate-limit"
BREAKER, OUTLIERS = "smi-mesh.io/circuit-breaker", "smi-mesh.io/outlier-detection"
URL = "http://api-v1:8080/items"
LIMITS = 'smi_mesh_circuit_breaker_limit{service="shop/api-v1"'


@pytest.fixture(scope="module")
def shop(cluster: Cluster) -> Iterator[Cluster]:
    """web and stranger may call api-v1, and web db; no annotation before and after."""
    cluster.delete_policies()
    cluster.apply(
        OPEN_API
        + allow("stranger", rules="[{kind: HTTPRouteGroup, name: everything}]")
        + tcp_route("postgres", 5432)
        + allow(destination="db", rules="[{kind: TCPRoute, name: postgres}]")
    )
    for target in ("web-to-api-v1", "stranger-to-api-v1", "web-to-db"):
        cluster.programmed("traffictarget", target)
    yield cluster
    for service in ("api", "api-v1", "db"):
        annotate(cluster, service, {RATE: "", CONNECTIONS: "", BREAKER: "", OUTLIERS: ""})
    cluster.delete_policies()


def annotate(cluster: Cluster, service: str, annotations: dict[str, str]) -> None:
    """Set annotations of a Service; an empty text takes one away."""
    words = [f"{name}={value}" if value else f"{name}-" for name, value in annotations.items()]
    cluster.kubectl("annotate", "-n", NAMESPACE, "service", service, "--overwrite", *words)


def metrics(cluster: Cluster, app: str) -> str:
    ip = cluster.pods(app)[0]["status"]["podIP"]
    with build_opener(ProxyHandler({})).open(f"http://{ip}:15020/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def limit(cluster: Cluster, service: str, annotation: str, text: str) -> None:
    """Set a rate limit, and wait until the sidecar of the pod behind the Service holds it."""
    annotate(cluster, service, {annotation: text})
    wait_for(f"{text} at {service}", lambda: f'limit="{text}"' in metrics(cluster, service))


def unlimited(cluster: Cluster, service: str, annotation: str, probe: Callable[[], bool]) -> None:
    """Take a rate limit away, and wait until it does not hold any more."""
    annotate(cluster, service, {annotation: ""})
    wait_for(f"the end of {annotation}", probe)


def calls(cluster: Cluster, app: str, count: int, **order: Any) -> list[dict[str, Any]]:
    """The answers, one after the other."""
    found: list[dict[str, Any]] = cluster._order(app, "/call", {"url": URL, "count": count, **order})[
        "results"
    ]
    return found


@pytest.mark.parametrize(("http", "burst"), [("http/1.1", 3), ("http/2", 4)])
def test_requests_beyond_the_limit_are_answered_429(shop: Cluster, http: str, burst: int) -> None:
    limit(shop, "api-v1", RATE, f"1/h burst {burst} per client")
    answers = calls(shop, "web", burst + 2, http=http)
    assert [answer["status"] for answer in answers] == [200] * burst + [429] * 2
    headers = dict(answers[-1]["headers"])
    assert headers["x-smi-mesh-reason"] == "rate-limited"
    assert 3500 < int(headers["retry-after"]) <= 3600
    # another client has its own tokens
    assert calls(shop, "stranger", 1, http=http)[0]["status"] == 200
    page = metrics(shop, "api-v1")
    (line,) = [line for line in page.splitlines() if f"burst {burst} per client" in line]
    assert line.startswith('smi_mesh_rate_limited_total{service="shop/api-v1"')
    assert line.endswith(" 2")
    assert 'response_flags="RL"' in page
    unlimited(shop, "api-v1", RATE, lambda: calls(shop, "web", 1, http=http)[0]["status"] == 200)


def test_a_grpc_call_beyond_the_limit_is_exhausted(shop: Cluster) -> None:
    limit(shop, "api-v1", RATE, "1/h burst 2 on everything")
    answers = [dict(answer["headers"]) for answer in calls(shop, "web", 3, http="grpc", method="POST")]
    assert answers[-1]["grpc-status"] == "8"
    assert int(answers[-1]["grpc-retry-pushback-ms"]) > 3_500_000
    assert [answer.get("x-smi-mesh-reason") for answer in answers] == [None, None, "rate-limited"]
    unlimited(shop, "api-v1", RATE, lambda: calls(shop, "web", 1)[0]["status"] == 200)


def test_connections_beyond_the_limit_are_reset(shop: Cluster) -> None:
    limit(shop, "db", CONNECTIONS, "1/h burst 2")
    assert shop.talk("web", host="db", port=5432, send="hello", count=5) == {None: 2, "reset": 3}
    unlimited(
        shop, "db", CONNECTIONS, lambda: shop.talk("web", host="db", port=5432, send="hello") == {None: 1}
    )


def test_what_is_not_understood_is_an_event_and_harms_only_itself(shop: Cluster) -> None:
    annotate(shop, "api-v1", {RATE: "7/x; 1/h burst 6 on everything/all"})

    def events() -> list[str]:
        found = shop.get("events", "-n", NAMESPACE)["items"]
        return [
            event["message"]
            for event in found
            if event["reason"] == "InvalidLimit" and event["involvedObject"]["name"] == "api-v1"
        ]

    messages = wait_for("the Event", events)
    (message,) = messages
    assert message.startswith(f"metadata.annotations.{RATE}: '7/x': expected requests per s, m or h such as")
    assert message.endswith("got '7/x'; this limit has no effect")
    wait_for("the other limit", lambda: "burst 6" in metrics(shop, "api-v1"))
    command = [*shop.command, "explain", "--from", "web.shop", "--to", "api-v1.shop:8080", "GET", "/items"]
    done = subprocess.run(
        [*command, "--kubeconfig", str(shop.kubeconfig)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "rate limit of Service shop/api-v1: 1/h burst 6 on everything/all" in done.stdout, done.stderr
    annotate(shop, "api-v1", {RATE: ""})


@pytest.mark.parametrize("http", ["http/1.1", "http/2"])
def test_a_circuit_breaker_lets_only_so_many_requests_be_under_way(shop: Cluster, http: str) -> None:
    annotate(shop, "api-v1", {BREAKER: "max-requests=2"})
    calls(shop, "web", 1, http=http)  # subscribes
    wait_for("the breaker", lambda: LIMITS in metrics(shop, "web"))
    slow = shop.call("web", url=f"{URL}?delay=2", count=5, concurrency=5, http=http, timeout=30)
    assert set(slow["statuses"]) == {"200", "503"}
    assert slow["statuses"]["200"] == 2
    assert slow["reasons"] == {"overflow": 3}
    rejected = 'smi_mesh_circuit_breaker_rejected_total{service="shop/api-v1",port="8080",'
    assert f'{rejected}threshold="max-requests"}} ' in metrics(shop, "web")
    annotate(shop, "api-v1", {BREAKER: ""})
    wait_for("the end of it", lambda: LIMITS not in metrics(shop, "web"))
    assert shop.call("web", url=f"{URL}?delay=0.2", count=5, concurrency=5, http=http)["statuses"] == {
        "200": 5
    }


def test_requests_wait_for_the_connections_that_are_allowed(shop: Cluster) -> None:
    annotate(shop, "api-v1", {BREAKER: "max-connections=1 max-pending-requests=10"})
    calls(shop, "web", 1)
    wait_for("the breaker", lambda: LIMITS in metrics(shop, "web"))
    assert shop.call("web", url=f"{URL}?delay=0.05", count=10, concurrency=5)["statuses"] == {"200": 10}
    annotate(shop, "api-v1", {BREAKER: ""})
    wait_for("the end of it", lambda: LIMITS not in metrics(shop, "web"))


def test_an_endpoint_that_fails_is_left_out(shop: Cluster) -> None:
    """Every answer of both versions fails: half of them may be left out, so one is, and is logged."""
    annotate(shop, "api", {OUTLIERS: "consecutive-errors=3 base-ejection-time=1h max-ejection-percent=50%"})
    url = "http://api:8080/"
    shop.call("web", url=url)
    ejected = 'smi_mesh_ejected_endpoints{service="shop/api",port="8080"} '
    wait_for("the setting", lambda: f"{ejected}0" in metrics(shop, "web"))
    failing = shop.call("web", url=f"{url}?status=500", count=20)
    assert failing["statuses"] == {"500": 20}
    answers = shop.call("web", url=url, count=20)
    assert answers["statuses"] == {"200": 20}
    assert len(answers["servers"]) == 1
    assert f"{ejected}1" in metrics(shop, "web")
    log = shop.kubectl("logs", "-n", NAMESPACE, "deployment/web", "-c", "smi-mesh-proxy")
    assert "is left out of shop/api:8080 for 3600 s" in log
    annotate(shop, "api", {OUTLIERS: ""})
    wait_for("the end of it", lambda: ejected not in metrics(shop, "web"))
    assert len(shop.call("web", url=url, count=20)["servers"]) == 2
