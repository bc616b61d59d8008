"""Paths of the TrafficMetrics API and what they ask."""

from __future__ import annotations

import pytest

from controller.metricsapi.documents import discovery, match_labels
from controller.metricsapi.query import NO_SUCH_RESOURCE, READ_ONLY, Document, Query, Refusal, parse
from controller.metricsapi.resources import RESOURCES, ROOT


def ask(path: str, **parameters: str) -> Query | Document | Refusal:
    return parse("GET", f"{ROOT}{path}", parameters)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/namespaces", Query(RESOURCES["namespaces"])),
        ("/namespaces/shop", Query(RESOURCES["namespaces"], "", "shop")),
        ("/namespaces/shop/edges", Query(RESOURCES["namespaces"], "", "shop", edges=True)),
        ("/namespaces/shop/pods/", Query(RESOURCES["pods"], "shop")),
        ("/namespaces/shop/pods/web-0", Query(RESOURCES["pods"], "shop", "web-0")),
        ("/namespaces/shop/pods/web-0/edges", Query(RESOURCES["pods"], "shop", "web-0", edges=True)),
        ("/deployments", Query(RESOURCES["deployments"])),
        ("/nodes/n1/edges", Query(RESOURCES["nodes"], "", "n1", edges=True)),
        ("/namespaces/shop/trafficsplits/a%2Eb", Query(RESOURCES["trafficsplits"], "shop", "a.b")),
        ("", Document.RESOURCES),
        ("/", Document.RESOURCES),
    ],
)
def test_what_a_path_asks(path: str, wanted: Query | Document) -> None:
    assert ask(path) == wanted


@pytest.mark.parametrize(
    "path",
    [
        "/namespaces/shop/spaceships",
        "/spaceships",
        "/pods/web-0",
        "/pods/web-0/edges",
        "/namespaces/shop/nodes",
        "/namespaces/shop/pods/web-0/log",
        "/namespaces/shop/pods/web-0/edges/more",
        "/namespaces/shop//web-0",
    ],
)
def test_what_there_is_not(path: str) -> None:
    assert ask(path) == NO_SUCH_RESOURCE


def test_other_paths_verbs_and_selectors() -> None:
    assert parse("GET", "/apis", {}) is Document.ROOTS
    assert parse("GET", "/apis/metrics.smi-spec.io", {}) is Document.GROUP
    assert parse("GET", "/apis/metrics.smi-spec.io/v1", {}) == NO_SUCH_RESOURCE
    assert parse("GET", "/", {}) == NO_SUCH_RESOURCE
    assert parse("DELETE", f"{ROOT}/pods", {}) == READ_ONLY
    assert ask("/pods", watch="true") == READ_ONLY
    assert isinstance(ask("/pods", watch="false"), Query)
    found = ask("/namespaces/shop/pods", labelSelector="app=a,tier!=b")
    assert isinstance(found, Query)
    assert found.selector == "app=a,tier!=b"
    refused = ask("/pods", fieldSelector="metadata.name=x")
    assert isinstance(refused, Refusal)
    assert refused.code == 400


def test_the_list_of_resources_is_the_specifications() -> None:
    rows = {one["name"]: one for one in discovery(Document.RESOURCES)["resources"]}
    assert {name for name in rows if "/" not in name} == {
        "namespaces", "nodes", "pods", "replicationcontrollers", "services", "daemonsets", "deployments",
        "replicasets", "statefulsets", "jobs", "trafficsplits",
    }  # fmt: skip
    assert {one for one in rows if "/" in one} == {f"{one}/edges" for one in rows if "/" not in one}
    assert not rows["namespaces"]["namespaced"]
    assert rows["jobs"]["namespaced"]
    assert discovery(Document.GROUP)["preferredVersion"]["version"] == "v1alpha1"
    assert discovery(Document.ROOTS)["groups"][0]["name"] == "metrics.smi-spec.io"


def test_only_equalities_go_into_match_labels() -> None:
    assert match_labels("app=a, tier==b,x!=y,z,!w,e in (a,b)") == {"app": "a", "tier": "b"}
    assert match_labels("") == {}
