"""TLS as a transport: how its bytes are cut does not show, half-close works, truncation is told."""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
from typing import Any

import pytest

from dataplane.serve.tls import TlsLayer
from smi.names import ALPN_TCP
from tests.dataplane.control.authority import Authority
from tests.dataplane.serve.mesh import Contexts


class Wire:
    """One direction's TCP transport, in memory: what is written waits until it is pumped."""

    def __init__(self) -> None:
        self.waiting = b""
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.waiting += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class App(asyncio.Protocol):
    def __init__(self) -> None:
        self.got = b""
        self.ended = False
        self.lost: Exception | str | None = "no"

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> bool:
        self.ended = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc


class Pair:
    """A client and a server, joined by two wires."""

    def __init__(
        self, client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> None:
        self.apps = (App(), App())
        self.failures: list[Exception] = []
        self.wires = (Wire(), Wire())
        self.client = TlsLayer(
            client,
            lambda _: self.apps[0],
            self.failures.append,
            seconds=5,
            server_name="p80.smi-mesh.internal",
            session=session,
        )
        self.server = TlsLayer(server, lambda _: self.apps[1], self.failures.append, seconds=5)
        self.server.connection_made(self.wires[1])  # type: ignore[arg-type]  # as much of a transport as is used
        self.client.connection_made(self.wires[0])  # type: ignore[arg-type]  # a stand-in

    def pump(self, step: int = 1 << 30) -> None:
        """Deliver everything that waits, `step` bytes at a time."""
        layers = (self.server, self.client)
        while any(wire.waiting for wire in self.wires):
            for wire, layer in zip(self.wires, layers, strict=True):
                data, wire.waiting = wire.waiting[:step], wire.waiting[step:]
                if data:
                    layer.data_received(data)


@pytest.fixture
def contexts() -> tuple[Contexts, Contexts]:
    authority = Authority()
    return Contexts(authority, "web", "web-1"), Contexts(authority, "api", "api-1")


@pytest.fixture
async def pair(contexts: tuple[Contexts, Contexts]) -> Pair:
    made = Pair(contexts[0].client_tcp_context, contexts[1].server_context)
    made.pump()
    return made


@pytest.mark.parametrize("step", [1, 7, 1000, 1 << 30])
async def test_how_bytes_are_cut_does_not_show(contexts: tuple[Contexts, Contexts], step: int) -> None:
    pair = Pair(contexts[0].client_tcp_context, contexts[1].server_context)
    pair.pump(step)
    assert (pair.server.sni, pair.server.alpn, pair.client.alpn) == (
        "p80.smi-mesh.internal",
        ALPN_TCP,
        ALPN_TCP,
    )
    there, back = random.Random(1).randbytes(40_000), random.Random(2).randbytes(40_000)
    pair.client.write(there)
    pair.server.write(back)
    pair.pump(step)
    assert (pair.apps[1].got, pair.apps[0].got) == (there, back)
    assert pair.failures == []


@pytest.mark.parametrize("step", [1, 1 << 30])
async def test_either_side_can_close_first_and_go_on_reading(pair: Pair, step: int) -> None:
    pair.client.write(b"question")
    pair.client.write_eof()
    pair.pump(step)
    assert (pair.apps[1].got, pair.apps[1].ended) == (b"question", True)
    pair.server.write(b"a" * 50_000)
    pair.pump(step)
    assert pair.apps[0].got == b"a" * 50_000
    pair.server.write_eof()
    pair.pump(step)
    assert pair.apps[0].ended


async def test_closing_with_half_a_record_on_its_way(pair: Pair) -> None:
    pair.server.write(b"a" * 10_000)
    cut, pair.wires[1].waiting = pair.wires[1].waiting[:5000], pair.wires[1].waiting[5000:]
    pair.client.data_received(cut)
    pair.client.write_eof()
    pair.pump()
    assert pair.apps[0].got == b"a" * 10_000
    assert pair.apps[1].ended
    pair.server.write(b"more")
    pair.pump()
    assert pair.apps[0].got.endswith(b"more")


async def test_end_without_goodbye_is_a_truncation(pair: Pair) -> None:
    assert not pair.server.eof_received()
    assert pair.wires[1].closed
    pair.server.connection_lost(None)
    assert isinstance(pair.apps[1].lost, ConnectionAbortedError)
    assert not pair.apps[1].ended


async def test_end_after_goodbye_is_an_end(pair: Pair) -> None:
    pair.client.close()
    assert pair.wires[0].closed
    pair.pump()
    assert pair.server.eof_received()
    pair.server.close()
    pair.server.connection_lost(None)
    assert pair.apps[1].lost is None
    assert pair.apps[1].ended


async def test_tampered_record_ends_the_connection(pair: Pair) -> None:
    pair.client.write(b"secret")
    waiting = bytearray(pair.wires[0].waiting)
    waiting[-1] ^= 1
    pair.server.data_received(bytes(waiting))
    pair.server.connection_lost(None)
    assert pair.apps[1].got == b""
    assert isinstance(pair.apps[1].lost, ssl.SSLError)


async def test_strangers_are_refused_in_the_handshake(contexts: tuple[Contexts, Contexts]) -> None:
    stranger = Contexts(Authority("other"), "web", "web-1")
    pair = Pair(stranger.client_tcp_context, contexts[1].server_context)
    pair.pump()
    pair.client.connection_lost(None)
    assert isinstance(pair.failures[0], ssl.SSLError)
    pair = Pair(contexts[0].client_tcp_context, stranger.server_context)
    pair.pump()
    pair.client.connection_lost(None)
    pair.server.connection_lost(None)
    assert all(isinstance(failure, ssl.SSLError) for failure in pair.failures)
    assert len(pair.failures) == 2
    assert [app.got for app in pair.apps] == [b"", b""]


async def test_garbage_instead_of_a_handshake(contexts: tuple[Contexts, Contexts]) -> None:
    pair = Pair(contexts[0].client_tcp_context, contexts[1].server_context)
    pair.server.data_received(b"GET / HTTP/1.1\r\n\r\n")
    pair.server.connection_lost(None)
    assert isinstance(pair.failures[0], ssl.SSLError)


async def test_connection_that_ends_in_the_handshake(contexts: tuple[Contexts, Contexts]) -> None:
    pair = Pair(contexts[0].client_tcp_context, contexts[1].server_context)
    pair.client.eof_received()
    pair.client.connection_lost(None)
    assert isinstance(pair.failures[0], ConnectionError)


async def test_writing_to_what_is_gone_does_nothing(pair: Pair) -> None:
    pair.client.write_eof()
    pair.pump()
    pair.client.write(b"late")
    assert pair.wires[0].waiting == b""
    pair.client.write_eof()
    assert pair.wires[0].waiting == b""


async def test_a_connection_that_is_not_made_leaves_nothing(contexts: tuple[Contexts, Contexts]) -> None:
    """Nobody tells the layer of it: what kept it alive would keep 60 kB until the handshake's deadline."""
    layer = TlsLayer(
        contexts[0].client_tcp_context, lambda _: None, lambda _: None, seconds=5, server_name="a"
    )
    assert sys.getrefcount(layer) == 2  # `layer` and the argument
