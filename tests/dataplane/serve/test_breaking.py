"""Circuit breakers and outlier ejection in the caller's proxy, over HTTP/1.1, HTTP/2 and TCP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import httpx
import pytest

from smi.policy.codec import encode_breaker
from smi.policy.snapshot import CircuitBreaker, Outliers, Protocol
from tests.dataplane.serve.http import Echo, get, plain, read_message
from tests.dataplane.serve.http2 import App
from tests.dataplane.serve.http2 import echo as answer
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod, free_port, split, two_hops
from tests.dataplane.serve.test_retry import Dies, two_apps
from tests.dataplane.serve.test_tcp import echo, pair
from tests.dataplane.waiting import until

API_KEY = "shop/api:8080"


def guard(pod: Pod, settings: CircuitBreaker, key: str = API_KEY) -> None:
    pod.apply({f"breaker/{key}": encode_breaker(settings)})


def sample(pod: Pod, name: str) -> Mapping[str, str]:
    """Labels but service and port → value."""
    found = {}
    for line in pod.telemetry.render().decode().splitlines():
        if line.startswith(f"{name}{{"):
            labels, _, value = line.removeprefix(f"{name}{{").partition("} ")
            threshold = labels.partition('threshold="')[2].strip('"')
            found[threshold] = value
    return found


class Gate:
    """A server whose answers wait for `go`."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.seen = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_message(reader)
            self.seen += 1
            await self.go.wait()
            writer.write(plain("app"))
            await writer.drain()


async def test_requests_over_the_threshold_overflow(net: Mesh) -> None:
    gate = Gate()
    web, _ = await two_hops(net, gate)
    guard(web, CircuitBreaker(max_requests=2))
    clients = [await net.client(web.outbound) for _ in range(3)]
    for client in clients[:2]:
        client.send(get(API))
    await until(lambda: gate.seen == 2)
    answer = await clients[2].ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    assert answer.body == b"smi-mesh: max-requests=2 of Service shop/api is reached on port 8080\n"
    assert sample(web, "smi_mesh_circuit_breaker_open") == {"max-requests": "1"}
    assert sample(web, "smi_mesh_circuit_breaker_used") == {"max-requests": "2"}
    assert sample(web, "smi_mesh_circuit_breaker_rejected_total") == {"max-requests": "1"}
    gate.go.set()
    assert [(await client.receive()).status for client in clients[:2]] == [200, 200]
    assert (await clients[2].ask(get(API))).status == 200
    assert sample(web, "smi_mesh_circuit_breaker_open") == {"max-requests": "0"}


async def test_requests_wait_for_a_connection_that_is_allowed(net: Mesh) -> None:
    gate = Gate()
    web, _ = await two_hops(net, gate)
    guard(web, CircuitBreaker(max_connections=1, max_pending=2))
    clients = [await net.client(web.outbound) for _ in range(4)]
    clients[0].send(get(API))
    await until(lambda: gate.seen == 1)
    for client in clients[1:3]:
        client.send(get(API))
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used").get("max-pending-requests") == "2")
    answer = await clients[3].ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    assert gate.seen == 1
    gate.go.set()
    assert [(await client.receive()).status for client in clients[:3]] == [200] * 3
    assert (await clients[3].ask(get(API))).status == 200
    assert sum(load.active for load in web.loads()) == 0


async def test_who_leaves_the_line_makes_room(net: Mesh) -> None:
    gate = Gate()
    web, _ = await two_hops(net, gate)
    guard(web, CircuitBreaker(max_connections=1, max_pending=2))
    first, gone, last = [await net.client(web.outbound) for _ in range(3)]
    first.send(get(API))
    await until(lambda: gate.seen == 1)
    gone.send(get(API))
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used")["max-pending-requests"] == "1")
    last.send(get(API))
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used")["max-pending-requests"] == "2")
    gone.reset()
    await until(lambda: web.running.connections == 2)
    gate.go.set()
    assert [(await client.receive()).status for client in (first, last)] == [200, 200]
    assert gate.seen == 2
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used")["max-connections"] == "0")


async def test_waiting_has_an_end(net: Mesh) -> None:
    gate = Gate()
    net.limits = replace(QUICK, pending=0.05)
    web, _ = await two_hops(net, gate)
    guard(web, CircuitBreaker(max_connections=1, max_pending=1))
    first, late = [await net.client(web.outbound) for _ in range(2)]
    first.send(get(API))
    await until(lambda: gate.seen == 1)
    answer = await late.ask(get(API))
    assert (answer.status, answer.get("x-smi-mesh-reason")) == (503, "overflow")
    gate.go.set()
    assert (await first.receive()).status == 200
    assert (await late.ask(get(API))).status == 200


