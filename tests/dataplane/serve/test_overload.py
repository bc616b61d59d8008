"""Too much of everything: refused in time, with a reason, and without harm to others."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dataplane.serve import pressure
from dataplane.serve.limits import Limits
from dataplane.serve.pressure import Pressure
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod, two_hops
from tests.dataplane.waiting import until

OTHER = "other.shop:8080"


def shed(pod: Pod) -> str:
    lines = pod.telemetry.render().decode().splitlines()
    return "\n".join(line for line in lines if line.startswith("smi_mesh_connections_refused_total{"))


async def test_requests_are_shed_before_memory_goes(net: Mesh) -> None:
    """Connections live on, and so do their requests once there is memory again."""
    echo = Echo()
    web, _ = await two_hops(net, echo)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    squeezed = web.running._serving.pressure
    resident, squeezed._resident = squeezed._resident, lambda: 1 << 62
    await until(lambda: squeezed.shedding)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overload")
    late = await net.client(web.outbound)
    answer = await late.ask(get(API, "/", "Content-Length: 3", method="POST"))
    assert (answer.status, answer.get("x-smi-mesh-reason"), answer.get("connection")) == (
        503,
        "overload",
        "close",
    )
    late.send(b"abc")
    assert await late.closed() == b""
    silent = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await silent.closed()
    opaque = await net.client(web.outbound)
    opaque.send(b"\0\1\2")
    with pytest.raises(ConnectionResetError):
        await opaque.closed()
    assert shed(web) == 'smi_mesh_connections_refused_total{reason="memory"} 3'
    squeezed._resident = resident
    await until(lambda: not squeezed.shedding)
    assert (await client.ask(get(API))).status == 200
    assert web.count("outbound") == {(200, ""): 2, (503, "overload"): 1}
    assert len(echo.seen) == 2


async def test_the_inbound_side_sheds_too(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    api.running._serving.pressure._resident = lambda: 1 << 62
    await until(lambda: api.running._serving.pressure.shedding)
    answer = await client.ask(get(API))
    assert (answer.status, api.count("inbound")) == (503, {(200, ""): 1, (503, "overload"): 1})


async def test_connections_are_bounded(net: Mesh) -> None:
    web, _ = await two_hops(net, Echo())
    first = await net.client(web.outbound)
    assert (await first.ask(get(API))).status == 200
    bounded = web.running._serving.pressure
    bounded._connections = 1
    await until(lambda: bounded._open > 1)
    second = await net.client(web.outbound)
    answer = await second.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "too-many-connections")
    many = [await net.client(web.outbound) for _ in range(40)]
    for client in many:  # the last of them at once, the others when they have said nothing
        with pytest.raises(ConnectionResetError):
            await client.closed()
    assert bounded._leaving == 0
    assert shed(web) == 'smi_mesh_connections_refused_total{reason="connections"} 41'
    assert (await first.ask(get(API))).status == 200


async def test_requests_to_the_app_are_bounded(net: Mesh) -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        await go.wait()
        writer.write(plain("app"))

    net.limits = replace(QUICK, requests_to_app=2)
    web, api = await two_hops(net, slow)
    clients = [await net.client(web.outbound) for _ in range(3)]
    for client in clients[:2]:
        client.send(get(API))
    await until(lambda: sum(load.active for load in web.loads()) == 2 and api.running.connections == 2)
    answer = await clients[2].ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    go.set()
    assert [(await client.receive()).status for client in clients[:2]] == [200, 200]


async def test_peers_that_are_turned_away_try_elsewhere(net: Mesh) -> None:
    web, api = await two_hops(net, Echo("full"))
    other = await net.pod("api")
    other.admit(net.anything())
    port = await net.serve(other.ip, Echo("free"))
    [first] = web.state.cluster("shop/api:8080")
    web.reach(API, [first, other.endpoint(port)])
    api.running._serving.pressure._connections = -1
    client = await net.client(web.outbound)
    assert [(await client.ask(get(API))).body for _ in range(10)] == [b"free"] * 10


async def held(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes a request and never answers."""
    await read_message(reader)
    await asyncio.Event().wait()


async def test_all_requests_of_the_app_together_are_bounded(net: Mesh) -> None:
    net.limits = replace(QUICK, requests_outbound=4)
    web, api = await two_hops(net, held)
    port = await net.serve(api.ip, Echo())
    web.reach(OTHER, [api.endpoint(port)], service="shop/other")
    clients = [await net.client(web.outbound) for _ in range(4)]
    for client in clients[:3]:
        client.send(get(API))
    await until(lambda: sum(load.active for load in web.loads()) == 3)
    for _ in range(3):  # there is room for one at a time
        assert (await clients[3].ask(get(OTHER))).status == 200
    clients[3].send(get(API))
    await until(lambda: sum(load.active for load in web.loads()) == 4)
    late = await net.client(web.outbound)
    answer = await late.ask(get(OTHER))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    clients[0].reset()
    await until(lambda: sum(load.active for load in web.loads()) == 3)
    assert (await late.ask(get(OTHER))).status == 200


