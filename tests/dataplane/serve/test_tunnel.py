"""Two ends of an opaque connection, in every order in which they can come, end and break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from dataplane.serve.limits import Limits
from dataplane.serve.registry import Registry
from dataplane.serve.sniffer import Sides, Sniffer
from dataplane.serve.tunnel import Tunnel
from smi.policy.snapshot import Protocol
from tests.dataplane.serve import fakes
from tests.dataplane.serve.http import Client
from tests.dataplane.serve.mesh import API, Mesh, two_hops
from tests.dataplane.waiting import until


class Wire(fakes.Wire):
    """One that tells how it ended. `abort` is a reset: a server's is told of, one's own is not."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = self.aborted = False

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    @property
    def transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self)


class Joined:
    """A tunnel between two wires."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, str]] = []
        self.registry = Registry(asyncio.get_running_loop(), 60.0)
        self.tunnel = Tunnel(self.registry, Limits(), lambda *said: self.told.append(said))
        self.client, self.server = Wire(), Wire()

    def join(self) -> None:
        self.tunnel.client.adopt(self.client.transport)
        self.tunnel.server.connection_made(self.server.transport)


@pytest.fixture
async def joined() -> Joined:
    made = Joined()
    made.registry.stop()
    return made


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_byte_on_either_side_is_a_sign_of_life(joined: Joined, side: str) -> None:
    joined.join()
    tunnel = joined.tunnel
    getattr(tunnel, side).data_received(b"x")
    tunnel._since = tunnel.deadline = -Limits().tunnel_idle
    tunnel.expire()
    assert not joined.client.aborted
    assert tunnel.deadline > asyncio.get_running_loop().time()
    tunnel._since = -Limits().tunnel_idle
    tunnel.expire()
    assert (joined.client.aborted, joined.server.aborted, tunnel.reason) == (True, True, "idle")


async def test_a_client_that_comes_after_its_server_has_gone_is_reset(joined: Joined) -> None:
    joined.tunnel.failed("connect-failed")
    joined.tunnel.client.adopt(joined.client.transport)
    assert joined.client.aborted


@pytest.mark.parametrize("ended", [False, True], ids=["open", "half-closed"])
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["without error", "error"])
async def test_a_break_is_never_taken_for_an_end(
    joined: Joined, ended: bool, error: Exception | None
) -> None:
    """Only what is lost without an error after half of it was closed was closed in order."""
    joined.join()
    if ended:
        joined.tunnel.client.eof_received()
        assert joined.server.ended
    joined.tunnel.server.connection_lost(error)
    orderly = ended and error is None
    assert (joined.client.aborted, joined.client.closing) == (not orderly, True)
    joined.tunnel.client.connection_lost(None)
    assert joined.told == [(0, 0, "" if orderly else "aborted")]
    assert len(joined.registry) == 0


async def test_a_side_that_has_ended_is_not_read_again(joined: Joined) -> None:
    joined.join()
    joined.tunnel.server.pause_writing()
    joined.tunnel.client.eof_received()
    joined.tunnel.server.resume_writing()
    assert not joined.client.reading


async def test_what_a_drain_cuts_off_is_counted_as_that(net: Mesh) -> None:
    async def holds(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        await reader.read()

    web, _ = await two_hops(net, holds, protocol=Protocol.TCP)
    client = await connected(net, web.outbound)
    assert await client.read(2) == b"hi"
    await web.running.drain(0.0)
    await until(lambda: 'reason="drained"} 1' in web.telemetry.render().decode())


async def connected(net: Mesh, address: tuple[str, int]) -> Client:
    client = await net.client(address)
    client.send(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
    assert (await client.receive(head_only=True)).status == 200
    return client


class Undecided(Sides):
    """What a sniffer made of its connection."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bytes]] = []

    def call(self, heard: Callable[[bool], None]) -> Tunnel | None:
        return None

    def request(self, transport: asyncio.Transport, data: bytes) -> None:
        self.found.append(("request", data))

    def opaque(self, transport: asyncio.Transport, data: bytes, tunnel: Tunnel | None, greeted: bool) -> None:
        self.found.append(("opaque", data))


async def test_a_client_cannot_draw_out_its_first_line() -> None:
    """One letter at a time does not give it more time than it has for all of them."""
    sides = Undecided()
    sniffer = Sniffer(60.0, 60.0, sides)
    sniffer.adopt(Wire().transport)
    sniffer.data_received(b"G")
    until_then = sniffer._timer
    assert until_then is not None
    sniffer.data_received(b"E")
    assert sniffer._timer is until_then
    assert not until_then.cancelled()
    sniffer._give_up()
    assert [kind for kind, _ in sides.found] == ["opaque"]
    assert until_then.cancelled()
