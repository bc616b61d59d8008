"""gRPC through two proxies with grpcio at both ends: all kinds of calls, statuses, deadlines, denials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import grpc
import grpc.aio
import pytest

from dataplane.serve.http2_server import DownstreamLink, Exchange
from dataplane.wire.http2 import Code
from smi.policy.snapshot import Protocol
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http2 import POST_API, App, Peer, dial, shop, silent
from tests.dataplane.serve.mesh import API, Mesh, Pod, match, routes, split
from tests.dataplane.waiting import until
from tests.dataplane.wire.http2.kit import OK

GRPC = (b"content-type", b"application/grpc")


async def _shop(net: Mesh, *, admit: bool = True) -> tuple[Pod, Pod, grpc.aio.Server]:
    web, api = await net.pod("web"), await net.pod("api")
    server, port = await grpc_app.start(api.ip)
    net.at_end(partial(server.stop, 0))
    web.admit()
    if admit:
        api.admit(net.anything())
    else:
        api.admit(routes(match("/shop.Echo/Down")))
    web.reach(API, [api.endpoint(port)], protocol=Protocol.GRPC)
    return web, api, server


def _grpc(pod: Pod, direction: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, series in pod.telemetry._http.items():
        if key[0] == direction:
            for status, count in series.grpc.items():
                found[status] = found.get(status, 0) + count
    return found


async def test_all_kinds_of_calls(net: Mesh) -> None:
    web, api, _ = await _shop(net)

    async def numbers() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%d" % number

    async with grpc_app.channel(web.outbound, API) as channel:
        call = channel.unary_unary("/shop.Echo/Unary")(b"hello", timeout=10)
        assert await call == b"hello"
        assert ("x-trailer", "yes") in list(await call.trailing_metadata())
        down = channel.unary_stream("/shop.Echo/Down")(b"100", timeout=10)
        assert [piece async for piece in down] == [b"%d" % number for number in range(100)]
        assert await channel.stream_unary("/shop.Echo/Up")(numbers(), timeout=10) == b"90"
        both = channel.stream_stream("/shop.Echo/Both")(numbers(), timeout=10)
        assert [piece async for piece in both] == [b"%d" % number for number in range(50)]
    assert web.count("outbound") == {(200, ""): 4}
    assert _grpc(web, "outbound") == _grpc(api, "inbound") == {"0": 4}


async def test_a_conversation_is_relayed_message_by_message(net: Mesh) -> None:
    web, _, _ = await _shop(net)
    async with grpc_app.channel(web.outbound, API) as channel:
        call = channel.stream_stream("/shop.Echo/Both")(timeout=10)
        for number in range(20):
            await call.write(b"%d" % number)
            assert await call.read() == b"%d" % number
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_large_messages(net: Mesh) -> None:
    web, _, _ = await _shop(net)
    async with grpc_app.channel(web.outbound, API) as channel:
        message = bytes(range(256)) * 32768  # 8 MiB: many windows
        calls = [channel.unary_unary("/shop.Echo/Unary")(message, timeout=30) for _ in range(2)]
        for call in calls:
            assert await call == message


async def test_status_is_taken_from_trailers(net: Mesh) -> None:
    web, api, _ = await _shop(net)
    async with grpc_app.channel(web.outbound, API) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/shop.Echo/Unary")(b"fail", timeout=10)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert _grpc(web, "outbound") == _grpc(api, "inbound") == {"9": 1}
    assert b'grpc_status="9"} 1' in web.telemetry.render()


async def test_denial_has_grpcs_shape(net: Mesh) -> None:
    """S25."""
    web, api, _ = await _shop(net, admit=False)
    async with grpc_app.channel(web.outbound, API) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/shop.Echo/Unary")(b"x", timeout=10)
        streaming = channel.stream_stream("/shop.Echo/Both")(timeout=10)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await streaming.read()
        down = channel.unary_stream("/shop.Echo/Down")(b"1", timeout=10)
        assert [piece async for piece in down] == [b"0"]
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    metadata = {**dict(caught.value.initial_metadata()), **dict(caught.value.trailing_metadata())}
    assert "; id=" in str(metadata["x-smi-mesh-denial"])
    assert caught.value.details().startswith("smi-mesh: ")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert _grpc(api, "inbound") == {"7": 2, "0": 1}


def _talks(peer: Peer) -> None:
    """Begins an answer and does not come to its end."""
    for number, stream in list(peer.events.streams.items()):
        if not stream.headed or stream.outbox is not None or number in peer.events.data:
            continue
        peer.events.data[number] = b""
        peer.connection.send_head(stream, [*OK, GRPC], end=False)
        peer.connection.send_data(stream, b"\0\0\0\0\1x", end=False)


def _exchange(pod: Pod) -> Exchange:
    """The one call that a pod's proxy carries."""
    links = [one for one in pod.running._serving.registry._served if isinstance(one, DownstreamLink)]
    [owner] = [stream.owner for link in links for stream in link.connection.streams.values()]
    assert isinstance(owner, Exchange)
    return owner


