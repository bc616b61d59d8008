"""A real Prometheus scrapes real proxies: every query we ship has an answer, and Flagger's are right.

One cluster of its own, because its proxies speak all dialects and Prometheus scrapes every second.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener
from xml.etree import ElementTree

import pytest

from controller.monitoring import dashboard_queries, dashboards, rules
from tests.e2e import dashboard_picture, flagger, policies
from tests.e2e.harness import NAMESPACE, Cluster, deployment, service, start_cluster, wait_for

CANARY, PRIMARY = "podinfo", "podinfo-primary"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
DIALECTS = "istio,linkerd,osm,smi"
FAILURES, SLOW, TOTAL = 30, 20, 200
"""Of TOTAL requests to the canary so many are answered 503, and so many others 200 after SLOW_SECONDS."""
SLOW_SECONDS = 0.7
WITHIN_SECONDS = 30.0


def workload(
    name: str, annotations: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> str:
    dialects = {"smi-mesh.io/metrics": DIALECTS}
    return deployment(
        name, labels={"version": "v1"}, annotations=dialects | dict(annotations or {}), env=env, grace=1
    )


SHOP = (
    f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{smi-mesh.io/inject: enabled}}}}
---"""
    + workload("web")
    + workload("stranger")
    + workload(CANARY)
    + workload(PRIMARY)
    + workload(
        "db",
        {"prometheus.io/scrape": "true", "prometheus.io/port": "9000"},
        {"TCP_PORT": "5432"},
    )
    # As Flagger lays it out: the root leads to the primary, and each of both has a Service of its own.
    + service("podinfo", f"app: {PRIMARY}", 8080, "http")
    + service("podinfo-canary", f"app: {CANARY}", 8080, "http")
    + service("podinfo-primary", f"app: {PRIMARY}", 8080, "http")
    + service("db", "app: db", 5432, "tcp-db")
)
CANARY_SPLIT = f"""
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {{name: podinfo, namespace: {NAMESPACE}}}
spec:
  service: podinfo
  backends:
  - {{service: podinfo-canary, weight: 25}}
  - {{service: podinfo-primary, weight: 75}}
---
"""


