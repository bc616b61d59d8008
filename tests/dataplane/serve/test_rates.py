"""Rate limits at the destination's proxy: 429 over HTTP/1.1, RESOURCE_EXHAUSTED to gRPC, a reset over TCP.

Rates are per hour: within a test a bucket holds its burst and no more.
"""

from __future__ import annotations

from dataclasses import replace

import grpc
import grpc.aio
import pytest

from dataplane.dialects.istio import _FLAGS
from smi.policy.snapshot import Limited, Probe, Protocol, RateLimit, RouteMatch
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, Mesh, Pod, match, spiffe, two_hops
from tests.dataplane.serve.test_tcp import DB, echo
from tests.dataplane.waiting import until


def limit(
    port: int,
    burst: int,
    *,
    what: Limited = Limited.REQUESTS,
    per_client: bool = False,
    source: str | None = None,
    matches: tuple[RouteMatch, ...] | None = None,
) -> RateLimit:
    text = f"1/h burst {burst}"
    ports = frozenset({port})
    return RateLimit("shop/api", text, what, ports, 1, 3600, burst, per_client, source, matches)


def app_port(pod: Pod, key: str = "shop/api:8080") -> int:
    [endpoint] = pod.state.cluster(key)
    return int(endpoint.port)


def limited(pod: Pod) -> list[str]:
    lines = pod.telemetry.render().decode().splitlines()
    return [line for line in lines if line.startswith("smi_mesh_rate_limited_total{")]


async def test_a_request_beyond_the_limit_is_answered_429(net: Mesh) -> None:
    app = Echo()
    web, api = await two_hops(net, app)
    api.admit(net.anything(), limits=(limit(app_port(web), 2),))
    client = await net.client(web.outbound)
    answers = [await client.ask(get(API)) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 429, 429]
    last = answers[-1]
    assert last.start == "HTTP/1.1 429 Too Many Requests"
    assert last.get("x-smi-mesh-reason") == "rate-limited"
    assert 3590 <= int(last.get("retry-after") or 0) <= 3600
    assert last.body == b"smi-mesh: Service shop/api takes 1/h burst 2 at each of its pods\n"
    # not tried again elsewhere, nor by the caller's proxy; the connection goes on
    assert len(app.seen) == 2
    assert api.count("inbound") == {(200, ""): 2, (429, "rate-limited"): 2}
    assert web.count("outbound") == {(200, ""): 2, (429, ""): 2}
    assert limited(api) == [
        'smi_mesh_rate_limited_total{service="shop/api",limit="1/h burst 2",what="requests"} 2'
    ]
    assert _FLAGS["rate-limited"] == "RL"
    api.admit(net.anything())
    assert (await client.ask(get(API))).status == 200
    assert api.running.inbound.rates is None


