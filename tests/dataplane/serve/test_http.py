"""HTTP/1.1 through two proxies, or one: what clients and servers see."""

from __future__ import annotations

from tests.dataplane.serve.http import Client, Echo, get
from tests.dataplane.serve.mesh import Mesh, Pod, anything

API = "api.shop:8080"


async def two_hops(net: Mesh, echo: Echo) -> tuple[Pod, Pod]:
    """web may call api, where `echo` answers."""
    web, api = await net.pod("web"), await net.pod("api")
    port = await net.serve(api.ip, echo)
    web.admit()
    api.admit(anything())
    web.reach(API, [api.endpoint(port)])
    return web, api


async def test_request_reaches_the_app_over_two_hops(net: Mesh) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo)
    client = await Client.connect(web.outbound)
    answer = await client.ask(get(API, "/items?x=1", "X-Tenant: acme"))
    assert (answer.status, answer.body) == (200, b"app")
    [seen] = echo.seen
    assert seen.start == "GET /items?x=1 HTTP/1.1"
    assert seen.get("host") == API
    assert seen.get("x-tenant") == "acme"
    assert seen.get("x-forwarded-client-cert") == f"By={api.identity};URI={web.identity}"
    assert web.count("outbound") == {(200, ""): 1}
    assert api.count("inbound") == {(200, ""): 1}
    client.close()