async def test_http2_requests_share_connections_but_are_counted(net: Mesh) -> None:
    web, api = await net.pod("web"), await net.pod("api")
    app = App(lambda _peer: None)
    port = await app.start(api.ip)
    net.at_end(app.stop)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)], protocol=Protocol.HTTP2)
    guard(web, CircuitBreaker(max_connections=1, max_pending=0, max_requests=3))
    # httpx reads a connection's answers one after the other, so the refused request has its own
    one, other = (httpx.AsyncClient(http1=False, http2=True, timeout=10, trust_env=False) for _ in range(2))
    async with one as client, other as late:
        base = f"http://{web.outbound[0]}:{web.outbound[1]}"
        asked = [asyncio.Task(client.get(f"{base}/{n}", headers={"host": API})) for n in range(3)]
        await until(lambda: sum(len(peer.events.streams) for peer in app.peers) == 3)
        assert sample(web, "smi_mesh_circuit_breaker_used")["max-requests"] == "3"
        refused = await late.get(base, headers={"host": API})
        assert (refused.status_code, refused.headers["x-smi-mesh-reason"]) == (503, "overflow")
        assert sample(web, "smi_mesh_circuit_breaker_used")["max-connections"] == "0"
        for peer in app.peers:
            answer(peer)
            peer.flush()
        assert [answered.status_code for answered in await asyncio.gather(*asked)] == [200] * 3
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used")["max-requests"] == "0")


async def test_opaque_connections_over_the_threshold_are_reset(net: Mesh) -> None:
    web, _ = await pair(net, echo)
    guard(web, CircuitBreaker(max_connections=1, max_pending=5), "shop/db:8080")
    first = await net.client(web.outbound)
    first.send(b"ping")
    assert await first.read(4) == b"ping"
    second = await net.client(web.outbound)
    with pytest.raises(ConnectionResetError):
        await second.closed()
    first.close()
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used")["max-connections"] == "0")
    third = await net.client(web.outbound)
    third.send(b"ping")
    assert await third.read(4) == b"ping"
    [series] = [one for key, one in web.telemetry._tcp.items() if not key[4]]
    assert series.closed == {"overflow": 1}


async def test_a_backend_has_its_own_services_thresholds(net: Mesh) -> None:
    """The root's say nothing of what is split away."""
    gate = Gate()
    web, api = await net.pod("web"), await net.pod("api")
    port = await net.serve(api.ip, gate)
    web.admit()
    api.admit(net.anything())
    clusters = {"shop/v1:8080": [api.endpoint(port)]}
    web.reach(API, [], splits=[split("canary", {"v1": 1})], clusters=clusters)
    guard(web, CircuitBreaker(max_requests=1))
    clients = [await net.client(web.outbound) for _ in range(3)]
    for client in clients[:2]:
        client.send(get(API))
    await until(lambda: gate.seen == 2)
    guard(web, CircuitBreaker(max_requests=1), "shop/v1:8080")
    gate.go.set()
    assert [(await client.receive()).status for client in clients[:2]] == [200, 200]
    gate.go.clear()
    clients[0].send(get(API))
    await until(lambda: gate.seen == 3)
    assert (await clients[1].ask(get(API))).get("x-smi-mesh-reason") == "overflow"
    gate.go.set()
    assert (await clients[0].receive()).status == 200


@pytest.mark.parametrize(
    ("settings", "status"),
    [(CircuitBreaker(max_retries=0), 502), (CircuitBreaker(retry_percent=0), 200), (CircuitBreaker(), 200)],
)
async def test_retries_are_bounded(net: Mesh, settings: CircuitBreaker, status: int) -> None:
    """A budget of no percent still allows its three."""
    dies, alive = Dies(times=2), Echo("alive")  # twice, as its own proxy tries again first
    web, _ = await two_apps(net, dies, alive)
    guard(web, settings)
    client = await net.client(web.outbound)
    answers = [await client.ask(get(API)) for _ in range(20)]
    assert len(dies.seen) >= 1
    assert sorted({answer.status for answer in answers}) == sorted({200, status})
    rejected = sample(web, "smi_mesh_circuit_breaker_rejected_total")
    assert rejected == ({"max-retries": "1"} if status == 502 else {})
    await until(lambda: sum(load.active for load in web.loads()) == 0)


