"""One trace of a chain web → api → db: whose child each span is, a retry, a denial, and what pods may say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.dataplane.tracing.stand_in import Collector, Told
from tests.e2e.harness import NAMESPACE, Cluster, deployment, service, wait_for
from tests.e2e.policies import allow, routes

CALLER = "00f067aa0ba902b7"
_TRACES = itertools.count(1)


SAMPLED = {"smi-mesh.io/trace-sampling": "100%"}


def _server(name: str, following: str = "") -> str:
    app = {
        "image": "python",
        "args": ["python", "-m", "tests.e2e.chain"],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    return deployment(
        name, labels={"version": "v7"}, annotations=SAMPLED, env={"NEXT": following}, container=app, grace=2
    )


CHAIN = (
    deployment("traced-web", annotations=SAMPLED)
    + _server("traced-api", "http://traced-db:8080")
    + _server("traced-db")
    + service("traced-api", "app: traced-api", 8080, "http")
    + service("traced-db", "app: traced-db", 8080, "http")
)
POLICIES = (
    routes("traced-all", '[{name: all, pathRegex: ".*"}]')
    + routes("traced-some", '[{name: some, pathRegex: "/(items|flaky)/.*"}]')
    + allow("traced-web", "traced-api", rules="[{kind: HTTPRouteGroup, name: traced-all}]")
    + allow("traced-api", "traced-db", rules="[{kind: HTTPRouteGroup, name: traced-some}]")
)


@pytest.fixture(scope="module")
def chain(cluster: Cluster) -> Iterator[Cluster]:
    """The chain, with its sidecars' policies in force."""
    cluster.apply(CHAIN + POLICIES)
    for name in ("traced-web", "traced-api", "traced-db"):
        cluster.wait_ready(name, 1)
    for target in ("traced-web-to-traced-api", "traced-api-to-traced-db"):
        cluster.programmed("traffictarget", target)
    yield cluster
    cluster.kubectl(
        "delete", "-n", NAMESPACE, "--ignore-not-found", "--wait=false", "-f", "-", text=CHAIN + POLICIES
    )


def call(chain: Cluster, path: str, **headers: str) -> str:
    """Send one request down the chain as part of a trace of ours; returns the trace's id."""
    trace = f"{next(_TRACES):032x}"
    context = {"traceparent": f"00-{trace}-{CALLER}-01", **headers}
    answer = chain.call("traced-web", url=f"http://traced-api:8080{path}", headers=context)
    assert sum(answer["statuses"].values()) == 1, answer
    return trace


def tree(collector: Collector, trace: str) -> list[Told]:
    """The spans of the trace from the first to the last, each the child of the one before."""

    def told() -> list[Told]:
        found = {span.parent: span for span in collector.spans if span.trace == trace}
        return list(found.values()) if len(found) == 4 else []

    spans = {span.parent: span for span in wait_for(f"four spans of {trace}", told)}
    ordered, parent = [], CALLER
    while parent in spans:
        ordered.append(spans[parent])
        parent = ordered[-1].id
    return ordered


def shape(spans: list[Told]) -> list[tuple[str, str]]:
    return [(span.service, span.kind) for span in spans]


WHOLE = [
    ("traced-web", "CLIENT"),
    ("traced-api", "SERVER"),
    ("traced-api", "CLIENT"),
    ("traced-db", "SERVER"),
]


def test_a_request_down_the_chain_is_one_trace(chain: Cluster, collector: Collector) -> None:
    spans = tree(collector, call(chain, "/items/1?secret=1", tracestate="vendor=x"))
    assert shape(spans) == WHOLE
    assert [span.attributes["http.response.status_code"] for span in spans] == [200] * 4
    assert not [span for span in spans if span.error or span.events]
    assert {span.state for span in spans} == {"vendor=x"}
    first, *_, last = spans
    assert first.attributes["smi_mesh.service"] == f"{NAMESPACE}/traced-api"
    assert first.attributes["server.address"] == "traced-api"
    assert last.attributes["smi_mesh.source.identity"].endswith(f"/ns/{NAMESPACE}/sa/traced-api")
    assert last.attributes["smi_mesh.destination.identity"].endswith(f"/ns/{NAMESPACE}/sa/traced-db")
    assert last.attributes["url.path"] == "/items/1"
    assert last.resource["k8s.deployment.name"] == "traced-db"
    assert last.resource["service.version"] == "v7"
    assert len({span.attributes["smi_mesh.request_id"] for span in spans}) == 1
    assert "secret" not in repr(spans)


def test_what_was_tried_twice_is_an_event(chain: Cluster, collector: Collector) -> None:
    spans = tree(collector, call(chain, "/flaky/1"))
    assert shape(spans) == WHOLE
    assert [span.attributes["http.response.status_code"] for span in spans] == [200] * 4
    (name, said) = spans[3].events[0]
    assert (name, said["smi_mesh.reason"]) == ("smi_mesh.retry", "upstream-reset")
    assert spans[3].attributes["http.request.resend_count"] == 1


def test_what_was_denied_says_why_on_both_sides(chain: Cluster, collector: Collector) -> None:
    spans = tree(collector, call(chain, "/admin"))
    assert shape(spans) == WHOLE
    assert [span.attributes["http.response.status_code"] for span in spans] == [403] * 4
    denials = [span.attributes.get("smi_mesh.denial.id") for span in spans]
    assert denials[2] == denials[3]
    assert denials[3]
    assert denials[:2] == [None, None]  # the application answered these itself
    assert [span.error for span in spans] == [True, False, True, False]


def test_a_pod_that_did_not_ask_is_in_no_trace(chain: Cluster, collector: Collector) -> None:
    """Mesh-wide sampling is off here: the caller's sidecar leaves the context alone."""
    trace = f"{next(_TRACES):032x}"
    context = {"traceparent": f"00-{trace}-{CALLER}-01"}
    answer = chain.call("web", url="http://traced-api:8080/items/1", headers=context)
    assert answer["statuses"] == {"403": 1}  # nobody allows it; that is said in the destination's span

    def told() -> list[Told]:
        return [span for span in collector.spans if span.trace == trace]

    (span,) = wait_for("the destination's span", told)
    assert (span.service, span.parent) == ("traced-api", CALLER)
    assert span.attributes["smi_mesh.denial.reason"]
