"""HTTP/2 peers that break off, vanish, flood or ask for too much: bounded, counted, harmless to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dataplane.serve.limits import Limits
from dataplane.wire.http1 import MAX_INTERIMS
from dataplane.wire.http2 import Code, bounds, frames
from dataplane.wire.http2.hpack import Writer
from smi.names import ALPN_HTTP1
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http2 import POST_API, TO_API, App, Peer, dial, echo, shop, silent
from tests.dataplane.serve.mesh import API, Mesh, Pod, mesh
from tests.dataplane.waiting import until
from tests.dataplane.wire.http2.kit import OK

BODY = b"x" * 300
BLOCK = Writer().write(TO_API)
STEPS = 5
"""Points of a message to break off at: before it, behind its head, in its body, before its end, behind it."""


def total(pod: Pod) -> int:
    return sum(pod.count("outbound").values())


class Deaf(Peer):
    """Does not listen."""

    def data_received(self, data: bytes) -> None:
        pass


async def calm(pod: Pod) -> None:
    """Nothing is under way any more."""
    await until(lambda: not any(load.active for load in pod.loads()))


def ask(client: Peer, step: int = STEPS - 1) -> int:
    """A request with a body, as far as `step`; its stream."""
    connection = client.connection
    stream = connection.open(POST_API, None, end=False)
    if step > 1:
        connection.send_data(stream, BODY[:100], end=False)
    if step > 2:
        connection.send_data(stream, BODY[100:], end=False)
    if step > 3:
        connection.send_head(stream, [(b"x-trailer", b"1")], end=True)
    client.flush()
    return stream.id


def answer(peer: Peer, number: int, step: int) -> None:
    stream = peer.events.streams[number]
    if step > 0:
        peer.connection.send_head(stream, [*OK, (b"content-type", b"text/plain")], end=False)
    if step > 1:
        peer.connection.send_data(stream, BODY[:100], end=False)
    if step > 2:
        peer.connection.send_data(stream, BODY[100:], end=False)
    if step > 3:
        peer.connection.send_head(stream, [(b"x-trailer", b"1")], end=True)
    peer.flush()


@pytest.mark.parametrize("step", range(1, STEPS))
@pytest.mark.parametrize("begun", [0, 2])
async def test_clients_reset_at_every_point(net: Mesh, step: int, begun: int) -> None:
    """The server hears of it, and the connections on both sides go on."""
    web, api, app = await shop(net, App(silent))
    client = await dial(web)
    number = ask(client, step)
    await app.reached()
    answer(app.peers[0], 1, begun)
    await until(lambda: len(client.heads()) == (1 if begun else 0))
    client.connection.reset(client.connection.streams[number], Code.CANCEL)
    client.flush()
    await until(lambda: ("reset", 1, Code.CANCEL) in app.peers[0].events.seen)
    await calm(web)
    left = (200 if begun else 0, "client-gone")
    assert web.count("outbound") == api.count("inbound") == {left: 1}
    app.peers[0]._react = echo
    ask(client)
    await until(lambda: client.heads()[-1:] == [200] and len(client.heads()) == (2 if begun else 1))
    assert len(app.peers) == 1


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("how", ["reset", "vanish", "goaway", "nonsense"])
async def test_servers_break_off_at_every_point(net: Mesh, step: int, how: str) -> None:
    """The client gets an answer or a reset, exactly once; its connection goes on."""
    web, _, app = await shop(net, App(silent))
    client = await dial(web)
    number = ask(client)
    await until(
        lambda: app.peers and app.peers[0].events.streams and app.peers[0].events.seen[-1][0] == "trailers"
    )
    peer = app.peers[0]
    answer(peer, 1, step)
    if how == "reset" and step < STEPS - 1:
        peer.connection.reset(peer.events.streams[1], Code.INTERNAL_ERROR)
    elif how == "goaway":
        peer.connection.fail(Code.NO_ERROR)
    elif how == "nonsense":
        peer.transport.write(b"\xff" * 100)
    peer.flush()
    if how == "vanish":
        peer.transport.abort()
    elif how == "goaway":
        peer.transport.close()
    await until(lambda: number not in client.connection.streams)
    await calm(web)
    whole = step == STEPS - 1
    [outcome] = web.count("outbound")
    assert outcome == (200, "") if whole else outcome[1] != "" or outcome[0] == 502
    seen = [event for event in client.events.seen if event[1] == number]
    assert (seen[-1][0] == "trailers") is whole
    assert whole or client.heads() == [502] or seen[-1][0] == "reset"
    app.peers[0]._react = echo  # where the connection lives on
    app._react = echo
    ask(client)
    await until(lambda: client.heads()[-1:] == [200] and client.events.data.get(number + 2) == BODY)


@pytest.mark.parametrize(("count", "heads"), [(MAX_INTERIMS, 200), (5000, 502)])
async def test_interim_answers_without_end(net: Mesh, count: int, heads: int) -> None:
    """They would go past every window, and wait for a client that does not read."""

    def dawdle(peer: Peer) -> None:
        for _, stream in peer.asked():
            for _ in range(count):
                peer.connection.send_head(stream, [(b":status", b"103")], end=False)
            peer.connection.send_head(stream, OK, end=True)

    web, api, _ = await shop(net, App(dawdle))
    client = await dial(web)
    client.get()
    await until(lambda: client.heads()[-1:] not in ([], [103]))
    assert client.heads() == [103] * MAX_INTERIMS + [heads]
    assert api.count("inbound") == {(heads, "bad-response" if heads == 502 else ""): 1}
    assert web.count("outbound") == {(heads, ""): 1}


async def test_tiny_frames_are_kept_for_a_retry_in_few_pieces(net: Mesh) -> None:
    lost = []

    def lose_once(peer: Peer) -> None:
        if any(stream.remote_done for stream in peer.events.streams.values()) and not lost:
            lost.append(peer)
            peer.transport.abort()
        echo(peer)

    web, _, app = await shop(net, App(lose_once))
    client = await dial(web)
    await until(lambda: client.connection.peer_streams == bounds.MAX_STREAMS)
    stream = client.connection.open([(b":method", b"PUT"), *TO_API[1:]], None, end=False)
    body = bytes(number % 251 for number in range(40_000))
    for at in range(0, len(body), 2):
        client.connection.send_data(stream, body[at : at + 2], end=False)
    client.flush()
    await until(lambda: app.peers and len(app.peers[0].events.data.get(1, b"")) == len(body))
    [link] = web.running._serving.registry._served
    kept = link.connection.streams[1].owner._kept  # type: ignore[attr-defined]  # a DownstreamLink
    assert len(kept) <= len(body) // bounds.SMALL + 1
    client.connection.send_data(stream, b"!", end=True)
    client.flush()
    await until(lambda: client.events.data.get(1) == body + b"!")
    assert lost


async def test_a_client_that_vanishes_frees_everything(net: Mesh) -> None:
    web, _, app = await shop(net, App(silent))
    for gone in range(1, 4):
        client = await dial(web)
        for step in range(1, STEPS):
            ask(client, step)
        await until(lambda gone=gone: app.peers and len(app.peers[0].events.streams) == 4 * gone)
        client.transport.abort()
        await calm(web)
        await until(lambda gone=gone: total(web) == 4 * gone)
    await until(lambda: web.running.connections == 0)
    await until(lambda: not app.peers[0].connection.streams)
    assert web.count("outbound") == {(0, "client-gone"): 12}


@pytest.mark.parametrize(
    "flood",
    [
        lambda n: frames.settings([(frames.INITIAL_WINDOW_SIZE, 1000 + n)]),
        lambda n: frames.frame(frames.PING, 0, 0, bytes(8)),
        lambda n: frames.frame(frames.HEADERS, 5, 2 * n + 1, BLOCK) + frames.rst_stream(2 * n + 1, 8),
        lambda n: frames.frame(frames.HEADERS, 4, 2 * n + 1, BLOCK) + frames.window_update(2 * n + 1, 0),
        lambda n: frames.frame(frames.CONTINUATION if n else frames.HEADERS, 0, 1, BLOCK if not n else b""),
        lambda n: frames.frame(
            frames.HEADERS if not n else frames.DATA, 4 if not n else 0, 1, b"" if n else BLOCK
        ),
        lambda n: frames.frame(frames.PRIORITY, 0, 2 * n + 1, bytes(5)),
    ],
    ids=["settings", "ping", "rapid-reset", "made-you-reset", "continuation", "empty-data", "priority"],
)
async def test_floods_end_and_nobody_else_suffers(net: Mesh, flood: Callable[[int], bytes]) -> None:
    web, _, _ = await shop(net)
    bystander = await dial(web)
    _, client = await asyncio.get_running_loop().create_connection(lambda: Deaf(server=False), *web.outbound)
    client.transport.write(b"".join(flood(number) for number in range(5000)))
    await until(lambda: client.lost)
    ask(bystander)
    await until(lambda: bystander.heads() == [200])
    assert web.count("outbound")[400, "enhance_your_calm"] == 1
    await calm(web)


async def test_more_streams_than_agreed_are_refused_with_an_outcome(net: Mesh) -> None:
    web, _, app = await shop(net, App(silent))
    client = await dial(web)
    await until(lambda: client.connection.peer_streams == bounds.MAX_STREAMS)
    for _ in range(bounds.MAX_STREAMS + 10):
        client.get()
    await until(lambda: sum(event[0] == "reset" for event in client.events.seen) == 10)
    assert {event[2] for event in client.events.seen if event[0] == "reset"} == {Code.REFUSED_STREAM}
    assert web.count("outbound") == {(0, "overflow"): 10}
    other = await dial(web)  # somebody else has streams of his own
    other.get()
    await until(lambda: sum(len(peer.events.streams) for peer in app.peers) == bounds.MAX_STREAMS + 1)


async def test_requests_are_shed_before_memory_goes(net: Mesh) -> None:
    """503 with the reason, gRPC's UNAVAILABLE; what is under way goes on."""
    web, _, app = await shop(net, App(silent))
    client = await dial(web)
    number = ask(client)
    await until(
        lambda: app.peers and app.peers[0].events.seen[-1:] == [("trailers", 1, ((b"x-trailer", b"1"),))]
    )
    squeezed = web.running._serving.pressure
    squeezed._resident = lambda: 1 << 62
    await until(lambda: squeezed.shedding)
    ask(client)
    await until(lambda: client.heads() == [503])
    [shed] = [event for event in client.events.seen if event[0] == "response"]
    assert (b"x-smi-mesh-reason", b"overload") in shed[3]
    grpc = client.connection.open([*POST_API, (b"content-type", b"application/grpc")], None, end=True)
    client.flush()
    await until(lambda: client.heads() == [503, 200])
    [status] = [event[3] for event in client.events.seen if event[:2] == ("response", grpc.id)]
    assert (b"grpc-status", b"14") in status
    answer(app.peers[0], 1, STEPS - 1)
    await until(lambda: client.events.data.get(number) == BODY)
    assert web.count("outbound") == {(200, ""): 1, (503, "overload"): 2}