async def test_an_endpoint_whose_answers_fail_is_left_out(net: Mesh) -> None:
    failing = Echo("bad", lambda _message: plain("bad", "500 Oops"))
    web, _ = await two_apps(net, failing, Echo("good"))
    guard(web, CircuitBreaker(outliers=Outliers(3, base_seconds=3600.0, max_seconds=3600.0)))
    client = await net.client(web.outbound)
    answers = [(await client.ask(get(API))).status for _ in range(60)]
    assert answers.count(500) == len(failing.seen) == 3
    assert set(answers[-10:]) == {200}
    assert sample(web, "smi_mesh_ejected_endpoints") == {"": "1"}
    assert sample(web, "smi_mesh_ejections_total") == {"": "1"}


async def test_an_endpoint_comes_back_when_its_time_is_over(net: Mesh) -> None:
    ill = True
    patient = Echo("ill", lambda _message: plain("ill", "503 Ill" if ill else "200 OK"))
    web, _ = await two_apps(net, patient, Echo("well"))
    outliers = Outliers(consecutive_gateway_errors=1, base_seconds=0.1, max_seconds=0.1)
    guard(web, CircuitBreaker(outliers=outliers))
    client = await net.client(web.outbound)
    for _ in range(200):
        if (await client.ask(get(API))).status == 503:
            break
    assert sample(web, "smi_mesh_ejections_total") == {"": "1"}
    ill = False
    seen = len(patient.seen)
    async with asyncio.timeout(10):
        while len(patient.seen) == seen:
            assert (await client.ask(get(API))).status == 200
    assert sample(web, "smi_mesh_ejections_total") == {"": "1"}


async def test_workers_share_the_thresholds(net: Mesh) -> None:
    web = net.make("web")
    web.settings = replace(web.settings, workers=2)
    await web.start()
    net.pods.append(web)
    gate, api = Gate(), await net.pod("api")
    port = await net.serve(api.ip, gate)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)])
    guard(web, CircuitBreaker(max_requests=2))
    first, second = [await net.client(web.outbound) for _ in range(2)]
    first.send(get(API))
    await until(lambda: gate.seen == 1)
    assert (await second.ask(get(API))).get("x-smi-mesh-reason") == "overflow"
    gate.go.set()
    assert (await first.receive()).status == 200


@pytest.mark.parametrize("http2", [False, True])
async def test_what_waits_for_an_endpoint_goes_on_as_what_it_is(net: Mesh, http2: bool) -> None:
    """S33: the endpoint refuses, the next one is not known yet."""
    net.limits = replace(QUICK, hold=30.0)
    web, api = await net.pod("web"), await net.pod("api")
    app = App()
    if http2:
        port = await app.start(api.ip)
        net.at_end(app.stop)
    else:
        port = await net.serve(api.ip, Echo())
    api.admit(net.anything())
    web.admit()
    protocol = Protocol.HTTP2 if http2 else Protocol.HTTP
    web.reach(API, [api.endpoint(free_port())], protocol=protocol)
    guard(web, CircuitBreaker(5, 5, 5))
    async with httpx.AsyncClient(http1=not http2, http2=http2, timeout=10, trust_env=False) as client:
        url = f"http://{web.outbound[0]}:{web.outbound[1]}/"
        asked = asyncio.Task(client.get(url, headers={"host": API}))
        await until(lambda: len(web.running.waiting) == 1)
        assert sample(web, "smi_mesh_circuit_breaker_used")["max-requests"] == "1"
        web.reach(API, [api.endpoint(port)], protocol=protocol)
        assert (await asked).status_code == 200
    used = {"max-connections": "0", "max-pending-requests": "0", "max-requests": "0"}
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used") == used)


async def test_thresholds_may_go_away_while_requests_are_under_way(net: Mesh) -> None:
    gate = Gate()
    web, _ = await two_hops(net, gate)
    guard(web, CircuitBreaker(max_connections=1, max_pending=1))
    clients = [await net.client(web.outbound) for _ in range(3)]
    clients[0].send(get(API))
    await until(lambda: gate.seen == 1)
    clients[1].send(get(API))
    await until(lambda: sample(web, "smi_mesh_circuit_breaker_used")["max-pending-requests"] == "1")
    web.apply({}, removed=[f"breaker/{API_KEY}"])
    await until(lambda: gate.seen == 2)  # what waited goes at once
    clients[2].send(get(API))
    await until(lambda: gate.seen == 3)
    gate.go.set()
    assert [(await client.receive()).status for client in clients] == [200] * 3
    assert sample(web, "smi_mesh_circuit_breaker_used") == {}