@pytest.mark.parametrize("react", [silent, _talks], ids=["no-answer", "server-streams"])
@pytest.mark.parametrize("done", [True, False], ids=["asked", "client-streams"])
async def test_deadline_is_honoured(net: Mesh, react: Callable[[Peer], None], done: bool) -> None:
    """By the proxies: this client, unlike grpcio's, waits for ever, and so does the app."""
    web, _, app = await shop(net, App(react), protocol=Protocol.GRPC)
    client = await dial(web)
    client.connection.open([*POST_API, GRPC, (b"te", b"trailers"), (b"grpc-timeout", b"1H")], None, end=done)
    client.flush()
    await app.reached()
    if react is _talks:
        await until(lambda: client.events.data.get(1))
    exchange = _exchange(web)
    assert exchange._timer is not None
    assert 3000.0 < exchange._timer.when() - asyncio.get_running_loop().time() <= 3600.0
    exchange._too_late()
    await until(lambda: any(b"grpc-status" in str(event).encode() for event in client.events.seen))
    [ending] = [event for event in client.events.seen if "grpc-status" in str(event)]
    assert ending[0] == ("trailers" if react is _talks else "response")
    fields = dict(ending[2] if react is _talks else ending[3])
    assert (fields[b"grpc-status"], fields[b"x-smi-mesh-reason"]) == (b"4", b"deadline")
    assert client.events.data.get(1, b"") == (b"\0\0\0\0\1x" if react is _talks else b"")
    await until(lambda: ("reset", 1, Code.CANCEL) in app.peers[0].events.seen)
    if not done:  # RFC 9113 §8.1: what the client has still to say is not wanted
        await until(lambda: ("reset", 1, Code.NO_ERROR) in client.events.seen)
    await until(lambda: _grpc(web, "outbound") == {"4": 1})
    assert web.count("outbound") == {(200 if react is _talks else 504, "deadline"): 1}
    await until(lambda: not any(load.active for load in web.loads()))


async def test_deadline_passes_by_itself(net: Mesh) -> None:
    """However far the call has come by then."""
    web, _, _ = await shop(net, App(silent), protocol=Protocol.GRPC)
    client = await dial(web)
    client.connection.open([*POST_API, GRPC, (b"te", b"trailers"), (b"grpc-timeout", b"50m")], None, end=True)
    client.flush()
    await until(lambda: _grpc(web, "outbound") == {"4": 1})
    assert web.count("outbound") == {(504, "deadline"): 1}
    await until(lambda: not any(load.active for load in web.loads()))


async def test_cancelled_call_reaches_the_app(net: Mesh) -> None:
    web, api, _ = await _shop(net)
    async with grpc_app.channel(web.outbound, API) as channel:
        call = channel.stream_stream("/shop.Echo/Both")(timeout=10)
        await call.write(b"x")
        await call.read()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        await until(lambda: api.count("inbound"))
    assert web.count("outbound") == api.count("inbound") == {(200, "client-gone"): 1}


async def test_no_app_is_unavailable(net: Mesh) -> None:
    web, _, server = await _shop(net)
    await server.stop(0)
    async with grpc_app.channel(web.outbound, API) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/shop.Echo/Unary")(b"x", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_of_one_connection_are_split(net: Mesh) -> None:
    """S13: per request, though the client has one connection."""
    web = await net.pod("web")
    web.admit()
    clusters, pods = {}, {}
    for name, path in (("v1", "Unary"), ("v2", "Unary")):
        pod = pods[name] = await net.pod(name)
        server, port = await grpc_app.start(pod.ip)
        net.at_end(partial(server.stop, 0))
        pod.admit(net.anything())
        clusters[f"shop/{name}:8080"] = [pod.endpoint(port)]
        assert path
    web.reach(API, [], protocol=Protocol.GRPC, splits=[split("s", {"v1": 3, "v2": 1})], clusters=clusters)
    async with grpc_app.channel(web.outbound, API) as channel:
        for number in range(40):
            assert await channel.unary_unary("/shop.Echo/Unary")(b"%d" % number, timeout=10) == b"%d" % number
    assert (pods["v1"].count("inbound"), pods["v2"].count("inbound")) == ({(200, ""): 30}, {(200, ""): 10})
