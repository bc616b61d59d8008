"""Properties of whole worlds: order, history, strangers and broken objects change nothing (S15, S29)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from controller.compile.compiler import compile  # noqa: A004 - the architecture's own verb
from controller.compile.slicing import slice_for
from controller.compile.snapshot import Snapshot
from smi.policy.access import Peer, Permit, admit_http, admit_tcp, compile_access
from smi.policy.match import Request
from tests.controller.compile import build
from tests.controller.compile.build import Obj, snapshot_of, world_of
from tests.controller.compile.test_read import JSONS

NAMES = ("api", "v1", "v2", "web")
ADDRESSES = {name: f"10.1.0.{index}" for index, name in enumerate(NAMES, start=1)}
KEYS = [f"{name}:80" for name in NAMES] + [f"10.96.0.{index}:80" for index in range(1, 5)]


def base() -> list[Obj]:
    return [
        obj
        for index, name in enumerate(NAMES, start=1)
        for obj in build.workload(name, ADDRESSES[name], cluster_ip=f"10.96.0.{index}")
    ]


def named(prefix: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{prefix}{number}" for number in range(3)])


SERVICE = st.sampled_from([*NAMES, "gone"])
WEIGHTS = st.dictionaries(SERVICE, st.integers(min_value=-1, max_value=3), min_size=1, max_size=3)
CREATED = st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])
GROUPS = st.none() | st.lists(named("g"), min_size=1, max_size=2, unique=True)
MATCH = st.fixed_dictionaries(
    {"name": st.sampled_from(["read", "write"])},
    optional={
        "pathRegex": st.sampled_from(["/items", "/items/.*", "/", "[", ".*"]),
        "methods": st.lists(st.sampled_from(["GET", "post", "*"]), max_size=2),
        "headers": st.just([{"x-user": "ann"}]),
    },
)
RULE = st.one_of(
    st.builds(build.http_rule, named("g")),
    st.builds(build.http_rule, named("g"), st.sampled_from(["read", "write", "typo"])),
    st.fixed_dictionaries({"kind": st.just("TCPRoute"), "name": named("t")}),
)
SPLIT = st.builds(
    lambda name, root, weights, groups, created: build.split(
        name, root, weights, matches=groups, created=created
    ),
    named("s"),
    SERVICE,
    WEIGHTS,
    GROUPS,
    CREATED,
)
TARGET = st.builds(
    build.target,
    named("a"),
    SERVICE,
    st.lists(SERVICE, max_size=2),
    st.lists(RULE, max_size=3),
    to_ns=st.sampled_from(["shop", "", "bank"]),
)
GROUP = st.builds(
    lambda name, matches: build.route_group(name, *matches),
    named("g"),
    st.lists(MATCH, max_size=2, unique_by=lambda match: match["name"]),
)
TCP = st.builds(
    lambda name, ports: build.tcp_route(name, *ports),
    named("t"),
    st.lists(st.sampled_from([80, 8080]), max_size=2),
)
POSTURE = st.builds(
    lambda mode: build.namespace("shop", mode=mode), st.sampled_from(["enforce", "permissive", "lax"])
)
LABELLED = st.builds(
    lambda ip, sa: build.pod("extra", f"10.1.0.{ip}", sa=sa, labels={"app": "api"}),
    st.sampled_from([1, 50]),
    SERVICE,
)
OBJECTS = st.lists(st.one_of(SPLIT, TARGET, GROUP, TCP, POSTURE, LABELLED), max_size=8).map(
    lambda objects: [*base(), *{(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}.values()]
)


def slices(snapshot: Snapshot, pods: Iterable[str]) -> dict[str, Any]:
    return {pod: slice_for(snapshot, pod, KEYS) for pod in pods}


@given(objects=OBJECTS, data=st.data())
def test_the_order_of_objects_means_nothing(objects: list[Obj], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(objects))
    one, two = snapshot_of(*objects), snapshot_of(*shuffled)
    assert one == two
    assert one.digest == two.digest


@given(history=st.lists(OBJECTS, min_size=2, max_size=4))
def test_what_was_compiled_before_means_nothing(history: list[list[Obj]]) -> None:
    """S15: nothing of an earlier world is left behind."""
    previous: Snapshot | None = None
    for objects in history:
        world = world_of(objects)
        found = compile(world, previous)
        assert found == compile(world)
        previous = found


@given(one=OBJECTS, two=OBJECTS)
def test_equal_digests_mean_equal_slices(one: list[Obj], two: list[Obj]) -> None:
    left, right = snapshot_of(*one), snapshot_of(*two)
    if left.digest == right.digest:
        assert slices(left, left.inbound) == slices(right, right.inbound)
        assert left.conditions == right.conditions
    else:
        assert left != right


@given(objects=OBJECTS, strangers=OBJECTS)
def test_unrelated_objects_change_no_slice(objects: list[Obj], strangers: list[Obj]) -> None:
    """S29. The strangers live in another namespace, at other addresses."""
    before = snapshot_of(*objects)
    after = snapshot_of(*objects, *(_moved(obj) for obj in strangers))
    assert slices(after, before.inbound) == slices(before, before.inbound)


def _moved(obj: Obj) -> Obj:
    """The same object in namespace `elsewhere`, with other addresses."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if isinstance(value, str):
            return (
                "elsewhere"
                if value == "shop"
                else value.replace("10.1.0.", "10.2.0.").replace("10.96.", "10.97.")
            )
        return value

    result: Obj = moved(obj)
    return result


