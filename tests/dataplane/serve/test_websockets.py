"""WebSockets of a real library through two proxies."""

from __future__ import annotations

import os

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.dataplane.serve.mesh import API, Mesh, Pod
from tests.dataplane.waiting import until

LARGE = os.urandom(1 << 19) + bytes(1 << 19)
"""1 MB, of which half can be compressed."""


class Echo:
    """Sends back what comes, and notes how clients close; closes itself at `stop`."""

    def __init__(self) -> None:
        self.closed: list[tuple[int, str]] = []

    async def __call__(self, connection: ServerConnection) -> None:
        try:
            while True:
                message = await connection.recv()
                if message == "stop":
                    await connection.close(4002, "as you wish")
                await connection.send(message)
        except ConnectionClosed as end:
            if end.rcvd is not None and end.rcvd_then_sent:
                self.closed.append((end.rcvd.code, end.rcvd.reason))


async def chat(net: Mesh) -> tuple[Pod, Pod, Echo]:
    web, api = await net.pod("web"), await net.pod("api")
    echo = Echo()
    server = await serve(echo, api.ip, 0, max_size=8 << 20)
    net.at_end(server.close)
    web.admit()
    api.admit(net.anything())
    [listener] = server.sockets
    port = int(listener.getsockname()[1])
    web.reach(API, [api.endpoint(port)])
    return web, api, echo


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_and_the_client_s_goodbye(net: Mesh, compression: str | None) -> None:
    web, api, echo = await chat(net)
    host, port = web.outbound
    async with connect(
        f"ws://{API}/chat", host=host, port=port, compression=compression, max_size=8 << 20, proxy=None
    ) as client:
        extensions = [extension.name for extension in client.protocol.extensions]
        assert extensions == (["permessage-deflate"] if compression else [])
        await client.send(LARGE)
        assert await client.recv() == LARGE
        for number in range(50):
            await client.send("x" * number)
        assert [await client.recv() for _ in range(50)] == ["x" * number for number in range(50)]
        await client.send([b"in ", b"fragments"])
        assert await client.recv() == b"in fragments"
        await (await client.ping(b"there?"))
        await client.close(4001, "bye")
    await until(lambda: echo.closed == [(4001, "bye")])
    assert web.count("outbound") == api.count("inbound") == {(101, ""): 1}
    await until(lambda: web.running.connections == api.running.connections == 0)


async def test_the_server_s_goodbye(net: Mesh) -> None:
    web, api, _ = await chat(net)
    host, port = web.outbound
    async with connect(f"ws://{API}/chat", host=host, port=port, proxy=None) as client:
        await client.send("stop")
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4002, "as you wish")
    await until(lambda: web.running.connections == api.running.connections == 0)
