"""Peers of the mesh that mean harm with datagrams: broken frames, floods, carriers that nobody reads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from dataclasses import replace

import pytest

from dataplane.core.shares import OVERHEAD
from dataplane.serve.carrier import Carrier
from dataplane.serve.datagrams import BATCH
from dataplane.serve.limits import Limits
from dataplane.wire.authority import mesh_sni
from dataplane.wire.datagrams import MAX_PAYLOAD, encode, encode_end
from smi.policy.snapshot import Mtls
from tests.dataplane.serve.http import Client
from tests.dataplane.serve.mesh import QUICK, Mesh, Pod
from tests.dataplane.serve.udp import Pair, dropped, grant
from tests.dataplane.waiting import until


@pytest.fixture
async def pair(net: Mesh) -> Pair:
    made = Pair(net)
    await made.begin()
    made.clock.admit(grant(made.port))
    return made


async def carrier(pair: Pair, port: int = 0) -> Client:
    """A connection for datagrams of web's, in hands that are not its proxy's."""
    web, clock = pair.caller.pod, pair.clock
    return await pair.net.client(
        (clock.ip, clock.settings.mesh_port),
        ssl=web.contexts.client_udp_context,
        server_hostname=mesh_sni(port or pair.port),
    )


async def frames(client: Client, count: int) -> list[tuple[int, bytes]]:
    """What comes back: (flow, payload)."""
    found = []
    for _ in range(count):
        head = await client.read(7)
        found.append((int.from_bytes(head[:4], "big"), await client.read(int.from_bytes(head[4:6], "big"))))
    return found


def held(pod: Pod) -> tuple[int, int]:
    """Flows, and carriers, at the inbound side."""
    inbound = pod.running.udp.inbound
    return len(inbound), len(inbound._callers)


def refused(pod: Pod) -> int:
    counter = pod.telemetry.counter("smi_mesh_connections_refused_total", "", ("reason",))
    return int(counter.values.get(("peer",), 0))


@pytest.mark.parametrize(
    "bad",
    [
        (1).to_bytes(4, "big") + (MAX_PAYLOAD + 1).to_bytes(2, "big") + b"\0",
        (1).to_bytes(4, "big") + b"\xff\xff\0" + bytes(70_000),
        (1).to_bytes(4, "big") + b"\0\0\x02",
        (1).to_bytes(4, "big") + b"\0\x01\x01x",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 4096,
    ],
    ids=["too-long", "longest", "unknown-kind", "end-with-payload", "http", "ones"],
)
async def test_a_frame_that_is_none_ends_the_carrier(pair: Pair, bad: bytes) -> None:
    """What came before it has its answer, what is behind it is not believed, nothing is left."""
    client = await carrier(pair)
    client.send(encode(1, b"good"))
    assert await frames(client, 1) == [(1, b"clock good")]
    client.send(encode(2, b"fine") + bad + encode(3, b"never"))
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await frames(client, 3)
    await until(lambda: held(pair.clock) == (0, 0))
    assert dropped(pair.clock) == {("inbound", "bad-frame"): 1}
    await until(lambda: [payload for payload, _ in pair.server.seen] == [b"good", b"fine"])


@pytest.mark.parametrize("size", [1, 6, 7, 50])
async def test_a_frame_without_its_end_is_lost_with_its_carrier(pair: Pair, size: int) -> None:
    client = await carrier(pair)
    client.send(encode(1, b"whole") + encode(2, bytes(100))[:size])
    await frames(client, 1)
    client.close()
    await until(lambda: held(pair.clock) == (0, 0))
    assert dropped(pair.clock) == {("inbound", "connection-lost"): 1}
    assert [payload for payload, _ in pair.server.seen] == [b"whole"]


async def test_bytes_one_by_one(pair: Pair) -> None:
    client = await carrier(pair)
    for byte in encode(1, b"slow") + encode_end(1) + encode(1, b"again"):
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await frames(client, 2) == [(1, b"clock slow"), (1, b"clock again")]


async def test_a_flow_number_that_is_used_again_is_a_new_flow(pair: Pair) -> None:
    """Also with the end of flows that there never were, and of one twice."""
    client = await carrier(pair)
    client.send(encode_end(9) + encode(1, b"one") + encode_end(1) + encode_end(1) + encode(1, b"two"))
    await until(lambda: len(pair.server.seen) == 2)
    sources = dict(pair.server.seen)
    assert sources[b"one"] != sources[b"two"]
    assert (1, b"clock two") in await frames(client, 1)
    assert held(pair.clock) == (1, 1)


async def test_a_flood_of_flows_is_shared_out_and_others_have_theirs(net: Mesh) -> None:
    """One peer has its part, on however many carriers and ports; another gets in."""
    net.limits = replace(QUICK, udp_flows=64, udp_flows_per_peer=20)
    pair = Pair(net)
    await pair.begin()
    other = await net.pod("other")
    pair.clock.admit(grant(pair.port), grant(9), grant(pair.port, source="other"))
    many = b"".join(encode(number, b"x") for number in range(1, 40))
    for port in (0, 0, 9):
        (await carrier(pair, port)).send(many)
    await until(lambda: dropped(pair.clock).get(("inbound", "flow-table-full")) == 3 * 39 - 20)
    assert held(pair.clock)[0] == 20
    polite = await net.client(
        (pair.clock.ip, pair.clock.settings.mesh_port),
        ssl=other.contexts.client_udp_context,
        server_hostname=mesh_sni(pair.port),
    )
    polite.send(encode(1, b"please"))
    assert await frames(polite, 1) == [(1, b"clock please")]


async def test_flows_that_end_make_room(net: Mesh) -> None:
    net.limits = replace(QUICK, udp_flows_per_peer=2)
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port))
    client = await carrier(pair)
    for number in range(1, 20):
        client.send(encode(number, b"%d" % number))
        assert await frames(client, 1) == [(number, b"clock %d" % number)]
        if number > 1:
            client.send(encode_end(number - 1))
    client.reset()
    await until(lambda: held(pair.clock) == (0, 0))
    inbound = pair.clock.running.udp.inbound
    assert not inbound._held
    assert not inbound._carriers


async def test_callers_outside_the_mesh_share_a_part(net: Mesh) -> None:
    net.limits = replace(QUICK, udp_flows_per_peer=3)
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port), mtls=Mtls.PERMISSIVE)
    inbound = pair.clock.running.udp.inbound
    for number in range(5):
        inbound.received(("192.0.2.7", 5000 + number), (pair.clock.ip, pair.port + number % 2), b"x")
    assert dropped(pair.clock) == {("inbound", "flow-table-full"): 2}


async def test_carriers_of_one_peer_are_bounded(net: Mesh) -> None:
    net.limits = replace(QUICK, udp_carriers=3)
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port))
    clients = [await carrier(pair) for _ in range(3)]
    await until(lambda: held(pair.clock) == (0, 3))
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await (await carrier(pair)).read(1)
    assert refused(pair.clock) == 1
    clients[0].reset()
    await until(lambda: held(pair.clock) == (0, 2))
    again = await carrier(pair)
    again.send(encode(1, b"x"))
    assert await frames(again, 1) == [(1, b"clock x")]


async def test_a_carrier_that_is_not_read_is_bounded_and_given_up(net: Mesh) -> None:
    """Answers wait up to a bound, then the oldest go, counted; and it ends, though it asks for more."""
    net.limits = replace(QUICK, udp_unread=0.5, udp_queued=1 << 16)
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port))
    pair.caller.send(b"x")
    await pair.caller.answers(1)
    [link] = pair.caller.udp._open
    [caller] = pair.clock.running.udp.inbound._callers
    link.carrier._transport.pause_reading()  # type: ignore[union-attr]  # it is connected

    def ask() -> bool:
        assert caller.carrier._bytes <= (1 << 16) + MAX_PAYLOAD + OVERHEAD
        pair.server.seen.clear()
        if link in pair.caller.udp._open and not link.carrier._paused_since:
            pair.caller.send(bytes(60_000))
        return caller not in pair.clock.running.udp.inbound._callers

    await until(ask, 30.0)
    assert len(pair.clock.running.udp.inbound) == 0
    counts = dropped(pair.clock)
    assert counts["inbound", "queue-full"] > 0
    assert counts["inbound", "connection-lost"] > 0


class Turns:
    """A connection that takes notes."""

    def __init__(self) -> None:
        self.reading = True
        self.aborted = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def set_write_buffer_limits(self, _high: int) -> None:
        pass

    def get_extra_info(self, _name: str) -> None:
        return None


def held_up(on_frame: Callable[[object], None]) -> tuple[Carrier, Turns, list[tuple[str, int]]]:
    drops: list[tuple[str, int]] = []
    made = Carrier(Limits(), on_frame, lambda: None, lambda reason, count: drops.append((reason, count)))
    transport = Turns()
    made.connection_made(transport)  # type: ignore[arg-type]  # the part of one that is used
    return made, transport, drops


async def test_a_flood_in_one_piece_leaves_others_their_turn() -> None:
    seen: list[object] = []
    made, transport, drops = held_up(seen.append)
    count = 3 * BATCH + 5
    made.data_received(b"".join(encode(1, b"%d" % number) for number in range(count)) + b"\0")
    made.data_received(b"\0\0\2\0\1" + b"\0!")  # nothing is lost if more comes all the same
    assert (len(seen), transport.reading) == (BATCH, False)
    turns = 0
    while not transport.reading:
        before = len(seen)
        await asyncio.sleep(0)
        turns += 1
        assert len(seen) - before <= BATCH
    assert len(seen) == count + 1
    assert (turns, drops) == (3, [])


@pytest.mark.parametrize("behind", [b"", encode(1, b"x")[:3], b"\xff" * 20])
async def test_what_was_not_delivered_when_a_carrier_is_lost_is_counted(behind: bytes) -> None:
    """And is not delivered any more: its flows would have nobody to end them."""
    seen: list[object] = []
    made, _, drops = held_up(seen.append)
    made.data_received(encode(1, b"x") * (BATCH + 10) + encode_end(1) + behind)
    made.connection_lost(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(seen) == BATCH
    assert [drop for drop in drops if drop[1]] == [("connection-lost", 10 + (behind[:1] == b"\0"))]


async def test_memory_of_a_hostile_peer_is_bounded(net: Mesh) -> None:
    """Unfinished frames on as many carriers as it may have: one frame each is all that is held."""
    pair = Pair(net)
    await pair.begin()
    clients = [await carrier(pair) for _ in range(8)]
    for client in clients:
        client.send((1).to_bytes(4, "big") + MAX_PAYLOAD.to_bytes(2, "big") + b"\0" + bytes(MAX_PAYLOAD - 1))
    inbound = pair.clock.running.udp.inbound

    def rests() -> list[int]:
        return [len(caller.carrier._decoder._rest) for caller in inbound._callers]

    await until(lambda: rests() == [MAX_PAYLOAD + 6] * 8)
    for client in clients:
        client.reset()
    await until(lambda: held(pair.clock) == (0, 0))
    gc.collect()


async def test_a_hostile_server_cannot_speak_for_flows_that_are_not_there(pair: Pair) -> None:
    """Its frames for others are dropped and counted, and it cannot end one; a broken frame ends it."""
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    [caller] = pair.clock.running.udp.inbound._callers
    [link] = pair.caller.udp._open
    caller.carrier.send(77, b"forged")
    caller.carrier.end(1)
    await until(lambda: dropped(pair.caller.pod) == {("outbound", "unknown-flow"): 2})
    pair.caller.send(b"two")
    assert (await pair.caller.answers(2))[1] == b"clock two"
    caller.carrier._transport.write(b"\xff" * 7)  # type: ignore[union-attr]  # it is connected
    await until(lambda: link not in pair.caller.udp._open)
    assert dropped(pair.caller.pod)["outbound", "bad-frame"] == 1
    pair.caller.send(b"three")
    assert (await pair.caller.answers(3))[2] == b"clock three"