@dataclass
class Observed:
    """The cluster and its Prometheus."""

    cluster: Cluster
    url: str
    began: float = field(default_factory=time.time)

    def ask(self, path: str, **parameters: str) -> Any:
        query = f"?{urlencode(parameters)}" if parameters else ""
        with build_opener(ProxyHandler({})).open(f"{self.url}/api/v1/{path}{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Every (labels, value) of an instant vector or scalar that is a number."""
        data = self.ask("query", query=query)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        found = [(item["metric"], float(item["value"][1])) for item in data["result"]]
        return [(labels, value) for labels, value in found if value == value]

    def range(self, query: str, began: float, ended: float) -> list[dict[str, Any]]:
        """The series of a range query, a point a second."""
        found = self.ask("query_range", query=query, start=str(began), end=str(ended), step="1")
        series: list[dict[str, Any]] = found["result"]
        return series

    def run_query(self, query: str) -> float:
        """As Flagger's provider reads an answer: the last value of all."""
        values = [value for _, value in self.query(query)]
        assert values, f"no values found: {query}"
        return values[-1]

    def total(self, selector: str) -> float:
        return sum(value for _, value in self.query(f"sum({selector})"))

    def scraped_since(self, moment: float) -> None:
        """Wait until every target has been scraped after `moment`, so that all of them tell of the same."""
        wait_for(
            "a scrape of every target",
            lambda: all(scraped > moment for _, scraped in self.query("timestamp(up)")),
            WITHIN_SECONDS,
        )

    def call(self, app: str, service: str, query: str, count: int = 1, **order: Any) -> None:
        url = f"http://{service}.{NAMESPACE}:8080/?{query}"
        summary = self.cluster.call(app, url=url, count=count, concurrency=10, **order)
        assert summary["total"] == count
        assert not summary["errors"], summary


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A mesh under a known mix of successes, failures and latencies, all of it scraped."""
    state = tmp_path_factory.mktemp("observed")
    cluster = start_cluster(state, "--prometheus", "--scrape-seconds", "1")
    try:
        found = Observed(cluster, cluster.local("status")["prometheus"])
        _play(found)
        yield found
    except BaseException:
        print(cluster.diagnosis())  # noqa: T201 - shown by pytest with the failure
        raise
    finally:
        subprocess.run([*cluster.command, "local", "down", "--state-dir", str(state)], check=True, timeout=60)


def _play(observed: Observed) -> None:
    cluster = observed.cluster
    cluster.kubectl("apply", "-f", "-", text=SHOP)
    everything = "[{kind: TCPRoute, name: everything}]"
    grants = "".join(policies.allow("web", to, rules=everything) for to in (CANARY, PRIMARY, "db"))
    cluster.apply(policies.tcp_route("everything") + grants + CANARY_SPLIT)
    cluster.kubectl(
        "wait", "-n", NAMESPACE, "--for=condition=Available", "deployment", "--all", "--timeout=60s"
    )
    for to in (CANARY, PRIMARY, "db"):
        cluster.programmed("traffictarget", f"web-to-{to}")
    cluster.programmed("trafficsplit", "podinfo")
    # A counter's first value is no increase to Prometheus: everything happens once before it counts.
    observed.call("web", "podinfo-canary", "status=503")
    observed.call("web", "podinfo-canary", "status=200")
    observed.call("web", "podinfo-primary", "status=200")
    observed.call("web", "podinfo", "status=200", 40)
    observed.call("stranger", "podinfo-primary", "status=200")
    cluster.talk("web", host=f"db.{NAMESPACE}", port=5432)
    wait_for(
        "the first scrape of every proxy",
        lambda: (
            observed.total('istio_requests_total{reporter="destination"}') >= 44
            and observed.total("osm_request_total") >= 44
            and observed.total('istio_requests_total{response_code="403"}') >= 2
            and observed.total('istio_requests_total{response_code="503"}') >= 2
            and observed.total("istio_tcp_connections_closed_total") >= 2
        ),
        WITHIN_SECONDS,
    )
    observed.scraped_since(time.time())
    to_canary = f'istio_requests_total{{reporter="destination",destination_workload="{CANARY}"}}'
    before = observed.total(to_canary)
    observed.call("web", "podinfo-canary", "status=503", FAILURES)
    observed.call("web", "podinfo-canary", f"status=200&delay={SLOW_SECONDS}", SLOW)
    observed.call("web", "podinfo-canary", "status=200", TOTAL - FAILURES - SLOW)
    observed.call("web", "podinfo-primary", "status=200", TOTAL)
    observed.call("stranger", "podinfo-primary", "status=200", 20)
    observed.call("web", "podinfo", "status=200", 100)
    cluster.talk("web", host=f"db.{NAMESPACE}", port=5432, count=5)
    wait_for(
        "the last scrape of every proxy",
        lambda: (
            observed.total(to_canary) == before + TOTAL + 25
            and observed.total('osm_request_total{source_name="web"}') == 42 + 1 + 2 * TOTAL + 100
            and observed.total('istio_tcp_connections_closed_total{reporter="destination"}') == 6
            and observed.total('istio_requests_total{response_code="403",reporter="destination"}') == 21
        ),
        WITHIN_SECONDS,
    )
    observed.scraped_since(time.time())


def test_every_proxy_is_found(observed: Observed) -> None:
    pods = {pod["metadata"]["name"] for pod in observed.cluster.get("pods", "-n", NAMESPACE)["items"]}
    pods.add(observed.cluster.controller()["metadata"]["name"])
    found = {(labels["pod"], labels["job"]): value for labels, value in observed.query("up")}
    assert {pod for (pod, _), value in found.items() if value == 1} == pods
    own_ways = [(job, value) for (pod, job), value in found.items() if pod.startswith("db-")]
    assert sorted(own_ways) == [("kubernetes-pods", 0), ("kubernetes-pods-smi_mesh_io_scrape", 1)], (
        "the app's port is the user's matter, the proxy's is found beside it"
    )


@pytest.mark.parametrize("provider", flagger.PROVIDERS)
def test_flagger_sees_canary_and_primary_apart(observed: Observed, provider: str) -> None:
    canary = observed.run_query(flagger.success_rate(provider, NAMESPACE, CANARY))
    primary = observed.run_query(flagger.success_rate(provider, NAMESPACE, PRIMARY))
    # 225 requests since the first scrape; rate() extrapolates series of unlike age a little unlike.
    assert canary == pytest.approx(100 * (1 - FAILURES / (TOTAL + 25)), abs=1.5)
    assert primary == 100, "what a policy refuses is no failure of the workload"
    slowest = observed.run_query(flagger.duration(provider, NAMESPACE, CANARY))
    assert 1000 * SLOW_SECONDS <= slowest <= 1000
    assert observed.run_query(flagger.duration(provider, NAMESPACE, PRIMARY)) < 500


def test_every_query_of_the_dashboards_has_an_answer(observed: Observed) -> None:
    silent = [query for query in dashboard_queries() if not observed.query(query)]
    assert not silent


def test_every_rule_has_data_and_is_evaluated(observed: Observed) -> None:
    silent: list[str] = []
    for rule in (rule for group in rules()["groups"] for rule in group["rules"]):
        if "record" in rule:
            queries = [rule["expr"], rule["record"]]
        else:  # an alert answers only when it goes off: here, that it looks at something
            queries = re.findall(r"(?:smi_mesh_|service:)\w[\w:]*(?:\{[^}]*\})?", rule["expr"])
            assert queries, rule["expr"]
        silent += [query for query in queries if not observed.query(query)]
    assert not silent
    groups = observed.ask("rules")["groups"]
    unwell = [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]
    assert not unwell
    wanted = {group["name"]: len(group["rules"]) for group in rules()["groups"]}
    assert {group["name"]: len(group["rules"]) for group in groups} == wanted


def test_every_metric_is_documented(observed: Observed) -> None:
    docs = Path(__file__).parents[2] / "docs"
    documented = set(re.findall(r"`([a-z_]+)`", (docs / "metrics.md").read_text()))
    # recorded ones, Prometheus' own, the controller's runtime, and those of docs/udp.md
    others = re.compile(r".*:.*|up|ALERTS.*|(scrape|python|process|smi_mesh_udp)_.*")
    names = [name for name in observed.ask("label/__name__/values") if not others.fullmatch(name)]
    assert len(names) > 50
    assert [name for name in names if not _ways_to_write(name) & documented] == []


def _ways_to_write(name: str) -> set[str]:
    """A sample's name as the page may have it: its family's, and the controller's without their prefix."""
    family = re.sub(r"_(bucket|sum|count|created)$", "", name)
    found = {name, family, f"{family}_total"}
    return found | {one.removeprefix("smi_mesh_controller_") for one in found}


def test_recorded_figures_are_those_of_the_traffic(observed: Observed) -> None:
    ratio = {
        labels["service"]: value for labels, value in observed.query("service:smi_mesh_failures:ratio_rate5m")
    }
    assert ratio[f"{NAMESPACE}/podinfo-canary"] == pytest.approx(FAILURES / TOTAL, abs=0.02)
    assert ratio[f"{NAMESPACE}/podinfo-primary"] == 0
    share = {
        labels["backend"]: value
        for labels, value in observed.query("split_backend:smi_mesh_split_share:observed5m")
    }
    assert share == {
        f"{NAMESPACE}/podinfo-canary": pytest.approx(0.25, abs=0.02),
        f"{NAMESPACE}/podinfo-primary": pytest.approx(0.75, abs=0.02),
    }
    denials = observed.query("sum by (traffic_target, reason) (smi_mesh_traffic_target_denials_total)")
    assert denials == [
        ({"traffic_target": f"{NAMESPACE}/web-to-{PRIMARY}", "reason": "source-not-allowed"}, 21.0)
    ]


def test_a_bucket_leads_to_a_trace(observed: Observed) -> None:
    query = 'istio_request_duration_milliseconds_bucket{reporter="destination"}'
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}

    def traces() -> set[str]:
        observed.call("web", "podinfo", "status=200", headers=headers)  # a series looks once a second
        found = observed.ask("query_exemplars", query=query, start="0", end="4102444800")
        return {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}

    assert wait_for("an exemplar", traces) == {TRACE}


