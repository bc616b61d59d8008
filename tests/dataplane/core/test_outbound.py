"""Plans: which backend, which endpoint, or why nobody."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from dataplane.core.outbound import NoRoute, Plan, Router
from dataplane.core.outcome import Outcome
from smi.policy.match import Request
from smi.policy.snapshot import Backend, Cluster, Destination, Endpoint, RouteMatch, Split
from smi.policy.split import DestinationTable, compile_destination

CLUSTERS: dict[str, Cluster] = {
    "shop/api:80": (Endpoint("10.0.0.1", 8080), Endpoint("10.0.0.2", 8080)),
    "shop/v1:80": (Endpoint("10.0.1.1", 8080),),
    "shop/v2:80": (Endpoint("10.0.2.1", 8080), Endpoint("10.0.2.2", 8080)),
}


class Always:
    """Turns that always give the same backend."""

    def __init__(self, backend: Backend | None) -> None:
        self.backend = backend

    def next(self) -> Backend | None:
        return self.backend


@dataclass(frozen=True)
class Target:
    destination: Destination
    turns: Mapping[str, Always] = field(default_factory=dict)

    @property
    def table(self) -> DestinationTable:
        return compile_destination(self.destination)


def router(clusters: dict[str, Cluster] = CLUSTERS) -> Router:
    return Router(lambda key: clusters.get(key, ()), random.Random(1).random)


def backend(name: str) -> Backend:
    return Backend(f"shop/{name}", 1, f"shop/{name}:80")


def target(chosen: Backend | None, matches: tuple[RouteMatch, ...] | None = None, **rest: bool) -> Target:
    split = Split("shop/split", matches, (backend("v1"), backend("v2")), **rest)
    return Target(
        Destination("shop/api", 80, cluster="shop/api:80", splits=(split,)), {"shop/split": Always(chosen)}
    )


def test_without_a_split_the_root_answers() -> None:
    plan = router().plan(Target(Destination("shop/api", 80, cluster="shop/api:80")), None)
    assert isinstance(plan, Plan)
    assert plan.endpoint in CLUSTERS["shop/api:80"]
    assert (plan.service, plan.backend) == ("shop/api", "")


def test_a_split_sends_to_its_backend() -> None:
    plan = router().plan(target(backend("v1")), None)
    assert isinstance(plan, Plan)
    assert plan.endpoint == CLUSTERS["shop/v1:80"][0]
    assert (plan.service, plan.backend) == ("shop/api", "shop/v1")


def test_a_filtered_split_takes_matching_requests_only() -> None:
    place = target(backend("v2"), (RouteMatch("shop/g", "m", "/beta.*", frozenset(), ()),))
    beta = router().plan(place, Request(b"GET", b"/beta/1", b"api"))
    other = router().plan(place, Request(b"GET", b"/", b"api"))
    opaque = router().plan(place, None)
    assert [plan.backend for plan in (beta, other, opaque)] == ["shop/v2", "", ""]


def test_no_backend_is_not_the_root() -> None:
    """S8."""
    nobody = router().plan(target(None), None)
    assert isinstance(nobody, NoRoute)
    assert nobody.outcome is Outcome.NO_BACKEND
    assert "shop/split" in nobody.detail


def test_fallback_to_the_root_when_asked_for() -> None:
    plan = router().plan(target(None, fallback_root=True), None)
    assert isinstance(plan, Plan)
    assert plan.backend == ""


def test_no_endpoint_is_said_so() -> None:
    nobody = router({}).plan(Target(Destination("shop/api", 80, cluster="shop/api:80")), None)
    assert isinstance(nobody, NoRoute)
    assert nobody.outcome is Outcome.NO_ENDPOINT


def test_another_endpoint_is_of_the_same_backend_and_not_tried() -> None:
    made = router()
    first = made.plan(target(backend("v2")), None)
    assert isinstance(first, Plan)
    second = made.another(first, [first])
    assert second is not None
    assert {first.endpoint, second.endpoint} == set(CLUSTERS["shop/v2:80"])
    assert made.another(second, [first, second]) is None


def test_load_of_an_endpoint_is_shared_by_all_ways_to_it() -> None:
    clusters = {"shop/v1:80": CLUSTERS["shop/v1:80"], "shop/api:80": CLUSTERS["shop/v1:80"]}
    made = router(clusters)
    direct = made.plan(Target(Destination("shop/api", 80, cluster="shop/api:80")), None)
    through = made.plan(target(backend("v1")), None)
    assert isinstance(direct, Plan)
    assert isinstance(through, Plan)
    assert direct.load is through.load


def test_plans_follow_the_endpoints() -> None:
    clusters = dict(CLUSTERS)
    made = router(clusters)
    place = target(backend("v1"))
    first = made.plan(place, None)
    assert made.plan(place, None) is first
    clusters["shop/v1:80"] = (Endpoint("10.0.9.9", 1),)
    second = made.plan(place, None)
    assert isinstance(second, Plan)
    assert second.endpoint.ip == "10.0.9.9"


def test_direct_keeps_the_address() -> None:
    plan = router().direct("example.org", 443)
    assert (plan.endpoint, plan.service, plan.cluster) == (Endpoint("example.org", 443), "", "")