async def test_opaque_connections_count_too(net: Mesh) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    net.limits = replace(QUICK, requests_outbound=2)
    web = await net.pod("web", original=lambda _: ("10.96.0.9", 5432))
    db = await net.pod("db")
    db.admit(net.anything())
    port = await net.serve(db.ip, echo)
    web.reach("10.96.0.9:5432", [db.endpoint(port)], service="shop/db", protocol=Protocol.TCP)
    for _ in range(2):
        client = await net.client(web.outbound)
        client.send(b"x")
        assert await client.read(1) == b"x"
    late = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await late.closed()
    assert {reason for one in web.telemetry._tcp.values() for reason in one.closed} == {"overflow"}


async def test_one_caller_leaves_room_for_others(net: Mesh) -> None:
    net.limits = replace(QUICK, requests_per_peer=2, requests_to_app=3)
    busy = Echo(answer=lambda _: asyncio.Event().wait())  # type: ignore[arg-type,return-value]  # never answers
    web, api = await two_hops(net, busy)
    other = await net.pod("other")
    api.admit(net.anything(), net.anything("other", "shop/other"))
    port = await net.serve(api.ip, Echo())
    for pod in (web, other):
        pod.admit()
        pod.reach(OTHER, [api.endpoint(port)], service="shop/other")
    greedy = [await net.client(web.outbound) for _ in range(3)]
    for client in greedy[:2]:
        client.send(get(API))
    await until(lambda: len(busy.seen) == 2)
    answer = await greedy[2].ask(get(OTHER))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    polite = await net.client(other.outbound)
    for _ in range(5):
        assert (await polite.ask(get(OTHER))).status == 200


async def test_a_stuck_server_does_not_slow_others(net: Mesh) -> None:
    async def stuck(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        await asyncio.Event().wait()

    web, api = await two_hops(net, stuck)
    port = await net.serve(api.ip, Echo())
    web.reach(OTHER, [api.endpoint(port)], service="shop/other")
    for _ in range(30):
        client = await net.client(web.outbound)
        client.send(get(API))
    await until(lambda: sum(load.active for load in web.loads()) == 30)
    quick = await net.client(web.outbound)
    for _ in range(50):
        assert (await quick.ask(get(OTHER))).status == 200
    assert web.count("outbound") == {(200, ""): 50}  # while each of the others is still stuck
    assert sum(load.active for load in web.loads()) == 30


async def test_a_flood_on_one_connection_leaves_others_their_turn(net: Mesh) -> None:
    web, _ = await two_hops(net, Echo())
    flood, polite = await net.client(web.outbound), await net.client(web.outbound)
    flood.send(get(API) * 5000)
    for _ in range(20):
        assert (await polite.ask(get(API))).status == 200
    answered = web.count("outbound")[200, ""] - 20
    assert answered < 5000, f"the flood was served first: {answered} of its requests"
    flood.reset()


def test_marks() -> None:
    used = 0
    it = Pressure(Limits(memory=1000, descriptors=100), lambda: used)
    for used, shedding in ((849, False), (850, True), (820, True), (800, False), (849, False)):
        it.measure()
        assert it.shedding is shedding, used


def test_memory_that_is_free_is_given_back_before_anything_is_shed() -> None:
    """The allocator keeps it, and would have a proxy shed for ever after one burst."""
    used, kept, given_back = 900, 500, 0

    def give_back() -> None:
        nonlocal used, given_back
        used -= kept
        given_back += 1

    it = Pressure(Limits(memory=1000), lambda: used, give_back)
    it.measure(100.0)
    assert (it.shedding, used, given_back) == (False, 400, 1)
    used, kept = 900, 20
    for now, times in ((101.0, 1), (104.9, 1), (105.0, 2), (105.5, 2), (110.0, 3)):
        it.measure(now)
        assert (it.shedding, given_back) == (True, times), now
    used = 700
    it.measure(120.0)
    assert (it.shedding, given_back) == (False, 3)


def test_what_a_container_allows(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    assert pressure.allowed_bytes(limit) == 1 << 62
    limit.write_text("max\n")
    assert pressure.allowed_bytes(limit) == 1 << 62
    limit.write_text("1048576\n")
    assert pressure.allowed_bytes(limit) == 1 << 20