def test_dashboards_can_be_drawn(observed: Observed, tmp_path: Path) -> None:
    for name, dashboard in dashboards().items():
        drawn = dashboard_picture.picture(name, observed.range, observed.began, time.time())
        panels = ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}g")
        assert len(panels) == len(dashboard["panels"])
        for panel in panels:
            assert "No data" not in [text.text for text in panel.iter("{http://www.w3.org/2000/svg}text")]
        (tmp_path / f"{name}.svg").write_text(drawn)  # to look at


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.5, "percentunit", "50%"), (0, "percentunit", "0%"), (0.25, "s", "250 ms"), (90000, "s", "1.04 d"),
        (0, "s", "0 s"), (3 * 2**20, "bytes", "3 MiB"), (12.34, "reqps", "12.3 req/s"),
        (1500, "short", "1.5 k"),
    ],
)  # fmt: skip
def test_amounts_are_said_in_their_units(value: float, unit: str, said: str) -> None:
    assert dashboard_picture.amount(value, unit) == said


@pytest.mark.parametrize("top", [1e-6, 0.0, 0.03, 1, 7, 60, 3 * 2**20])
def test_marks_are_round_and_reach_the_top(top: float) -> None:
    marks = dashboard_picture.ticks(top)
    assert marks[0] == 0
    assert marks[-1] >= top * 0.999
    assert 2 <= len(marks) <= 6
