"""S19 at each sidecar by itself: what is matched is what the server sees, whoever the other proxy is.

The caller's sidecar makes a path normal, and so does the destination's: a peer that has our
certificates need not run our proxy, and callers outside the mesh have none.
"""

from __future__ import annotations

import asyncio

import pytest

from dataplane.wire.authority import mesh_sni
from smi.policy.snapshot import Mtls
from tests.dataplane.serve.http import Client, Echo
from tests.dataplane.serve.http2 import TO_API, Peer, dial, shop
from tests.dataplane.serve.mesh import API, Mesh, Pod, match, routes, two_hops
from tests.dataplane.waiting import until

PATHS = {
    # sent: what the server sees
    "/public/a": "/public/a",
    "/public/../secret": "/secret",
    "/public/./../secret": "/secret",
    "/public/..": "/",
    "/public/.": "/public/",
    "/../../public/a": "/public/a",
    "/public/%2e%2e/secret": "/secret",
    "/public/.%2E/secret": "/secret",
    "/%70ublic/a": "/public/a",
    "//public//a": "/public/a",
    "/public//../secret": "/public/secret",
    "/public/%2fsecret": "/public/%2fsecret",
    "/public%2f..%2fsecret": "/public%2f..%2fsecret",
    "/public/..%2Fsecret": "/public/..%2Fsecret",
    "/public/%252e%252e/secret": "/public/%252e%252e/secret",
    "/public/..%252fsecret": "/public/..%252fsecret",
    "/public/%c0%ae%c0%ae/secret": "/public/%c0%ae%c0%ae/secret",
    "/public/%e0%80%ae/secret": "/public/%e0%80%ae/secret",
    "/public/..%c0%afsecret": "/public/..%c0%afsecret",
    "/public/\xc0\xae\xc0\xae/secret": "/public/%C0%AE%C0%AE/secret",
    "/public/..;/secret": "/public/..;/secret",
    "/public/..\\secret": "/public/..\\secret",
    "/public/a?/../../secret": "/public/a?/../../secret",
}
REFUSED = ["/public/%00", "/public/%00/../secret", "/public/%", "/public/%2", "/public/%g0", "/public/%u002e"]


def allowed(seen: str) -> bool:
    """What `routes(match("/public/"))` says of a normal path (S16)."""
    return seen.startswith("/public/")


async def peer(net: Mesh, web: Pod, port: int) -> Client:
    """A connection to the mesh port at `port` by somebody with web's certificate and another proxy."""
    [endpoint] = web.state.cluster("shop/api:8080")
    context = web.contexts.client_context
    return await net.client((endpoint.ip, net.mesh_port), ssl=context, server_hostname=mesh_sni(port))


@pytest.mark.parametrize("way", ["both", "destination"])
async def test_between_peers(net: Mesh, way: str) -> None:
    echo = Echo()
    web, api = await two_hops(net, echo)
    api.admit(routes(match("/public/")))
    port = web.state.cluster("shop/api:8080")[0].port
    for sent, seen in PATHS.items():
        echo.seen.clear()
        client = await (net.client(web.outbound) if way == "both" else peer(net, web, port))
        answer = await client.ask(f"GET {sent} HTTP/1.1\r\nhost: {API}\r\n\r\n".encode("latin-1"))
        starts = [message.start for message in echo.seen]
        wanted = (200, [f"GET {seen} HTTP/1.1"]) if allowed(seen) else (403, [])
        assert (answer.status, starts) == wanted, sent
    echo.seen.clear()
    for sent in REFUSED:
        client = await (net.client(web.outbound) if way == "both" else peer(net, web, port))
        answer = await client.ask(f"GET {sent} HTTP/1.1\r\nhost: {API}\r\n\r\n".encode())
        assert (answer.status, answer.get("connection"), await client.closed()) == (400, "close", b""), sent
    assert echo.seen == []


async def test_from_outside_the_mesh(net: Mesh) -> None:
    """Nobody may know who calls, and everything be let in: the path is made normal all the same."""
    echo = Echo()
    where = [("", 0)]
    pod = await net.pod("api", original=lambda _: where[0], plain=True)
    port = await net.serve(pod.ip, echo)
    where[0] = (pod.ip, port)
    pod.admit(mtls=Mtls.PERMISSIVE)
    for sent, seen in PATHS.items():
        client = await net.client(("127.0.0.1", pod.settings.inbound_port))
        answer = await client.ask(f"GET {sent} HTTP/1.1\r\nhost: {API}\r\n\r\n".encode("latin-1"))
        assert (answer.status, echo.seen.pop().start) == (200, f"GET {seen} HTTP/1.1"), sent
    for sent in REFUSED:
        client = await net.client(("127.0.0.1", pod.settings.inbound_port))
        answer = await client.ask(f"GET {sent} HTTP/1.1\r\nhost: {API}\r\n\r\n".encode())
        assert answer.status == 400
    assert echo.seen == []


@pytest.mark.parametrize("way", ["both", "destination"])
async def test_http2(net: Mesh, way: str) -> None:
    web, api, app = await shop(net)
    api.admit(routes(match("/public/")))
    [endpoint] = web.state.cluster("shop/api:8080")
    loop = asyncio.get_running_loop()
    client = await dial(web)
    if way == "destination":
        client.transport.abort()
        _, client = await loop.create_connection(
            lambda: Peer(server=False),
            endpoint.ip,
            net.mesh_port,
            ssl=web.contexts.client_http2_context,
            server_hostname=mesh_sni(endpoint.port),
        )
    for number, (sent, seen) in enumerate(PATHS.items()):
        fields = [*TO_API[:2], (b":path", sent.encode("latin-1")), TO_API[3]]
        client.connection.open(fields, None, end=True)
        client.flush()
        await until(lambda: len(client.heads()) > number)  # noqa: B023 - awaited within the turn
        assert client.heads()[-1] == (200 if allowed(seen) else 403), sent
        if allowed(seen):
            targets = [event[3] for one in app.peers for event in one.events.seen if event[0] == "request"]
            assert targets[-1] == seen.encode(), sent
