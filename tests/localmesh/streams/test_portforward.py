"""port-forward on the wire: connections that do not disturb each other, errors in words, bounded numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from localmesh.streams import channels, portforward, spdy
from localmesh.streams.watching import Limits
from tests.localmesh.cluster_kit import wait_until
from tests.localmesh.streams.kit import SpdyClient, serving, spdy_client

ECHO, SHOUT, REFUSED = 7, 8, 9
"""Ports of the pod: says back what it hears; says all of it once the client has finished; nobody there."""


@dataclass
class Pod:
    limits: Limits = field(default_factory=lambda: Limits(farewell=0.2))
    ports: dict[int, int] = field(default_factory=dict)
    open: int = 0

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        self.open -= 1

    async def shout(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async def dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port not in self.ports:
            raise ConnectionRefusedError(111, "dial tcp4 127.0.0.1: connect: connection refused")
        return await asyncio.open_connection("127.0.0.1", self.ports[port])

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers["Upgrade"] != "websocket":
            return await portforward.serve_spdy(request, "p", self.dial, self.limits)
        wanted = request.headers.get("Sec-WebSocket-Protocol", "")
        if wanted in portforward.TUNNELS:
            return await portforward.serve_tunnel(request, "p", self.dial, wanted, self.limits)
        ports = portforward.parse_ports(request.query.getall("ports"))
        dialect = channels.dialect_named(wanted)
        return await portforward.serve_channels(request, "p", ports, self.dial, dialect, self.limits)


@asynccontextmanager
async def forwarding(pod: Pod) -> AsyncIterator[int]:
    servers = {
        ECHO: await asyncio.start_server(pod.echo, "127.0.0.1", 0),
        SHOUT: await asyncio.start_server(pod.shout, "127.0.0.1", 0),
    }
    pod.ports = {port: server.sockets[0].getsockname()[1] for port, server in servers.items()}
    try:
        async with serving(pod.handle) as port:
            yield port
    finally:
        for server in servers.values():
            server.close()


def connect(client: SpdyClient, port: int, request: str) -> tuple[int, int]:
    """The data and the error stream of a new connection."""
    error = client.open(streamtype="error", port=str(port), requestid=request)
    client.send(spdy.Data(error, b"", fin=True))
    return client.open(streamtype="data", port=str(port), requestid=request), error


async def test_connections_beside_each_other() -> None:
    pod = Pod()
    async with forwarding(pod) as port, spdy_client(port, "/", portforward.PROTOCOL) as client:
        assert "101" in client.head
        pairs = [connect(client, ECHO, str(number)) for number in range(5)]
        for data, _ in pairs:
            client.send(spdy.Data(data, b"from %d" % data))
        await client.until(lambda: all(client.streams[data].data for data, _ in pairs), "five echoes")
        for data, error in pairs:
            assert client.streams[data].data == b"from %d" % data
            assert not client.streams[error].data
        last, _ = pairs[-1]
        client.send(spdy.Data(last, b"", fin=True))
        await client.until(lambda: client.streams[last].ended, "the end of one")
        assert not any(client.streams[data].ended for data, _ in pairs[:-1])
    await wait_until(lambda: not pod.open, "the client is gone, and its connections to the pod with it")


async def test_a_half_closed_connection_still_answers() -> None:
    async with forwarding(Pod()) as port, spdy_client(port, "/", portforward.PROTOCOL) as client:
        data, error = connect(client, SHOUT, "0")
        client.send(spdy.Data(data, b"all of it", fin=True))
        await client.until(lambda: client.streams[data].ended and client.streams[error].ended, "the answer")
        assert client.streams[data].data == b"ALL OF IT"


async def test_a_port_nobody_listens_on_is_an_error_on_its_own_stream() -> None:
    async with forwarding(Pod()) as port, spdy_client(port, "/", portforward.PROTOCOL) as client:
        data, error = connect(client, REFUSED, "0")
        other, _ = connect(client, ECHO, "1")
        client.send(spdy.Data(other, b"still here"))
        await client.until(lambda: client.streams[error].ended and client.streams[other].data, "the error")
        assert client.streams[error].data == (
            b"error forwarding port 9 to pod p: dial tcp4 127.0.0.1: connect: connection refused"
        )
        assert client.streams[data].ended


async def test_streams_without_their_other_half_or_sense_are_reset() -> None:
    pod = Pod(limits=Limits(opening=0.05, farewell=0.05))
    async with forwarding(pod) as port, spdy_client(port, "/", portforward.PROTOCOL) as client:
        alone = client.open(streamtype="data", port="7", requestid="0")
        odd = client.open(streamtype="data", port="none", requestid="1")
        await client.until(lambda: client.streams[alone].reset and client.streams[odd].reset, "both resets")
        assert client.streams[alone].reset == spdy.CANCEL
        assert client.streams[odd].reset == spdy.PROTOCOL_ERROR


async def test_no_more_connections_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portforward, "MAX_CONNECTIONS", 2)
    async with forwarding(Pod()) as port, spdy_client(port, "/", portforward.PROTOCOL) as client:
        for number in range(2):
            connect(client, ECHO, str(number))
        refused = client.open(streamtype="error", port="7", requestid="2")
        await client.until(lambda: client.streams[refused].reset, "the refusal")


async def test_a_long_upload_arrives_whole() -> None:
    payload = bytes(range(256)) * 8192
    async with forwarding(Pod()) as port, spdy_client(port, "/", portforward.PROTOCOL) as client:
        data, _ = connect(client, SHOUT, "0")

        async def upload() -> None:
            for start in range(0, len(payload), 32768):
                client.send(spdy.Data(data, payload[start : start + 32768]))
                await client.writer.drain()
            client.send(spdy.Data(data, b"", fin=True))

        async with asyncio.TaskGroup() as group:
            group.create_task(upload())
            await client.until(lambda: client.streams[data].ended, "the answer")
        assert client.streams[data].data == payload.upper()


@pytest.mark.parametrize("protocol", portforward.TUNNELS)
async def test_the_same_frames_inside_a_websocket(protocol: str) -> None:
    async with (
        forwarding(Pod()) as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/", protocols=(protocol,)) as opened,
    ):
        assert opened.protocol == protocol
        encoder, decoder = spdy.Encoder(), spdy.Decoder()
        error = {"streamtype": "error", "port": "7", "requestid": "0"}
        frames = [
            spdy.SynStream(1, error),
            spdy.SynStream(3, error | {"streamtype": "data"}),
            spdy.Data(3, b"hi"),
        ]
        wire = b"".join(encoder.encode(frame) for frame in frames)
        for start in range(0, len(wire), 7):  # frames and messages have nothing to do with each other
            await opened.send_bytes(wire[start : start + 7])
        seen: list[spdy.Frame] = []
        while spdy.Data(3, b"hi") not in seen:
            message = await opened.receive(timeout=10)
            assert message.type is WSMsgType.BINARY
            seen += decoder.feed(message.data)


async def test_channels_of_the_python_client() -> None:
    async with (
        forwarding(Pod()) as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{port}/?ports={ECHO},{REFUSED}", protocols=("v4.channel.k8s.io",)
        ) as opened,
    ):
        await opened.send_bytes(b"\x00hello")
        found: dict[int, bytes] = {}
        async with asyncio.timeout(10):
            while not (found.get(0, b"").endswith(b"hello") and len(found.get(3, b"")) > 2):
                message = await opened.receive()
                assert message.type is WSMsgType.BINARY
                found[message.data[0]] = found.get(message.data[0], b"") + message.data[1:]
        assert found[0] == b"\x07\x00hello"
        assert found[1] == b"\x07\x00"
        assert found[2] == b"\x09\x00"
        assert found[3].startswith(b"\x09\x00error forwarding port 9 to pod p")
