"""HTTP/2 through two proxies: httpx, curl, nghttp2's h2load and nghttp as clients, scripted servers."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest

from dataplane.wire.http2 import Code, bounds, frames
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http2 import POST_API, TO_API, App, Peer, dial, echo, pour, shop, silent
from tests.dataplane.serve.mesh import API, Mesh, match, routes, split
from tests.dataplane.waiting import until
from tests.dataplane.wire.http2.kit import OK


async def test_httpx_through_two_hops(net: Mesh) -> None:
    web, api, app = await shop(net)
    url = f"http://{web.outbound[0]}:{web.outbound[1]}"
    async with httpx.AsyncClient(http1=False, http2=True, trust_env=False) as client:
        answers = await asyncio.gather(
            *(client.post(f"{url}/{n}", content=b"%d" % n * 100, headers={"host": API}) for n in range(50))
        )
    assert [answer.content for answer in answers] == [b"%d" % n * 100 for n in range(50)]
    assert {answer.http_version for answer in answers} == {"HTTP/2"}
    assert len(app.peers) == 1  # one connection carried them all
    [fields] = {event[4] for event in app.peers[0].events.seen if event[0] == "request" and event[1] == 1}
    assert (b"x-forwarded-client-cert", f"By={api.identity};URI={web.identity}".encode()) in fields
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 50}


async def test_curl_with_prior_knowledge(net: Mesh) -> None:
    web, _, _ = await shop(net)
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    host, port = web.outbound
    command = ["curl", "-sS", "--http2-prior-knowledge", "-H", f"Host: {API}", "-w", " %{http_version}"]
    process = await asyncio.create_subprocess_exec(
        *command, "--noproxy", "*", "-d", "hello", f"http://{host}:{port}/", stdout=-1, stderr=-1
    )
    out, error = await process.communicate()
    assert (out, error) == (b"hello 2", b"")


async def test_h2load_with_bodies_both_ways(net: Mesh, tmp_path: Path) -> None:
    """Four connections of twenty streams: all are answered, whole, and each is counted once on each side."""
    if shutil.which("h2load") is None:
        pytest.skip("needs nghttp2's h2load")
    web, api, app = await shop(net)
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 8)
    host, port = web.outbound
    options = ["-c4", "-m20", "-t1", "-n2000", "-d", str(body), "-H", f":authority: {API}"]
    process = await asyncio.create_subprocess_exec(
        "h2load", *options, f"http://{host}:{port}/", stdout=-1, stderr=-1
    )
    out, error = await process.communicate()
    text = out.decode()
    assert error == b""
    assert "2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout" in text
    assert "status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx" in text
    assert f"({2000 * 2048}) data" in text, text
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 2000}
    assert {data for peer in app.peers for data in peer.events.data.values()} == {body.read_bytes()}


async def test_nghttp_with_padding_and_priorities(net: Mesh, tmp_path: Path) -> None:
    """Of another implementation than those above: padded frames, PRIORITY frames, trailers behind a body."""
    if shutil.which("nghttp") is None:
        pytest.skip("needs nghttp2's nghttp")
    web, api, app = await shop(net)
    body = tmp_path / "body"
    body.write_bytes(b"x" * 51_200)  # the answers come out mixed
    host, port = web.outbound
    options = ["-b200", "-m5", "-p8", "--trailer=x-end: yes", "-d", str(body)]
    process = await asyncio.create_subprocess_exec(
        "nghttp", *options, "-H", f":authority: {API}", f"http://{host}:{port}/", stdout=-1, stderr=-1
    )
    out, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert out == body.read_bytes() * 5
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 5}
    trailers = [event[2] for peer in app.peers for event in peer.events.seen if event[0] == "trailers"]
    assert trailers == [((b"x-end", b"yes"),)] * 5


async def test_denial_is_403_with_the_reason(net: Mesh) -> None:
    web, api, _ = await shop(net)
    api.admit(routes(match("/open")))
    client = await dial(web)
    client.get()
    await until(lambda: client.heads())
    [(_, _, status, fields, _)] = [event for event in client.events.seen if event[0] == "response"]
    assert status == 403
    assert b"; id=" in dict(fields)[b"x-smi-mesh-denial"]
    await until(lambda: b"smi-mesh: " in client.events.data.get(1, b""))
    assert (web.count("outbound"), api.count("inbound")) == ({(403, ""): 1}, {(403, "route-not-allowed"): 1})


async def test_requests_of_one_connection_are_split_by_header_and_weight(net: Mesh) -> None:
    web, api, app = await shop(net, protocol=Protocol.DETECT)
    other = App()
    beta = await net.pod("beta")
    beta.admit(net.anything())
    clusters = {
        "shop/api:8080": [api.endpoint(app._server.sockets[0].getsockname()[1])],
        "shop/beta:8080": [beta.endpoint(await other.start(beta.ip))],
    }
    net.at_end(other.stop)
    ab = split("ab", {"beta": 1}, [match(None, cookie=".*beta.*")])
    web.reach(API, clusters["shop/api:8080"], splits=[ab], clusters=clusters)
    client = await dial(web)
    for number in range(10):
        extra = [(b"cookie", b"a=1"), (b"cookie", b"user=beta")] if number % 2 else []
        client.connection.open([*TO_API, *extra], None, end=True)
    client.flush()
    await until(lambda: len(client.heads()) == 10)
    assert (api.count("inbound"), beta.count("inbound")) == ({(200, ""): 5}, {(200, ""): 5})
    other.stop()


async def test_a_client_that_does_not_read_holds_bounded_memory(net: Mesh) -> None:
    """The app may send for ever; it is stopped by windows on every hop."""
    web, api, app = await shop(net, App(pour(4_000_000)))
    client = await dial(web, credit=False)
    client.get()
    await until(lambda: len(client.events.data.get(1, b"")) == bounds.STREAM_WINDOW)
    sent = -1
    while sent != app.peers[0].events.sent:
        sent = app.peers[0].events.sent
        for _ in range(20):
            await asyncio.sleep(0.005)
    assert sent < 3 * bounds.STREAM_WINDOW + (1 << 20)
    other = await dial(web)  # somebody else is served meanwhile
    other.get()
    await until(lambda: other.heads())
    client.events._credit = True
    client.connection.credit(client.connection.streams[1], bounds.STREAM_WINDOW)
    client.flush()
    await until(lambda: len(client.events.data[1]) == 4_000_000)
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 2}


async def test_a_stuck_server_stops_the_client_stream_by_stream(net: Mesh) -> None:
    web, api, app = await shop(net, App(silent, credit=False))
    client = await dial(web)
    stream = client.connection.open(POST_API, None, end=False)
    client.connection.send_data(stream, bytes(4_000_000), end=True)
    client.flush()
    await until(lambda: app.peers and app.peers[0].events.data.get(1))
    sent = -1
    while sent != client.events.sent:
        sent = client.events.sent
        for _ in range(20):
            await asyncio.sleep(0.005)
    assert sent < 3 * bounds.STREAM_WINDOW + (1 << 20)
    client.transport.abort()
    await until(lambda: web.count("outbound") == api.count("inbound") == {(0, "client-gone"): 1})
    await until(lambda: not any(load.active for load in web.loads()))


async def test_refused_streams_are_sent_again(net: Mesh) -> None:
    refused = []

    def refuse_once(peer: Peer) -> None:
        for number, stream in list(peer.events.streams.items()):
            if not refused and stream.remote_done:
                refused.append(number)
                del peer.events.streams[number]
                peer.connection.reset(stream, Code.REFUSED_STREAM)
        echo(peer)

    web, api, _ = await shop(net, App(refuse_once))
    client = await dial(web)
    stream = client.connection.open(POST_API, None, end=False)
    client.connection.send_data(stream, b"body", end=True)
    client.flush()
    await until(lambda: client.events.data.get(1) == b"body")
    assert refused
    assert client.heads() == [200]
    assert web.count("outbound") == api.count("inbound") == {(200, ""): 1}


@pytest.mark.parametrize(
    ("code", "seen"), [(Code.CANCEL, Code.CANCEL), (Code.PROTOCOL_ERROR, Code.INTERNAL_ERROR)]
)
async def test_reset_behind_the_head_reaches_the_client(net: Mesh, code: Code, seen: Code) -> None:
    def break_off(peer: Peer) -> None:
        for _, stream in peer.asked():
            peer.connection.send_head(stream, OK, end=False)
            peer.flush()
            peer.connection.reset(stream, code)

    web, api, _ = await shop(net, App(break_off))
    client = await dial(web)
    client.get()
    await until(lambda: ("reset", 1, seen) in client.events.seen)
    assert web.count("outbound") == api.count("inbound") == {(200, "truncated"): 1}


async def test_an_early_answer_reaches_a_slow_client_whole(net: Mesh) -> None:
    """A server that wants no more of a request says so behind its answer, which the client reads later."""

    def early(peer: Peer) -> None:
        for _, stream in peer.asked():
            peer.connection.send_head(stream, OK, end=False)
            peer.connection.send_data(stream, bytes(50_000), end=False)
            peer.connection.send_head(stream, [(b"grpc-status", b"0")], end=True)
            peer.connection.finish(stream, Code.NO_ERROR)

    web, _, _ = await shop(net, App(early))
    client = await dial(web, credit=False)
    client.transport.write(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1000)]))
    client.connection.open(POST_API, None, end=False)
    client.flush()
    await until(lambda: len(client.events.data.get(1, b"")) == 1000)
    await until(lambda: web.count("outbound") == {(200, ""): 1})
    client.transport.write(frames.window_update(1, bounds.STREAM_WINDOW))
    await until(lambda: client.events.seen[-1][0] == "reset")
    assert [event[0] for event in client.events.seen] == ["response", "trailers", "reset"]
    assert len(client.events.data[1]) == 50_000


async def test_answers_that_nobody_reads_to_the_end_hold_no_window(net: Mesh) -> None:
    """The server has sent all of them; credit for what the client did not take is given all the same."""
    web, _, app = await shop(net, App(pour(bounds.STREAM_WINDOW)))
    client = await dial(web, credit=False)
    client.transport.write(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1000)]))
    for count in range(1, 6 * bounds.CONNECTION_WINDOW // bounds.STREAM_WINDOW):
        stream = client.get()
        await until(lambda number=stream.id: len(client.events.data.get(number, b"")) == 1000)
        await until(lambda count=count: web.count("outbound").get((200, "")) == count)
        client.connection.reset(stream, Code.CANCEL)
        client.flush()
    assert len(app.peers) == 1


async def test_reset_instead_of_a_head_is_502(net: Mesh) -> None:
    def reset(peer: Peer) -> None:
        for _, stream in peer.asked():
            peer.connection.reset(stream, Code.INTERNAL_ERROR)

    web, api, _ = await shop(net, App(reset))
    client = await dial(web)
    stream = client.connection.open(POST_API, None, end=False)
    client.connection.send_data(stream, b"x", end=True)
    client.flush()
    await until(lambda: client.heads())
    assert client.heads() == [502]
    assert (web.count("outbound"), api.count("inbound")) == ({(502, ""): 1}, {(502, "upstream-reset"): 1})


async def test_lost_server_connection_is_tried_elsewhere(net: Mesh) -> None:
    """An idempotent request whose server goes away is answered by the other one."""
    web, api, app = await shop(net, App(lambda peer: peer.events.streams and peer.transport.abort()))
    two = await net.pod("two")
    two.admit(net.anything())
    good = App()
    port = await good.start(two.ip)
    net.at_end(good.stop)
    web.reach(API, [api.endpoint(app._server.sockets[0].getsockname()[1]), two.endpoint(port)])
    client = await dial(web)
    for _ in range(10):
        client.get()
    await until(lambda: len(client.heads()) == 10)
    assert client.heads() == [200] * 10
    assert web.count("outbound") == {(200, ""): 10}
    client.transport.abort()
    good.stop()


async def test_drain_finishes_what_is_under_way(net: Mesh) -> None:
    web, _, app = await shop(net, App(silent))
    client = await dial(web)
    client.get()
    await app.reached()
    draining = asyncio.ensure_future(web.running.drain(5.0))  # noqa: TID251 - a test's own task
    await until(lambda: not client.connection.can_open)
    assert not draining.done()
    app.peers[0]._react = echo
    echo(app.peers[0])
    app.peers[0].flush()
    await draining
    assert client.heads() == [200]
    await until(lambda: client.lost)


async def test_server_that_drains_costs_no_request(net: Mesh) -> None:
    web, _, app = await shop(net)
    client = await dial(web)
    for number in range(20):
        client.get()
        if number % 5 == 0 and app.peers:
            app.peers[-1].connection.shut_down()
            app.peers[-1].flush()
        await until(lambda number=number: len(client.heads()) == number + 1)
    assert client.heads() == [200] * 20
    assert len(app.peers) > 2


async def test_rotation_retires_connections(net: Mesh) -> None:
    web, api, _ = await shop(net)
    client = await dial(web)
    for number in range(4):
        client.get()
        await until(lambda number=number: len(client.heads()) == number + 1)
        web.contexts.rotate()
    assert client.heads() == [200] * 4
    assert api.count("inbound") == {(200, ""): 4}


async def test_a_flood_is_answered_with_goaway_and_an_outcome(net: Mesh) -> None:
    web, _, _ = await shop(net)
    client = await dial(web)
    client.transport.write(frames.frame(frames.PING, 0, 0, bytes(8)) * 3000)
    await until(lambda: client.lost)
    assert web.count("outbound") == {(400, "enhance_your_calm"): 1}


async def test_server_that_speaks_something_else(net: Mesh) -> None:
    web, api = await net.pod("web"), await net.pod("api")

    async def grumble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    port = await net.serve(api.ip, grumble)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)])
    client = await dial(web)
    client.get()
    await until(lambda: client.heads())
    assert client.heads() == [502]
    assert (web.count("outbound"), api.count("inbound")) == ({(502, ""): 1}, {(502, "bad-response"): 1})
    client.transport.abort()
