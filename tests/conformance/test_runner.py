"""What a case's end is called, and in which order cases are taken."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.case import Case, Level, Run
from conformance.collect import Entry, parse_steps
from conformance.driver import DriverError
from conformance.drivers import world
from conformance.drivers.cluster import converge, same_object
from conformance.drivers.kinds import age
from conformance.expect import ExpectationError
from conformance.profiles import known
from conformance.report import Outcome
from conformance.runner import Queue, judge
from conformance.suite import Options, reproduce


async def fine(_: Any) -> None:
    return None


async def wrong(_: Any) -> None:
    raise ExpectationError("saw 3")


async def broken(_: Any) -> None:
    raise DriverError("no pod")


async def buggy(_: Any) -> None:
    raise KeyError("oops")


async def endless(_: Any) -> None:
    await converge(lambda: wrong(None), "something", 30)


def entry(name: str, run: Run = fine, access: Any = "open", seconds: float = 60.0) -> Entry:
    case = Case(name, "split-weights", Level.CORE, run, rules=("S1",), access=access, seconds=seconds)
    return Entry(case, "", name)


@pytest.mark.parametrize(
    ("run", "outcome", "text"),
    [
        (fine, Outcome.PASSED, ""),
        (wrong, Outcome.FAILED, "saw 3"),
        (broken, Outcome.ERROR, "no pod"),
        (buggy, Outcome.ERROR, "the case itself failed: KeyError"),
        (endless, Outcome.FAILED, "not finished within 0.1 s"),
    ],
)
async def test_only_the_mesh_can_fail_a_case(run: Run, outcome: Outcome, text: str) -> None:
    found, message = await judge(entry("x", run, seconds=0.1), None)  # type: ignore[arg-type]  # these cases use no mesh
    assert found is outcome
    assert message.startswith(text)


async def test_converging_tells_the_last_failure() -> None:
    with pytest.raises(ExpectationError, match=r"the thing: not within 0\.1 s; last: saw 3"):
        await converge(lambda: wrong(None), "the thing", 0.1)


def test_a_worker_keeps_to_its_state_while_it_can() -> None:
    queue = Queue([entry("a"), entry("b", access="closed"), entry("c"), entry("long", seconds=90)])
    taken = [queue.take("open") for _ in range(5)]
    assert [item.case.name if item else None for item in taken] == ["long", "a", "c", "b", None]


def test_one_object_has_one_path_whatever_the_version() -> None:
    one = "/apis/split.smi-spec.io/v1alpha1/namespaces/x/trafficsplits/web"
    assert same_object(one, one.replace("v1alpha1", "v1alpha4"))
    assert not same_object(one, one.replace("/web", "/api"))
    assert not same_object("/api/v1/namespaces/a", "/api/v1/namespaces/b")


def test_versions_are_ordered_as_kubernetes_does() -> None:
    versions = ["v1", "v1alpha4", "v1beta1", "v1alpha10"]
    assert sorted(versions, key=age) == ["v1alpha4", "v1alpha10", "v1beta1", "v1"]


def test_the_standing_world_carries_the_profile() -> None:
    plan = world.Plan("run", "image", known("osm"))
    pods = {
        obj["metadata"]["name"]: obj["spec"]["template"]["metadata"]
        for obj in world.standing(plan)
        if obj["kind"] == "Deployment"
    }
    assert pods["alpha"]["annotations"] == {"openservicemesh.io/inbound-port-exclusion-list": "9000"}
    assert pods["outsider"]["annotations"] == {"openservicemesh.io/sidecar-injection": "disabled"}
    assert world.namespace(plan, "x")["metadata"]["labels"]["openservicemesh.io/monitored-by"] == "osm"


def test_on_loopback_a_mesh_claims_less() -> None:
    whole, less = known("smi-mesh").claimed, known("smi-mesh").on_loopback().claimed
    assert whole - less == {"split-udp", "access-udp", "specs-udp", "access-plaintext", "access-probes"}
    assert known("osm").on_loopback().claimed == known("osm").claimed


def test_grants_cover_the_ports_a_case_deploys() -> None:
    ports = world.listening({"HTTP_PORT": "8081", "NAME": "x"}, [("http", 9090)])
    plan = world.Plan("run", "image", known("smi-mesh"))
    route = world.extra_grants(plan, "green", "one", "two", ports)[0]
    assert route["spec"]["matches"]["ports"] == [8080, 8081, 8090, 9090]


@pytest.mark.parametrize("mesh", ["osm", "fsm", "smi-mesh"])
def test_what_stands_is_understood_by_every_mesh(mesh: str) -> None:
    """No kind that the mesh may not serve, and every HTTP rule with the matches it means (OSM needs both)."""
    plan = world.Plan("run", "image", known(mesh))
    objects = [*world.grants(plan, world.SERVERS, "one", "two"), *world.marker_grants("1", "one")]
    assert any(obj["kind"] == "UDPRoute" for obj in objects) == (mesh == "smi-mesh")
    rules = [rule for obj in objects if obj["kind"] == "TrafficTarget" for rule in obj["spec"]["rules"]]
    assert {rule["kind"] for rule in rules} >= {"TCPRoute", "HTTPRouteGroup"}
    assert any(rule["kind"] == "UDPRoute" for rule in rules) == (mesh == "smi-mesh")
    assert all(rule.get("matches") for rule in rules if rule["kind"] == "HTTPRouteGroup")
    assert all(len(obj["spec"]["rules"]) == 1 for obj in objects if obj["kind"] == "TrafficTarget")


def test_the_reproduce_line_carries_the_selection(tmp_path: Any) -> None:
    options = Options(tmp_path, mesh="osm", groups=("split", "specs"), parallel=2, fresh=True)
    assert reproduce(options) == (
        "smi-mesh conformance run --mesh osm --parallel 2 --group split,specs --fresh"
    )


def test_an_empty_manifest_has_the_empty_step() -> None:
    assert parse_steps("", {}, "x") == {"": ()}
