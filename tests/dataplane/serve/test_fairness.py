"""Requests that are stuck hold up none of those that share their connection between sidecars."""

from __future__ import annotations

from dataplane.wire.http2 import bounds
from tests.dataplane.serve.http2 import POST_API, TO_API, App, Peer, dial, shop
from tests.dataplane.serve.mesh import Mesh, Pod
from tests.dataplane.waiting import until

STUCK = 2 * bounds.CONNECTION_WINDOW // bounds.STREAM_WINDOW
"""Streams that would take all of a connection's window, and then some."""
LARGE = 4 * bounds.STREAM_WINDOW


def stuck(pod: Pod) -> bool:
    """Whether all that a connection of this proxy may hold is held."""
    lanes = [*pod.running._peers._lanes.values(), *pod.running._app._lanes.values()]
    return any(link.connection.crowded for lane in lanes for link in lane.trunk._links)


def serve(peer: Peer) -> None:
    """Answers a GET of / at once and of anything else with much; takes nothing of a POST's body."""
    for number, stream in list(peer.events.streams.items()):
        [request] = [event for event in peer.events.seen if event[:2] == ("request", number)]
        if request[2] == b"POST":
            continue
        del peer.events.streams[number]
        peer.connection.send_head(stream, [(b":status", b"200")], end=False)
        peer.connection.send_data(stream, bytes(1 if request[3] == b"/" else LARGE), end=True)


async def test_clients_that_do_not_read(net: Mesh) -> None:
    web, api, _ = await shop(net, App(serve))
    slow = [await dial(web, credit=False) for _ in range(STUCK)]
    for peer in slow:
        peer.connection.open([*TO_API[:2], (b":path", b"/much"), TO_API[3]], None, end=True)
        peer.flush()
    await until(lambda: all(peer.heads() == [200] for peer in slow))
    await until(lambda: stuck(web) and stuck(api))
    quick = await dial(web)
    for number in range(5):
        quick.get()
        await until(lambda: len(quick.events.data) > number)  # noqa: B023 - awaited within the turn
    assert quick.heads() == [200] * 5
    for peer in (*slow, quick):
        peer.transport.abort()


async def test_servers_that_do_not_read(net: Mesh) -> None:
    web, api, _ = await shop(net, App(serve, credit=False))
    slow = [await dial(web) for _ in range(STUCK)]
    for peer in slow:
        stream = peer.connection.open(POST_API, None, end=False)
        peer.connection.send_data(stream, bytes(LARGE), end=True)
        peer.flush()
    await until(lambda: stuck(web) and stuck(api))
    quick = await dial(web)
    for number in range(5):
        stream = quick.connection.open([*TO_API[:2], (b":path", b"/"), TO_API[3]], None, end=False)
        quick.connection.send_data(stream, bytes(10_000), end=True)
        quick.flush()
        await until(lambda: len(quick.events.data) > number)  # noqa: B023 - awaited within the turn
    assert quick.heads() == [200] * 5
    for peer in (*slow, quick):
        peer.transport.abort()
