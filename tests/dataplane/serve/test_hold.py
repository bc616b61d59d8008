"""Requests that no endpoint has seen wait for one that can be tried (S33)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from dataplane.core.outbound import Plan
from smi.policy.snapshot import Endpoint, Protocol
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod, free_port, split, two_hops
from tests.dataplane.serve.test_tcp import DB, echo, pair
from tests.dataplane.waiting import until

PATIENT = replace(QUICK, hold=30.0)


@pytest.fixture
async def patient(net: Mesh) -> Mesh:
    """Pods that wait as long as any test takes."""
    net.limits = PATIENT
    return net


async def held(pod: Pod, number: int = 1) -> None:
    await until(lambda: len(pod.running.waiting) == number)


async def gone(net: Mesh) -> tuple[Pod, Endpoint, Endpoint]:
    """web knows a pod whose app has ended: (web, that endpoint, another that it does not know yet)."""
    web, _ = await two_hops(net, Echo("next"))
    [sound] = web.state.cluster("shop/api:8080")
    ended = replace(sound, port=free_port())
    web.reach(API, [ended])
    return web, ended, sound


def begun(answer: Coroutine[Any, Any, bytes]) -> asyncio.Task[bytes]:
    return asyncio.get_running_loop().create_task(answer)


Ask = Callable[[Mesh, Pod], Coroutine[Any, Any, bytes]]


async def by_http1(net: Mesh, web: Pod) -> bytes:
    client = await net.client(web.outbound)
    return (await client.ask(get(API, "/", "Content-Length: 2", method="POST") + b"hi")).body


async def in_pieces(net: Mesh, web: Pod) -> bytes:
    """The body comes when the head is with the server already."""
    client = await net.client(web.outbound)
    client.send(get(API, "/", "Content-Length: 6", method="POST"))
    for piece in (b"hi", b"th", b"er"):
        await until(lambda: any(load.active for load in web.loads()))
        client.send(piece)
    return (await client.receive()).body


async def by_grpc(net: Mesh, web: Pod) -> bytes:
    async with grpc_app.channel(web.outbound, API) as channel:
        answer: bytes = await channel.unary_unary("/shop.Echo/Unary")(b"next", timeout=10)
        return answer


@pytest.mark.parametrize("ask", [by_http1, in_pieces])
async def test_the_next_pod_answers_for_one_that_has_ended(patient: Mesh, ask: Ask) -> None:
    web, ended, sound = await gone(patient)
    answers = [begun(ask(patient, web)) for _ in range(3)]
    await held(web, 3)
    web.reach(API, [replace(ended, leaving=True)])  # nothing that helps
    web.reach(API, [sound])
    assert await asyncio.gather(*answers) == [b"next"] * 3
    assert web.count("outbound") == {(200, ""): 3}
    assert not any(load.active for load in web.loads())


async def test_the_pod_itself_is_gone(patient: Mesh) -> None:
    """Its proxy has ended as well."""
    web, _ = await two_hops(patient, Echo("next"))
    [sound] = web.state.cluster("shop/api:8080")
    web.reach(API, [replace(sound, ip="127.99.3.1")])
    answer = begun(by_http1(patient, web))
    await held(web)
    web.reach(API, [sound])
    assert await answer == b"next"


@pytest.mark.parametrize("refusing", [1, 8])
async def test_a_grpc_call_waits_too(patient: Mesh, refusing: int) -> None:
    web, api = await two_hops(patient, Echo())
    server, port = await grpc_app.start(api.ip)
    try:
        web.reach(API, [api.endpoint(free_port()) for _ in range(refusing)])
        answer = begun(by_grpc(patient, web))
        await held(web)
        web.reach(API, [api.endpoint(port)])
        assert await answer == b"next"
    finally:
        await server.stop(0)


async def test_an_app_that_does_not_listen_yet_is_asked_again(patient: Mesh) -> None:
    """A container without a readiness probe is ready before its app is."""
    web, api = await two_hops(patient, Echo())
    port = free_port()
    web.reach(API, [api.endpoint(port)])
    answers = [begun(by_http1(patient, web)) for _ in range(2)]
    await held(web, 2)
    await patient.serve(api.ip, Echo("awake"), port)
    assert await asyncio.gather(*answers) == [b"awake"] * 2


async def test_many_endpoints_that_refuse_are_waited_for_too(patient: Mesh) -> None:
    """More than are tried at once."""
    web, ended, sound = await gone(patient)
    web.reach(API, [replace(ended, port=free_port()) for _ in range(8)])
    answer = begun(by_http1(patient, web))
    await held(web)
    web.reach(API, [sound])
    assert await answer == b"next"
    assert not any(load.active for load in web.loads())


async def test_an_opaque_connection_waits_for_many(patient: Mesh) -> None:
    web, _ = await pair(patient, echo)
    [sound] = web.state.cluster("shop/db:8080")
    many = [replace(sound, ip=f"127.99.3.{number}") for number in range(1, 9)]
    web.reach(DB, many, service="shop/db", protocol=sound_protocol(web))
    client = await patient.client(web.outbound)
    client.send(b"hello")
    await held(web)
    web.reach(DB, [sound], service="shop/db", protocol=sound_protocol(web))
    assert await client.read(5) == b"hello"


@pytest.mark.parametrize("turn", [0, 1])
async def test_a_request_does_not_storm_the_endpoints(patient: Mesh, turn: int) -> None:
    """It tries a few at once, then a few after each pause."""
    web, ended, _ = await gone(patient)
    web.reach(API, [replace(ended, port=free_port()) for _ in range(8)])
    target = web.state.lookup(API)
    assert target is not None
    router = web.running.router
    first = router.plan(target, None)
    assert isinstance(first, Plan)
    waiting = asyncio.get_running_loop().create_task(
        web.running.waiting.another(None, API, first, [first], turn)
    )
    await asyncio.sleep(0)  # it has looked
    assert waiting.done() is (turn == 0)
    found = await waiting
    assert found is not None
    assert found.load is not first.load


async def test_a_backend_that_is_given_up_is_not_waited_for(patient: Mesh) -> None:
    """A canary is scaled down at the moment its weight is taken away."""
    web, ended, sound = await gone(patient)
    clusters = {"shop/canary:8080": [ended], "shop/primary:8080": [sound]}
    web.reach(API, [], splits=[split("s", {"canary": 1, "primary": 0})], clusters=clusters)
    answers = [begun(by_http1(patient, web)) for _ in range(2)]
    await held(web, 2)
    web.reach(API, [], splits=[split("s", {"canary": 1, "primary": 1})], clusters=clusters)
    await held(web, 2)  # its weight holds: another backend is no answer
    web.reach(API, [], splits=[split("s", {"canary": 0, "primary": 1})], clusters=clusters)
    assert await asyncio.gather(*answers) == [b"next"] * 2


async def test_an_opaque_connection_waits_too(patient: Mesh) -> None:
    web, _ = await pair(patient, echo)
    [sound] = web.state.cluster("shop/db:8080")
    web.reach(DB, [replace(sound, ip="127.99.3.2")], service="shop/db", protocol=sound_protocol(web))
    client = await patient.client(web.outbound)
    client.send(b"hello")
    await held(web)
    web.reach(DB, [sound], service="shop/db", protocol=sound_protocol(web))
    assert await client.read(5) == b"hello"


def sound_protocol(web: Pod) -> Protocol:
    target = web.state.lookup(DB)
    assert target is not None
    return target.destination.protocol


async def test_waiting_ends(net: Mesh) -> None:
    web, _, _ = await gone(net)
    client = await net.client(web.outbound)
    answer = await client.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "connect-failed")
    assert web.count("outbound") == {(503, "connect-failed"): 1}


async def test_a_service_that_stays_down_is_not_waited_for_again(patient: Mesh) -> None:
    web, _, _ = await gone(patient)
    web.running.waiting._patience._outages["shop/api:8080"] = (
        web.state.cluster("shop/api:8080"),
        asyncio.get_running_loop().time() - 31.0,
        asyncio.get_running_loop().time(),
    )
    client = await patient.client(web.outbound)
    assert (await client.ask(get(API))).status == 503


async def test_so_many_may_wait(net: Mesh) -> None:
    net.limits = replace(PATIENT, held=1)
    web, _, sound = await gone(net)
    first = begun(by_http1(net, web))
    await held(web)
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 503
    web.reach(API, [sound])
    assert await first == b"next"


async def test_a_client_that_leaves_is_forgotten(patient: Mesh) -> None:
    web, _, sound = await gone(patient)
    client = await patient.client(web.outbound)
    client.send(get(API))
    await held(web)
    client.reset()
    await until(lambda: web.count("outbound"))
    web.reach(API, [sound])
    await held(web, 0)
    assert web.count("outbound") == {(0, "client-gone"): 1}
    assert not any(load.active for load in web.loads())


async def test_an_app_that_never_listened_is_waited_for_by_its_own_proxy(patient: Mesh) -> None:
    """An opaque connection that was passed on cannot be taken back."""
    web, db = await pair(patient, echo)
    port = free_port()
    web.reach(DB, [db.endpoint(port)], service="shop/db", protocol=sound_protocol(web))
    client = await patient.client(web.outbound)
    client.send(b"hello")
    await until(lambda: db.running.connections == 1)
    await patient.serve(db.ip, echo, port)
    assert await client.read(5) == b"hello"


async def test_an_app_that_has_listened_is_not(patient: Mesh) -> None:
    web, db = await pair(patient, echo)
    client = await patient.client(web.outbound)
    client.send(b"hello")
    assert await client.read(5) == b"hello"
    patient._servers[0].close()
    other = await patient.client(web.outbound)
    other.send(b"hello")
    with pytest.raises(ConnectionError):
        await other.read(5)
    assert "connect-failed" in {key for series in db.telemetry._tcp.values() for key in series.closed}


async def test_a_connection_that_the_peer_closed_in_order_has_seen_nothing(net: Mesh) -> None:
    """Whatever the method: a peer's proxy says goodbye (close_notify) only between requests."""
    web, api = await two_hops(net, Echo("again"))
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    [lane] = web.running._peers._lanes.values()
    [upstream] = lane._idle
    upstream.pause_reading()  # the goodbye and the next request cross
    for served in list(api.running._serving.registry._served):
        served.drain()
    await until(lambda: api.running.connections == 0)
    client.send(get(API, "/", "Content-Length: 2", method="POST") + b"hi")
    await until(lambda: any(load.active for load in web.loads()))
    upstream.resume_reading()
    answer = await client.receive()
    assert (answer.status, answer.body) == (200, b"again")
