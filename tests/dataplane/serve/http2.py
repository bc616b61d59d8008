"""Scripted HTTP/2 peers on the codec that the proxy itself uses: servers, clients, and what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from dataplane.wire.http2 import Connection
from dataplane.wire.http2.stream import Stream
from tests.dataplane.serve.mesh import API, Mesh, Pod
from tests.dataplane.waiting import until
from tests.dataplane.wire.http2.kit import GET, OK, POST, Events

TO_API = [*GET[:3], (b":authority", API.encode())]
POST_API = [*POST[:3], (b":authority", API.encode())]


class Peer(asyncio.Protocol):
    """One end of a connection, on the codec that the proxy itself uses; `react` serves each turn."""

    def __init__(self, *, server: bool, react: Callable[[Peer], None] | None = None, credit: bool = True):
        self.events = Events(credit=credit)
        self._server = server
        self._react = react
        self.lost = False
        self.connection: Connection
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's
        self.connection = Connection(self.events, lambda: None, server=self._server, now=0.0)
        self.events.connection = self.connection
        self.flush()

    def data_received(self, data: bytes) -> None:
        self.connection.receive(data, asyncio.get_running_loop().time())
        if self._react is not None:
            self._react(self)
        self.flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True

    def flush(self) -> None:
        while data := self.connection.take():
            self.transport.write(data)
            self.connection.pump()

    def get(self) -> Stream:
        """Ask for something, without a body."""
        stream = self.connection.open(TO_API, None, end=True)
        self.flush()
        return stream

    def asked(self) -> Iterator[tuple[int, Stream]]:
        """The streams that have come and are not answered yet: each is handed out once."""
        while self.events.streams:
            number = next(iter(self.events.streams))
            yield number, self.events.streams.pop(number)

    def heads(self) -> list[int]:
        return [event[2] for event in self.events.seen if event[0] == "response"]


def echo(peer: Peer) -> None:
    """Answers what is complete: 200, with the body that came."""
    for number, stream in list(peer.events.streams.items()):
        if stream.remote_done:
            del peer.events.streams[number]
            peer.connection.send_head(stream, [*OK, (b"x-served", b"yes")], end=False)
            peer.connection.send_data(stream, peer.events.data.get(number, b""), end=True)


def silent(_peer: Peer) -> None:
    """Never answers."""


def pour(size: int) -> Callable[[Peer], None]:
    """Answers at once with `size` bytes."""

    def react(peer: Peer) -> None:
        for _, stream in peer.asked():
            peer.connection.send_head(stream, OK, end=False)
            peer.connection.send_data(stream, bytes(size), end=True)

    return react


class App:
    """A server at an ephemeral port of `host`."""

    def __init__(self, react: Callable[[Peer], None] = echo, *, credit: bool = True) -> None:
        self.peers: list[Peer] = []
        self._react = react
        self._credit = credit
        self._server: asyncio.Server

    async def start(self, host: str) -> int:
        def accept() -> Peer:
            self.peers.append(Peer(server=True, react=self._react, credit=self._credit))
            return self.peers[-1]

        self._server = await asyncio.get_running_loop().create_server(accept, host, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def reached(self) -> Peer:
        """Its first caller, once there is a request that waits for an answer."""
        await until(lambda: self.peers and self.peers[0].events.streams)
        return self.peers[0]

    def stop(self) -> None:
        self._server.close()
        for peer in self.peers:
            peer.transport.abort()


async def shop(net: Mesh, app: App | None = None, **reach: object) -> tuple[Pod, Pod, App]:
    web, api = await net.pod("web"), await net.pod("api")
    app = app or App()
    port = await app.start(api.ip)
    net.at_end(app.stop)
    web.admit()
    api.admit(net.anything())
    web.reach(API, [api.endpoint(port)], **reach)  # type: ignore[arg-type]  # keyword arguments of reach
    return web, api, app


async def dial(pod: Pod, *, credit: bool = True) -> Peer:
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: Peer(server=False, credit=credit), *pod.outbound)
    pod.callers.append(peer.transport)
    return peer
