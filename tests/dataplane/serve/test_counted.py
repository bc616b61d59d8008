"""What both proxies count of an exchange: who, how large, of which trace."""

from __future__ import annotations

import asyncio

from dataplane.tap import TapFilter
from dataplane.telemetry import Exchanges
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http import Echo, Message, get, plain
from tests.dataplane.serve.mesh import API, Mesh, Pod, two_hops
from tests.dataplane.serve.test_grpc import _shop
from tests.dataplane.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"


def only(pod: Pod, direction: str) -> Exchanges:
    """The exchanges of the one series with the one outcome."""
    ((_, series),) = ((edge, one) for edge, one in pod.telemetry.http_edges() if edge.direction == direction)
    (same,) = series.exchanges.values()
    return same


async def test_bodies_are_measured_at_both_ends(net: Mesh) -> None:
    web, api = await two_hops(net, Echo(answer=lambda _: plain("x" * 300)))
    client = await net.client(web.outbound)
    await client.ask(get(API, "/", "Content-Length: 5", method="POST") + b"hello")
    await client.ask(get(API, "/"))  # no body: nothing of the former request's is counted again
    for same in (only(web, "outbound"), only(api, "inbound")):
        assert same.count == 2
        assert (same.request_bytes, sum(same.request_sizes)) == (5, 1)
        assert (same.response_bytes, sum(same.response_sizes)) == (600, 2)


async def test_chunked_bodies_and_large_ones_are_measured(net: Mesh) -> None:
    size = 1_000_000
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"y" * size)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    web, api = await two_hops(net, Echo(answer=lambda _: head + chunks))
    client = await net.client(web.outbound)
    await client.ask(get(API, "/", "Transfer-Encoding: chunked", method="POST") + chunks)
    for same in (only(web, "outbound"), only(api, "inbound")):
        assert same.request_bytes == same.response_bytes == len(chunks), "as sent, with the chunks' heads"


async def test_grpc_messages_are_measured(net: Mesh) -> None:
    web, api, server = await _shop(net)
    async with grpc_app.channel(web.outbound, API) as channel:
        metadata = (("traceparent", TRACEPARENT.partition(": ")[2]),)
        await channel.unary_unary("/shop.Echo/Unary")(b"hello", timeout=10, metadata=metadata)
    await server.stop(0)
    for same in (only(web, "outbound"), only(api, "inbound")):
        assert same.request_bytes == same.response_bytes == 10, "five bytes and gRPC's prefix of five"
        assert [one.trace for one in same.exemplars.values()] == [TRACE]


async def test_a_trace_is_shown_once_in_a_while(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    await client.ask(get(API, "/", TRACEPARENT))
    for same in (only(web, "outbound"), only(api, "inbound")):
        (exemplar,) = same.exemplars.values()
        assert exemplar.trace == TRACE
        assert exemplar.value < 10
    ((_, series),) = web.telemetry.http_edges()
    due = series.exemplar_due
    await client.ask(get(API, "/", TRACEPARENT.replace("4bf", "5bf")))
    assert series.exemplar_due == due, "within the second nobody looks for another"
    series.example_due = series.exemplar_due = 0.0
    await client.ask(get(API, "/"))
    assert series.exemplar_due > due, "nor after a request that has none"
    due = series.example_due
    web.tap.start("t", TapFilter(), 60, 10)
    await client.ask(get(API, "/", TRACEPARENT.replace("4bf", "5bf")))
    assert len(web.tap.collect()[0][1]) == 1, "who looks on sees it"
    assert series.example_due == due, "but no trace is looked for because of that"
    assert {one.trace for one in only(web, "outbound").exemplars.values()} == {TRACE}


async def test_both_ends_name_each_other(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    await client.ask(get(API, "/"))
    ((there, _),) = web.telemetry.http_edges()
    ((here, _),) = api.telemetry.http_edges()
    assert (there.direction, there.peer, there.pod) == ("outbound", api.identity, "shop/api-1")
    assert (there.service, there.backend, there.split) == ("shop/api", "", "")
    assert (here.direction, here.peer, here.pod) == ("inbound", web.identity, "shop/web-1")


async def test_requests_under_way_are_shown(net: Mesh) -> None:
    release = asyncio.Event()

    async def answer(_message: Message) -> bytes:
        await release.wait()
        return plain("done")

    web, api = await two_hops(net, Echo(answer=answer))
    client = await net.client(web.outbound)
    client.send(get(API, "/"))

    def shown(pod: Pod, direction: str, active: int) -> bool:
        return (
            f'smi_mesh_requests_active{{direction="{direction}"}} {active}\n'.encode()
            in pod.telemetry.render()
        )

    await until(lambda: shown(api, "inbound", 1))
    assert shown(web, "outbound", 1)
    release.set()
    await client.receive()
    await until(lambda: shown(api, "inbound", 0) and shown(web, "outbound", 0))