@given(objects=OBJECTS, target=TARGET)
def test_a_traffic_target_never_takes_a_permission_away(objects: list[Obj], target: Obj) -> None:
    """S29."""
    target["metadata"]["name"] = "one-more"
    assert permissions(snapshot_of(*objects)) <= permissions(snapshot_of(*objects, target))


def permissions(snapshot: Snapshot) -> set[tuple[object, ...]]:
    return set(_permissions(snapshot))


REQUESTS = [
    Request(method, path, b"api", headers)
    for method in (b"GET", b"POST", b"DELETE")
    for path in (b"/", b"/items", b"/items/1")
    for headers in ((), ((b"x-user", b"ann"),))
]


def _permissions(snapshot: Snapshot) -> Iterator[tuple[object, ...]]:
    for pod, inbound in snapshot.inbound.items():
        table = compile_access(inbound)
        for source in NAMES:
            peer = Peer(f"spiffe://cluster.local/ns/shop/sa/{source}", f"shop/{source}-0")
            for port in (80, 8080):
                if isinstance(admit_tcp(table, peer, port), Permit):
                    yield pod, source, port
                for index, request in enumerate(REQUESTS):
                    if isinstance(admit_http(table, peer, port, request), Permit):
                        yield pod, source, port, index


BROKEN = [
    build.service("broken", selector={"app": "broken"}),
    build.pod(
        "broken", "10.9.9.9", containers=[{"ports": [{"containerPort": 1}], "livenessProbe": {"httpGet": {}}}]
    ),
    build.endpoint_slice("broken", [build.endpoint("broken", "10.9.9.9")]),
    build.split("broken", "broken", {"broken": 1}, matches=["broken"]),
    build.target(
        "broken",
        "broken",
        ["broken"],
        [build.http_rule("broken", "m"), {"kind": "TCPRoute", "name": "broken"}],
    ),
    build.route_group("broken", {"name": "m", "pathRegex": "/", "methods": ["GET"], "headers": [{"a": "b"}]}),
    build.tcp_route("broken", 80),
    build.identity_binding("broken", {"podLabelSelector": {"matchLabels": {"app": "broken"}}}),
]


@given(objects=OBJECTS, broken=st.sampled_from(BROKEN), data=st.data())
def test_a_broken_object_harms_only_itself(objects: list[Obj], broken: Obj, data: st.DataObject) -> None:
    """An object with anything at all in one place of it changes nobody else's slice."""
    part = data.draw(st.sampled_from(["spec", "metadata", "status", "endpoints", "ports"]))
    key = data.draw(
        st.sampled_from(sorted(broken.get(part) or {"": 0}))
        if isinstance(broken.get(part), dict)
        else st.none()
    )
    anything = data.draw(JSONS)
    hurt = {**broken, part: {**broken[part], key: anything} if key else anything}
    before = snapshot_of(*objects)
    after = snapshot_of(*objects, hurt)
    assert slices(after, before.inbound) == slices(before, before.inbound)
    for pod in after.inbound:
        slice_for(after, pod, ["10.9.9.9:1", "broken:80", "broken.broken:80"])
    for ref, status in before.conditions.items():
        assert after.conditions[ref] == status


def test_findings_say_each_thing_once_and_sorted() -> None:
    found = snapshot_of(*base(), build.split("s", "api", {"gone": 1}), build.namespace("shop", mode="lax"))
    assert list(found.findings) == sorted(set(found.findings))
    assert len(found.findings) == 2


def test_an_empty_world() -> None:
    found = snapshot_of()
    assert (found.inbound, found.destinations, found.findings) == ({}, {}, ())