async def test_a_body_that_nobody_wants_does_not_cost_the_connection(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit(net.anything(), limits=(limit(app_port(web), 1),))
    client = await net.client(web.outbound)
    post = get(API, "/", "Content-Length: 5", method="POST") + b"hello"
    assert [(await client.ask(post)).status for _ in range(3)] == [200, 429, 429]


async def test_clients_are_told_apart_by_identity(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    port = app_port(web)
    other = await net.pod("other")
    other.admit()
    other.reach(API, [api.endpoint(port)])
    limits = (limit(port, 1, per_client=True), limit(port, 1, source=spiffe("other")))
    api.admit(net.anything(), net.anything("other", "shop/more"), limits=limits)
    clients = [await net.client(pod.outbound) for pod in (web, other)]
    for client in clients:
        assert [(await client.ask(get(API))).status for _ in range(2)] == [200, 429]
    assert sorted(line.rpartition(" ")[2] for line in limited(api)) == ["2"]  # both have the same text


async def test_a_limit_on_a_match_is_about_its_requests_only(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit(net.anything(), limits=(limit(app_port(web), 1, matches=(match("/login", "POST"),)),))
    client = await net.client(web.outbound)
    login = get(API, "/login", "Content-Length: 0", method="POST")
    assert [(await client.ask(login)).status for _ in range(2)] == [200, 429]
    assert (await client.ask(get(API, "/login"))).status == 200
    assert (await client.ask(get(API, "/"))).status == 200


async def test_a_denied_request_takes_no_token(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    port = app_port(web)
    api.admit(limits=(limit(port, 1),))
    client = await net.client(web.outbound)
    assert [(await client.ask(get(API))).status for _ in range(3)] == [403] * 3
    api.admit(net.anything(), limits=(limit(port, 1),))
    assert [(await client.ask(get(API))).status for _ in range(2)] == [200, 429]


async def test_the_kubelets_probes_are_exempt(net: Mesh) -> None:
    meant: list[tuple[str, int]] = []
    api = await net.pod("api", plain=True, original=lambda _: meant[0])
    port = await net.serve(api.ip, Echo())
    meant.append((api.ip, port))
    api.admit(ports=((port, Protocol.HTTP),), probes=(Probe(port, "/healthz"),), limits=(limit(port, 1),))
    client = await net.client((api.ip, api.settings.inbound_port))
    for _ in range(5):
        assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200
    assert api.running.inbound.rates is not None


async def test_a_grpc_call_beyond_the_limit_is_exhausted(net: Mesh) -> None:
    web, api = await net.pod("web"), await net.pod("api")
    server, port = await grpc_app.start(api.ip)
    web.admit()
    api.admit(net.anything(), limits=(limit(port, 2, matches=(match("/shop.Echo/Unary"),)),))
    web.reach(API, [api.endpoint(port)], protocol=Protocol.GRPC)
    async with grpc_app.channel(web.outbound, API) as channel:
        unary = channel.unary_unary("/shop.Echo/Unary")
        assert [await unary(b"hello", timeout=10) for _ in range(2)] == [b"hello"] * 2
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(b"hello", timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "takes 1/h burst 2" in str(refused.value.details())
        metadata = dict(refused.value.trailing_metadata() or ())
        assert metadata["x-smi-mesh-reason"] == "rate-limited"
        assert 3_590_000 <= int(metadata["grpc-retry-pushback-ms"]) <= 3_600_000
        down = channel.unary_stream("/shop.Echo/Down")(b"3", timeout=10)
        assert len([piece async for piece in down]) == 3
    assert api.count("inbound")[429, "rate-limited"] == 1
    await server.stop(0)


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.DETECT])
async def test_an_opaque_connection_beyond_the_limit_is_reset(net: Mesh, protocol: Protocol) -> None:
    web = await net.pod("web", original=lambda _: ("10.96.0.9", 5432))
    db = await net.pod("db")
    port = await net.serve(db.ip, echo)
    web.admit()
    db.admit(net.anything(), limits=(limit(port, 2, what=Limited.CONNECTIONS),))
    web.reach(DB, [db.endpoint(port)], service="shop/db", protocol=protocol)
    for _ in range(2):
        client = await net.client(web.outbound)
        client.send(b"\0ping")
        assert await client.read(5) == b"\0ping"
    late = await net.client(web.outbound)
    late.send(b"\0ping")
    with pytest.raises(ConnectionResetError):
        await late.closed()
    assert [line.rpartition(" ")[2] for line in limited(db)] == ["1"]
    [series] = db.telemetry._tcp.values()
    await until(lambda: series.closed.get("rate-limited") == 1)


async def test_workers_share_a_limit(net: Mesh) -> None:
    api = net.make("api")
    api.settings = replace(api.settings, workers=4)
    await api.start()
    net.pods.append(api)
    web, port = await net.pod("web"), await net.serve(api.ip, Echo())
    web.admit()
    web.reach(API, [api.endpoint(port)])
    api.admit(net.anything(), limits=(limit(port, 8),))
    client = await net.client(web.outbound)
    assert [(await client.ask(get(API))).status for _ in range(4)] == [200, 200, 429, 429]


async def test_no_limit_no_bucket(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    assert api.running.inbound.rates is None
