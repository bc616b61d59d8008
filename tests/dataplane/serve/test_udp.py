"""UDP flows between pods: real sockets, real carriers; only the interception is the test's hand."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import replace

import pytest

from dataplane.serve.datagrams import packet
from dataplane.serve.sockets import Address
from smi.policy.codec import encode_destination
from smi.policy.snapshot import Backend, Destination, Grant, Mode, Mtls, PortSet, Protocol, Split
from tests.dataplane.serve.mesh import QUICK, Mesh, spiffe
from tests.dataplane.serve.udp import (
    CLOCK,
    CLUSTER,
    KEY,
    Caller,
    Pair,
    app,
    denials,
    dropped,
    grant,
    listen,
    reach,
)
from tests.dataplane.waiting import until


@pytest.fixture
async def pair(net: Mesh) -> Pair:
    made = Pair(net)
    await made.begin()
    return made


async def test_flows_keep_apart_and_answers_come_from_the_address_asked(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"one", 1)
    pair.caller.send(b"two", 2)
    pair.caller.send(b"again", 1)
    await pair.caller.answers(3)
    assert sorted(pair.caller.back) == [
        (CLOCK, app(1), b"clock again"),
        (CLOCK, app(1), b"clock one"),
        (CLOCK, app(2), b"clock two"),
    ]
    ports = {data: source[1] for data, source in pair.server.seen}
    assert ports[b"one"] == ports[b"again"] != ports[b"two"], "one flow, one port"
    text = pair.clock.telemetry.render().decode()
    labels = f'{{direction="inbound",peer="{spiffe("web")}",service="",backend=""}}'
    assert f"smi_mesh_udp_flows_total{labels} 2" in text
    assert f"smi_mesh_udp_sent_datagrams_total{labels} 3" in text
    assert 'smi_mesh_udp_flows{direction="inbound"} 2' in text


async def test_datagrams_of_any_size(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    for size in (0, 1, 1472, 9000, 65000):
        pair.caller.send(b"x" * size)
    assert sorted(map(len, await pair.caller.answers(5))) == [6, 7, 1478, 9006, 65006]


async def test_denied_by_default_with_silence_and_counted_once_per_flow(pair: Pair) -> None:
    pair.clock.admit(Grant("shop/tcp", frozenset({spiffe("web")}), tcp=PortSet(every=True)))
    for _ in range(3):
        pair.caller.send(b"knock", 1)
    pair.caller.send(b"knock", 2)
    await until(lambda: dropped(pair.clock) == {("inbound", "port-not-allowed"): 4})
    assert denials(pair.clock) == {"port-not-allowed": 2}
    assert (pair.server.seen, pair.caller.back) == ([], [])


async def test_a_live_flow_ends_with_its_permission_and_goes_on_with_a_new_one(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    pair.clock.admit(grant(pair.port, source="stranger"))
    pair.server.transport.sendto(b"late", pair.server.seen[0][1])  # nor do the app's own words leave
    pair.caller.send(b"two")
    await until(lambda: dropped(pair.clock).get(("inbound", "source-not-allowed"), 0) >= 1)
    await until(lambda: len(pair.clock.running.udp.inbound) == 0)
    assert [data for data, _ in pair.server.seen] == [b"one"]
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"three")
    assert await pair.caller.answers(2) == [b"clock one", b"clock three"]


async def test_permissive_lets_through_and_says_what_it_would_deny(pair: Pair) -> None:
    pair.clock.admit(mode=Mode.PERMISSIVE)
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    assert 'smi_mesh_admitted_by_note_total{note="permissive",reason="no-traffic-target"} 1' in (
        pair.clock.telemetry.render().decode()
    )


async def test_idle_flows_are_forgotten_on_both_sides(net: Mesh) -> None:
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    tables = pair.caller.udp._flows, pair.clock.running.udp.inbound.flows
    for table in tables:
        table.idle = 0.1
    await until(lambda: not any(map(len, tables)))
    for table in tables:
        table.idle = 30.0  # the next one is to be answered, however busy the machine
    pair.caller.send(b"two")
    await pair.caller.answers(2)
    first, second = (source for _, source in pair.server.seen)
    assert first != second, "a new flow has a new socket"


async def test_a_split_is_exact_per_flow_and_a_flow_stays(net: Mesh) -> None:
    web, v1, v2 = [await net.pod(name) for name in ("web", "v1", "v2")]
    caller = Caller(web)
    members = {}
    for pod in (v1, v2):
        port, _ = await listen(net, pod.ip, pod.name)
        pod.admit(grant(port))
        members[pod.name] = (pod.endpoint(port),)
    shares = tuple(
        Backend(f"shop/{name}", weight, f"udp:shop/{name}:5300") for name, weight in (("v1", 3), ("v2", 7))
    )
    reach(web, (Split("shop/s", None, shares),), clock=(), **members)
    for number in range(100):
        caller.send(b"x", number)
        caller.send(b"x", number)
    await caller.answers(200)
    by_flow: dict[Address, set[bytes]] = {}
    for _, to, payload in caller.back:
        by_flow.setdefault(to, set()).add(payload)
    assert all(len(names) == 1 for names in by_flow.values())
    got = Counter(next(iter(names)) for names in by_flow.values())
    assert got == {b"v1 x": 30, b"v2 x": 70}
    caller.udp.close()


async def test_nobody_to_send_to_is_a_counted_drop(pair: Pair) -> None:
    reach(pair.caller.pod, clock=())
    pair.caller.send(b"x")
    reach(pair.caller.pod, (Split("shop/s", None, (Backend("shop/v1", 0, "udp:shop/v1:5300"),)),))
    pair.caller.send(b"x")
    pair.caller.send(b"x", to=(pair.caller.pod.ip, 15001))
    assert dropped(pair.caller.pod) == {
        ("outbound", "no-endpoint"): 1,
        ("outbound", "no-backend"): 1,
        ("outbound", "loop"): 1,
    }
    assert len(pair.caller.udp) == 0


async def test_a_flow_moves_when_its_endpoint_is_gone(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    other = await pair.net.pod("other")
    port, _ = await listen(pair.net, other.ip, "other")
    other.admit(grant(port))
    reach(pair.caller.pod, clock=(pair.clock.endpoint(pair.port), other.endpoint(port)))
    pair.caller.send(b"two")
    assert (await pair.caller.answers(2))[1] == b"clock two", "it stays while it can"
    reach(pair.caller.pod, clock=(other.endpoint(port),))
    pair.caller.send(b"three")
    assert (await pair.caller.answers(3))[2] == b"other three"


async def test_a_lost_carrier_is_replaced_by_the_next_datagram(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    pair.clock.running.udp.inbound.close()
    await until(lambda: not pair.caller.udp._links)
    pair.caller.send(b"two")
    assert await pair.caller.answers(2) == [b"clock one", b"clock two"]


async def test_a_peer_that_is_somebody_else_gets_nothing(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.clock.contexts.rotate("impostor")
    pair.caller.send(b"secret")
    await until(lambda: dropped(pair.caller.pod) == {("outbound", "wrong-peer"): 1})
    assert pair.server.seen == []


async def test_a_rotation_leaves_flows_alone_and_new_ones_use_the_new_certificate(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"one", 1)
    await pair.caller.answers(1)
    pair.caller.pod.contexts.rotate()
    pair.caller.send(b"two", 1)
    pair.caller.send(b"three", 2)
    await pair.caller.answers(3)
    assert len(pair.caller.udp._open) == 2
    sources = dict(pair.server.seen)
    assert sources[b"one"] == sources[b"two"]


async def test_what_the_mesh_does_not_know_passes_through(net: Mesh) -> None:
    web = await net.pod("web")
    port, server = await listen(net, "127.0.0.1", "outside")
    web.pass_through(f"udp:127.0.0.1:{port}")
    caller = Caller(web)
    caller.send(b"x", to=("127.0.0.1", port))
    await caller.answers(1)
    assert caller.back == [(("127.0.0.1", port), app(), b"outside x")]
    assert [data for data, _ in server.seen] == [b"x"]
    caller.udp.close()


async def test_first_datagrams_wait_for_the_controllers_answer(net: Mesh) -> None:
    web, clock = await net.pod("web"), await net.pod("clock")
    port, _ = await listen(net, clock.ip, "clock")
    clock.admit(grant(port))
    caller = Caller(web)
    for number in range(QUICK.udp_waiting + 2):
        caller.send(b"%d" % number)
    assert dropped(web) == {("outbound", "queue-full"): 2}
    await until(lambda: KEY in web.state.subscriptions)
    reach(web, clock=(clock.endpoint(port),))
    answers = await caller.answers(QUICK.udp_waiting)
    assert answers[0] == b"clock 2"
    caller.udp.close()


async def test_what_waits_for_the_controller_is_bounded_in_bytes(net: Mesh) -> None:
    """Of one flow, and of all: many flows with few large datagrams are much, too."""
    web = await net.pod("web")
    caller = Caller(web)
    large = bytes(65_000)
    for _ in range(3):
        caller.send(large, 1)
    assert dropped(web) == {("outbound", "queue-full"): 1}
    caller.send(b"small", 2)
    for number in range(3, 200):
        caller.send(large, number)
    most = QUICK.udp_waiting_total // len(large)
    assert 200 - most <= dropped(web)["outbound", "queue-full"] < 200
    assert caller.udp._backlog.size <= QUICK.udp_waiting_total
    small = next(flow for flow in caller.udp._flows if flow.client == app(2))
    assert list(caller.udp._backlog.take(small)) == [b"small"]
    caller.udp.close()


async def test_a_flow_that_expires_while_it_waits_gets_no_way(pair: Pair) -> None:
    other: Address = ("10.96.0.10", 5300)
    web, udp = pair.caller.pod, pair.caller.udp
    pair.caller.send(b"x", to=other)
    key = f"udp:{other[0]}:{other[1]}"
    await until(lambda: key in web.state.subscriptions)
    udp._flows.idle = 0.0
    await until(lambda: len(udp) == 0)
    web.apply({f"destination/{key}": encode_destination(Destination("shop/o", 5300, Protocol.UDP, CLUSTER))})
    await until(lambda: dropped(web) == {("outbound", "destination-not-known"): 1})
    assert not udp._open
    assert not any(load.active for load in web.loads())


async def test_both_tables_are_bounded(net: Mesh) -> None:
    few = replace(QUICK, udp_flows=4, udp_flows_per_peer=2)
    web, clock = await net.pod("web", limits=few), await net.pod("clock", limits=few)
    port, server = await listen(net, clock.ip, "clock")
    clock.admit(grant(port))
    caller = Caller(web)
    reach(web, clock=(clock.endpoint(port),))
    for number in range(5):
        caller.send(b"x", number)
    await until(lambda: len(server.seen) == 2 and dropped(clock) == {("inbound", "flow-table-full"): 2})
    assert dropped(web) == {("outbound", "flow-table-full"): 1}
    caller.udp.close()


async def test_a_flood_on_one_flow_leaves_the_others_whole(net: Mesh) -> None:
    """What waits for a connection is shared; here none comes up until all has been sent."""
    net.limits = replace(QUICK, udp_queued=16_384)
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port))
    polite = [b"polite %d" % number for number in range(20)]
    for datagram in polite:
        for _ in range(100):
            pair.caller.send(bytes(1000), 1)
        pair.caller.send(datagram, 2)
    await until(lambda: [payload for payload, _ in pair.server.seen if payload[:6] == b"polite"] == polite)
    assert dropped(pair.caller.pod)["outbound", "queue-full"] > 1900


async def test_callers_outside_the_mesh(net: Mesh) -> None:
    clock = await net.pod("clock")
    port, server = await listen(net, clock.ip, "clock")
    back: list[tuple[Address, Address, bytes]] = []
    inbound = clock.running.udp.inbound

    def reply(source: Address, to: Address, payload: bytes) -> bool:
        back.append((source, to, payload))
        return True

    inbound.answer_strangers(reply)
    outside, here = ("192.0.2.7", 5000), (clock.ip, port)
    inbound.received(outside, here, b"before any config")
    clock.admit(grant(port))
    inbound.received(outside, here, b"strict")
    inbound.received(outside, here, b"strict")
    inbound.received(outside, (clock.ip, clock.settings.mesh_port), b"to the proxy itself")
    assert denials(clock) == {"no-config": 1, "no-identity": 1}
    assert dropped(clock) == {
        ("inbound", "no-config"): 1,
        ("inbound", "no-identity"): 2,
        ("inbound", "loop"): 1,
    }
    clock.admit(grant(port), mtls=Mtls.PERMISSIVE)
    inbound.received(outside, here, b"permissive")
    await until(lambda: back == [(here, outside, b"clock permissive")])
    assert [data for data, _ in server.seen] == [b"permissive"]


async def test_an_app_that_does_not_listen(pair: Pair) -> None:
    pair.clock.admit(grant(pair.port))
    pair.server.transport.close()
    await asyncio.sleep(0)
    pair.caller.send(b"x")
    await until(lambda: dropped(pair.clock) == {("inbound", "refused"): 1})


def test_a_packet_has_both_headers() -> None:
    made = packet(("10.96.0.9", 53), ("10.0.0.1", 40000), b"abc")
    assert made[0] == 0x45
    assert made[9] == socket.IPPROTO_UDP
    assert (socket.inet_ntoa(made[12:16]), socket.inet_ntoa(made[16:20])) == ("10.96.0.9", "10.0.0.1")
    assert made[20:] == b"\x00\x35\x9c\x40\x00\x0b\x00\x00abc"