async def test_requests_to_one_endpoint_are_bounded() -> None:
    async with mesh(Limits(tick=0.02, requests_per_endpoint=3)) as net:
        web, _, _ = await shop(net, App(silent))
        client = await dial(web)
        for _ in range(5):
            client.get()
        await until(lambda: client.heads() == [503, 503])
        assert web.count("outbound") == {(503, "overflow"): 2}


async def test_a_peer_without_http2_is_told_apart(net: Mesh) -> None:
    """A proxy that offers no ALPN `h2` gets no HTTP/2; the request is answered, HTTP/1.1 goes on."""
    web, api, _ = await shop(net, protocol=Protocol.DETECT)
    api.contexts.server_context.set_alpn_protocols([ALPN_HTTP1])
    client = await dial(web)
    client.get()
    await until(lambda: client.heads() == [503])
    [event] = [event for event in client.events.seen if event[0] == "response"]
    assert dict(event[3])[b"x-smi-mesh-reason"] == b"no-http2"


async def test_a_server_that_hangs_up_at_once_is_not_dialled_for_ever(net: Mesh) -> None:
    web, api = await net.pod("web"), await net.pod("api")
    dialled = []

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(1)
        writer.transport.abort()

    port = await net.serve(api.ip, hang_up)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)])
    client = await dial(web)
    for _ in range(20):
        client.get()
    await until(lambda: len(client.heads()) == 20)
    assert set(client.heads()) <= {502, 503}
    assert len(dialled) < 200
    client.transport.abort()


async def test_slow_streams_do_not_stop_quick_ones(net: Mesh) -> None:
    """One client asks for much on many streams at once, another for little: he is served in turn."""

    def pour(peer: Peer) -> None:
        for number, stream in list(peer.events.streams.items()):
            if stream.remote_done:
                del peer.events.streams[number]
                [path] = [event[3] for event in peer.events.seen if event[:2] == ("request", number)]
                size = 2_000_000 if path == b"/much" else 10
                peer.connection.send_head(stream, OK, end=False)
                peer.connection.send_data(stream, bytes(size), end=True)

    greedy = 20
    web, _, _ = await shop(net, App(pour))
    many = await dial(web)
    for _ in range(greedy):
        many.connection.open([*TO_API[:2], (b":path", b"/much"), TO_API[3]], None, end=True)
    many.flush()
    await until(lambda: many.events.data)
    few = await dial(web)
    few.get()
    await until(lambda: few.events.data.get(1) == bytes(10))
    assert sum(map(len, many.events.data.values())) < greedy * 2_000_000
