"""Good, broken, slow and vanishing peers by turns: descriptors, tasks and memory come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio
import pytest

from dataplane.serve.sockets import reset
from dataplane.wire.http2 import Code
from smi.policy.snapshot import Protocol
from tests.dataplane.serve import grpc_app
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.http2 import POST_API, App, dial, shop
from tests.dataplane.serve.mesh import API, Mesh, Pod, two_hops
from tests.dataplane.serve.soak import soak
from tests.dataplane.serve.test_tcp import pair
from tests.dataplane.serve.udp import Pair, dropped, grant, reach
from tests.dataplane.waiting import until

pytestmark = pytest.mark.e2e

MUCH = b"x" * 20_000


def calm(*pods: Pod) -> Callable[[], bool]:
    """Nothing is under way, and no client is left."""
    return lambda: (
        pods[0].running.connections == 0 and not any(load.active for pod in pods for load in pod.loads())
    )


async def test_http1(net: Mesh) -> None:
    web, _ = await two_hops(net, Echo())

    async def turn(number: int) -> None:
        client = await net.client(web.outbound)
        kind = number % 5
        if kind == 0:
            assert (await client.ask(get(API))).status == 200
        elif kind == 1:
            client.send(b"POST / HTTP/1.1\r\nbroken\r\n\r\n")
            assert (await client.receive()).status == 400
        elif kind == 2:
            client.send(get(API, "/", "Content-Length: 100", method="POST") + b"half")
        elif kind == 3:
            client.send(get(API) * 20)
        else:
            client.send(b"GET / HT")
        client.reset()
        net._clients.clear()

    await soak(turn, calm(web), warm=100, turns=300, spare=10)


async def test_http2(net: Mesh) -> None:
    """Streams finished, reset and abandoned, on connections that end, drain and vanish."""
    web, api, server = await shop(net, App())

    async def turn(number: int) -> None:
        client = await dial(web)
        web.callers.clear()
        whole = [client.connection.open(POST_API, None, end=False) for _ in range(3)]
        for stream in whole:
            client.connection.send_data(stream, MUCH, end=True)
        halves = [client.connection.open(POST_API, None, end=False) for _ in range(3)]
        for stream in halves:
            client.connection.send_data(stream, MUCH[:1000], end=False)
        client.flush()
        await until(lambda: client.heads() == [200] * 3)
        if number % 3:
            for stream in halves[number % 2 :]:
                client.connection.reset(stream, Code.CANCEL)
            client.flush()
        if number % 10 == 0:
            server.peers[-1].connection.shut_down()
            server.peers[-1].flush()
        client.transport.abort() if number % 2 else client.transport.close()
        server.peers[:] = [peer for peer in server.peers if not peer.lost]
        for peer in server.peers:  # what is the test's own must not grow
            for kept in (peer.events.seen, peer.events.data, peer.events.streams):
                kept.clear()

    turns = await soak(turn, calm(web, api), warm=60, turns=160, spare=6)
    outcomes = web.count("outbound")
    assert outcomes[200, ""] == 3 * turns
    assert sum(outcomes.values()) == 6 * turns


async def test_grpc(net: Mesh) -> None:
    """All kinds of calls: finished, failed, cancelled, and left with their channel."""
    web, api = await net.pod("web"), await net.pod("api")
    server, port = await grpc_app.start(api.ip)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)], protocol=Protocol.GRPC)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield MUCH[:1000]

    async def turn(number: int) -> None:
        async with grpc_app.channel(web.outbound, API) as channel:
            assert await channel.unary_unary("/shop.Echo/Unary")(MUCH, timeout=10) == MUCH
            kind = number % 4
            if kind == 0:
                down = channel.unary_stream("/shop.Echo/Down")(b"10", timeout=10)
                assert len([piece async for piece in down]) == 10
            elif kind == 1:
                assert await channel.stream_unary("/shop.Echo/Up")(pieces(), timeout=10) == b"3000"
            elif kind == 2:
                with pytest.raises(grpc.aio.AioRpcError):
                    await channel.unary_unary("/shop.Echo/Unary")(b"fail", timeout=10)
            both = channel.stream_stream("/shop.Echo/Both")(timeout=10)
            await both.write(b"x")
            assert await both.read() == b"x"
            if number % 2:
                both.cancel()

    await soak(turn, calm(web, api), warm=40, turns=80, spare=6)
    await server.stop(0)


async def test_opaque_tcp(net: Mesh) -> None:
    """Tunnels in mTLS: finished, reset by either side, half-closed by either, refused, never used."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        order = await reader.readexactly(1)
        if order == b"r":
            reset(writer.transport)
        elif order == b"h":
            writer.write(MUCH)
            writer.write_eof()
            await reader.read()
        else:
            while data := await reader.read(1 << 16):
                writer.write(data)

    web, db = await pair(net, serve)

    async def turn(number: int) -> None:
        kind = number % 7
        if kind == 6:
            db.admit()
        client = await net.client(web.outbound)
        net._clients.clear()
        if kind == 0:
            client.send(b"e" + MUCH)
            assert await client.read(len(MUCH)) == MUCH
            client.close()
        elif kind == 1:
            client.send(b"e" + MUCH)
            await client.read(1)
            client.reset()
        elif kind == 2:
            client.send(b"r")
            with pytest.raises(ConnectionResetError):
                await client.closed()
        elif kind == 3:
            client.send(b"e" + MUCH)
            client.writer.write_eof()
            assert await client.closed() == MUCH
            client.close()
        elif kind == 4:
            client.send(b"h")
            assert await client.closed() == MUCH
            client.reset()
        elif kind == 5:
            client.close()
        else:
            with pytest.raises(ConnectionResetError):
                await client.closed()
            db.admit(net.anything())

    def forget() -> None:
        """Sessions that the server keeps for its clients (`handshakes.Issued`)."""
        db.contexts.begin_sessions_anew()

    await soak(turn, calm(web, db), warm=105, turns=175, forget=forget)
    closed = {reason for series in web.telemetry._tcp.values() for reason in series.closed}
    assert closed >= {"", "aborted"}


async def test_udp(net: Mesh) -> None:
    """Flows answered, refused, without a listener, without an endpoint; all expire, carriers are lost."""
    both = Pair(net)
    await both.begin()
    clock, caller = both.clock, both.caller

    def count(reason: str) -> int:
        return dropped(clock).get(("inbound", reason), 0)

    tables = (caller.udp._flows, clock.running.udp.inbound.flows)

    async def turn(number: int) -> None:
        for table in tables:
            table.idle = 30.0
        kind = number % 5
        clock.admit(grant(both.port if kind != 1 else 1))
        reach(caller.pod, clock=(clock.endpoint(both.port if kind != 2 else 1),) if kind != 3 else ())
        if kind == 2:
            clock.admit(grant(1))
        refused = count("refused")
        caller.back.clear()
        both.server.seen.clear()
        for one in range(8):
            caller.send(MUCH[:1000], number * 8 + one)
        if kind in (0, 4):
            await caller.answers(8)
        elif kind == 1:
            await until(lambda: count("port-not-allowed") >= (number + 5) // 5 * 8)
        elif kind == 2:
            await until(lambda: count("refused") > refused)
        if kind == 4:
            clock.running.udp.inbound.close()
            await until(lambda: not caller.udp._open)

    def over() -> bool:
        for table in tables:
            table.idle = 0.0
        return len(caller.udp) == len(clock.running.udp.inbound) == 0

    turns = await soak(turn, over, warm=60, turns=150, spare=4)
    assert dropped(caller.pod) == {("outbound", "no-endpoint"): turns // 5 * 8}
