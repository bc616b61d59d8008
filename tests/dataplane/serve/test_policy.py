"""Config that changes under kept-alive connections, and splits per request."""

from __future__ import annotations

from collections import Counter

from smi.policy.snapshot import Endpoint
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, Mesh, Pod, match, routes, split, two_hops
from tests.dataplane.waiting import until


async def shop(net: Mesh) -> tuple[Pod, dict[str, list[Endpoint]]]:
    """web, and two backends and the root, each with an app that says its name; returns their clusters."""
    web = await net.pod("web")
    web.admit()
    clusters = {}
    for name in ("api", "v1", "v2"):
        pod = await net.pod(name)
        pod.admit(net.anything())
        port = await net.serve(pod.ip, Echo(name))
        clusters[f"shop/{name}:8080"] = [pod.endpoint(port)]
    return web, clusters


async def names(net: Mesh, web: Pod, count: int, *fields: str) -> Counter[str]:
    """Who answers `count` requests on one connection."""
    client = await net.client(web.outbound)
    found: Counter[str] = Counter()
    for _ in range(count):
        answer = await client.ask(get(API, "/", *fields))
        found[answer.body.decode() if answer.status == 200 else answer.get("x-smi-mesh-reason") or "?"] += 1
    return found


async def test_weights_are_exact_per_request(net: Mesh) -> None:
    web, clusters = await shop(net)
    root = clusters["shop/api:8080"]
    web.reach(API, root, splits=[split("s", {"v1": 90, "v2": 10})], clusters=clusters)
    assert await names(net, web, 100) == {"v1": 90, "v2": 10}


async def test_weight_change_reaches_kept_alive_connections(net: Mesh) -> None:
    web, clusters = await shop(net)
    root = clusters["shop/api:8080"]
    client = await net.client(web.outbound)
    for weights in ({"v1": 1, "v2": 0}, {"v1": 0, "v2": 1}, {"v1": 1, "v2": 0}):
        web.reach(API, root, splits=[split("s", weights)], clusters=clusters)
        wanted = next(name for name, weight in weights.items() if weight)
        for _ in range(3):
            assert (await client.ask(get(API))).body == wanted.encode()
    web.reach(API, root)
    assert (await client.ask(get(API))).body == b"api"


async def test_backend_without_endpoints_is_skipped_and_nobody_is_said_so(net: Mesh) -> None:
    """S7, S8."""
    web, clusters = await shop(net)
    root = clusters["shop/api:8080"]
    halves = [split("s", {"v1": 1, "v2": 1})]
    web.reach(API, root, splits=halves, clusters={**clusters, "shop/v1:8080": []})
    assert await names(net, web, 10) == {"v2": 10}
    web.reach(API, root, splits=halves, clusters={"shop/v1:8080": [], "shop/v2:8080": []})
    assert await names(net, web, 2) == {"no-backend": 2}
    empty: dict[str, list[Endpoint]] = {"shop/v1:8080": [], "shop/v2:8080": []}
    web.reach(API, root, splits=[split("s", {"v1": 1, "v2": 1}, fallback_root=True)], clusters=empty)
    assert await names(net, web, 2) == {"api": 2}
    web.reach(API, root, splits=[split("s", {"v1": 0, "v2": 0})], clusters=clusters)
    assert await names(net, web, 2) == {"no-backend": 2}


async def test_header_matched_split(net: Mesh) -> None:
    web, clusters = await shop(net)
    root = clusters["shop/api:8080"]
    firefox = match(user_agent=".*Firefox.*")
    web.reach(API, root, splits=[split("ab", {"v2": 1}, [firefox])], clusters=clusters)
    assert await names(net, web, 5, "User-Agent: Mozilla Firefox/1") == {"v2": 5}
    assert await names(net, web, 5, "User-Agent: curl") == {"api": 5}


async def test_access_change_reaches_kept_alive_connections(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    for grants, status in (
        ([net.anything()], 200),
        ([], 403),
        ([routes(match("/", "GET"))], 200),
        ([routes(match("/", "POST"))], 403),
    ):
        api.admit(*grants)
        assert (await client.ask(get(API))).status == status
    assert api.running.connections == 1


async def test_destination_is_asked_for_on_first_use(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    [endpoint] = web.state.cluster("shop/api:8080")
    fresh = await net.pod("web")
    fresh.admit()
    client = await net.client(fresh.outbound)
    client.send(get(API) * 3)
    await until(lambda: fresh.state.subscriptions == (API,))
    fresh.reach(API, [endpoint])
    for _ in range(3):
        assert (await client.receive()).status == 200
    assert api.running.connections == 1
