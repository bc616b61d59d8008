"""HTTP/2 connections that end, or ought to: drains, GOAWAY, peers that have gone without a word."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dataplane.serve import http2_client
from dataplane.serve.http2_client import UpstreamLink
from dataplane.serve.http2_server import DownstreamLink
from dataplane.wire.http2 import Code, frames
from tests.dataplane.serve.http2 import POST_API, App, Peer, dial, echo, shop, silent
from tests.dataplane.serve.mesh import API, QUICK, Mesh, Pod
from tests.dataplane.serve.test_http2_hostile import Deaf
from tests.dataplane.waiting import until


def link_of(pod: Pod) -> UpstreamLink:
    """The one connection that a pod's proxy has to peers."""
    [link] = [link for lane in pod.running._peers._lanes.values() for link in lane.trunk._links]
    return link


def post(client: Peer, body: bytes = b"hi") -> int:
    stream = client.connection.open(POST_API, None, end=False)
    client.connection.send_data(stream, body, end=True)
    client.flush()
    return stream.id


async def test_draining_an_app_loses_no_request_of_its_callers(net: Mesh) -> None:
    """One of two pods goes while requests flow that may not be sent twice; its endpoint is still known."""
    web, one, _ = await shop(net)
    other = await net.pod("api")
    other.admit(net.anything())
    second = App()
    port = await second.start(other.ip)
    net.at_end(second.stop)
    web.reach(API, [*web.state.cluster("shop/api:8080"), other.endpoint(port)])
    client = await dial(web)
    draining: asyncio.Future[None] | None = None
    numbers = []
    for number in range(60):
        numbers.append(post(client))
        if number == 20:
            draining = asyncio.ensure_future(one.running.drain(5.0))  # noqa: TID251 - a test's own task
        if number % 4 == 0:
            await until(lambda: len(client.heads()) == len(numbers))
    await until(lambda: len(client.heads()) == len(numbers))
    assert draining is not None
    await draining
    assert client.heads() == [200] * 60
    assert {client.events.data[number] for number in numbers} == {b"hi"}
    served = [sum(pod.count("inbound").values()) for pod in (one, other)]
    assert sum(served) == 60
    assert all(served)


async def test_what_a_goaway_passes_by_was_not_seen(net: Mesh) -> None:
    """RFC 9113 §6.8: streams above its last one may be sent again, whatever they ask for."""
    gone: list[Peer] = []

    def leave_once(peer: Peer) -> None:
        if not gone and any(stream.remote_done for stream in peer.events.streams.values()):
            gone.append(peer)
            peer.transport.write(frames.goaway(0, Code.NO_ERROR))
            peer.transport.close()
        elif peer not in gone:
            echo(peer)

    web, _, _ = await shop(net, App(leave_once))
    client = await dial(web)
    number = post(client, b"once")
    await until(lambda: client.events.data.get(number) == b"once")
    assert client.heads() == [200]
    assert gone


async def test_a_client_that_does_not_answer_is_not_waited_for_in_a_drain(net: Mesh) -> None:
    """It does not say that it has heard the GOAWAY; nothing of it is under way."""
    net.limits = replace(QUICK, linger=0.05)
    web, _, _ = await shop(net)
    _, client = await asyncio.get_running_loop().create_connection(lambda: Deaf(server=False), *web.outbound)
    await until(lambda: any(isinstance(one, DownstreamLink) for one in web.running._serving.registry._served))
    await asyncio.wait_for(web.running.drain(3600.0), 5.0)
    await until(lambda: client.lost)


async def test_an_idle_client_is_told_and_let_go(net: Mesh) -> None:
    net.limits = replace(QUICK, client_idle=0.1)
    web, _, _ = await shop(net)
    client = await dial(web)
    client.get()
    await until(lambda: client.lost)
    assert client.heads() == [200]
    assert any(event[0] == "goaway" for event in client.events.seen)
    assert web.count("outbound") == {(200, ""): 1}


async def test_a_peer_that_has_gone_without_a_word_is_found_out(net: Mesh) -> None:
    """Half-open: no FIN, no RST, no answer. What was asked of it is asked elsewhere."""
    web, api, app = await shop(net, App(silent))
    client = await dial(web)
    client.get()
    await app.reached()
    link = link_of(web)
    [deaf] = [one for one in api.running._serving.registry._served if isinstance(one, DownstreamLink)]
    deaf.transport.pause_reading()
    app.peers[0]._react = echo
    later = link.heard + http2_client.QUIET
    link.check(later, 3600.0)
    assert link.asked == later
    link.check(later + http2_client.PATIENCE, 3600.0)
    assert link.usable
    link.check(later + http2_client.PATIENCE + 1.0, 3600.0)
    await until(lambda: link.lost and client.heads() == [200])
    deaf.transport.abort()


async def test_a_slow_peer_that_is_there_is_left_alone(net: Mesh) -> None:
    web, _, app = await shop(net, App(silent))
    client = await dial(web)
    client.get()
    await app.reached()
    link = link_of(web)
    await until(lambda: web.running._serving.registry.now > link.heard)
    before = link.heard
    link.check(before + http2_client.QUIET, 3600.0)
    await until(lambda: link.heard > before)  # it answers the PING
    link.check(link.heard + 1.0, 3600.0)
    assert link.asked == 0.0
    app.peers[0]._react = echo
    echo(app.peers[0])
    app.peers[0].flush()
    await until(lambda: client.heads() == [200])
    assert sum(event[0] == "request" for peer in app.peers for event in peer.events.seen) == 1


async def test_requests_of_one_connection_are_balanced(net: Mesh) -> None:
    """Each goes to the endpoint that has less to do, though all come on one connection."""
    web, _, app = await shop(net, App(silent))
    other = await net.pod("api")
    other.admit(net.anything())
    second = App(silent)
    port = await second.start(other.ip)
    net.at_end(second.stop)
    web.reach(API, [*web.state.cluster("shop/api:8080"), other.endpoint(port)])
    client = await dial(web)
    for _ in range(20):
        client.get()

    def asked(one: App) -> int:
        return sum(len(peer.events.streams) for peer in one.peers)

    await until(lambda: asked(app) + asked(second) == 20)
    assert (asked(app), asked(second)) == (10, 10)
    client.transport.abort()
    second.stop()
