"""Taps on proxies that serve: both sides, both protocols, refusals too."""

from __future__ import annotations

from typing import Any

from dataplane.tap import TapFilter
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, Mesh, Pod, two_hops
from tests.dataplane.serve.test_grpc import _shop


def seen(pod: Pod) -> list[tuple[Any, ...]]:
    """(direction, method, path, status, peer) of what was taken."""
    return [
        tuple(request[key] for key in ("direction", "method", "path", "status", "peer"))
        for _, requests, _ in pod.tap.collect()
        for request in requests
    ]


async def test_both_sides_show_each_request_from_the_moment_somebody_looks(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    await client.ask(get(API, "/before"))
    for pod in (web, api):
        assert pod.tap.start("t", TapFilter(), 60, 100)
    for _ in range(3):
        await client.ask(get(API, "/items?secret=1"))
    assert seen(web) == [("outbound", "GET", "/items", 200, "shop/api-1")] * 3
    assert seen(api) == [("inbound", "GET", "/items", 200, "shop/web-1")] * 3
    for pod in (web, api):
        pod.tap.stop("t")
    await client.ask(get(API, "/after"))
    await client.ask(get(API, "/after"))
    assert seen(web) == seen(api) == []


async def test_what_is_refused_is_shown_too(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    api.admit()
    for pod in (web, api):
        assert pod.tap.start("t", TapFilter(status="4xx"), 60, 100)
    client = await net.client(web.outbound)
    await client.ask(get(API, "/admin"))
    assert seen(api) == [("inbound", "GET", "/admin", 403, "shop/web-1")]
    assert [one[3] for one in seen(web)] == [403]


async def test_grpc_calls_are_shown(net: Mesh) -> None:
    web, api, server = await _shop(net)
    for pod in (web, api):
        assert pod.tap.start("t", TapFilter(), 60, 100)
    async with grpc_app.channel(web.outbound, API) as channel:
        for _ in range(2):
            await channel.unary_unary("/shop.Echo/Unary")(b"hello", timeout=10)
    await server.stop(0)
    for pod in (web, api):
        requests = [request for _, found, _ in pod.tap.collect() for request in found]
        assert [(one["path"], one["grpc"]) for one in requests] == [("/shop.Echo/Unary", "0")] * 2
