"""Thousands that come at once, with nothing in the pool, must not keep each other from getting through."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from dataplane.core.outcome import Outcome
from dataplane.serve.connecting import ConnectFailed, Line
from dataplane.tasks import Tasks
from smi.policy.snapshot import Protocol
from tests.dataplane.serve.http import Echo, get
from tests.dataplane.serve.mesh import API, QUICK, Mesh, next_address, two_hops
from tests.dataplane.waiting import until


class Doors:
    """Connections that are made when the test says so."""

    def __init__(self) -> None:
        self.knocks: list[asyncio.Future[str]] = []

    async def connect(self) -> str:
        knock: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.knocks.append(knock)
        return await knock


async def begun(line: Line[str], doors: Doors, count: int) -> list[asyncio.Task[str]]:
    tasks = Tasks()
    started = [tasks.start("get", line.get(doors.connect)) for _ in range(count)]
    await asyncio.sleep(0)
    return started


def failure(task: asyncio.Task[str]) -> Outcome:
    error = task.exception()
    assert isinstance(error, ConnectFailed)
    return error.outcome


async def test_only_so_many_are_made_at_a_time_and_the_others_follow_in_turn() -> None:
    line: Line[str] = Line(2, 60.0)
    doors = Doors()
    tasks = await begun(line, doors, 4)
    assert (len(doors.knocks), line.waiting) == (2, True)
    doors.knocks[1].set_result("b")
    await until(lambda: len(doors.knocks) == 3)
    doors.knocks[0].set_result("a")
    doors.knocks[2].set_result("c")
    await until(lambda: len(doors.knocks) == 4)
    doors.knocks[3].set_result("d")
    assert await asyncio.gather(*tasks) == ["a", "b", "c", "d"]
    assert line.empty


async def test_what_comes_back_goes_to_who_has_waited_longest() -> None:
    line: Line[str] = Line(1, 60.0)
    doors = Doors()
    tasks = await begun(line, doors, 3)
    assert line.give("used")
    assert await tasks[1] == "used"
    doors.knocks[0].set_result("new")
    await until(lambda: len(doors.knocks) == 2)
    assert not line.give("nobody waits")
    doors.knocks[1].set_result("last")
    assert await asyncio.gather(*tasks) == ["new", "used", "last"]


async def test_those_behind_fail_with_who_found_nobody() -> None:
    line: Line[str] = Line(1, 60.0)
    doors = Doors()
    tasks = await begun(line, doors, 3)
    doors.knocks[0].set_exception(ConnectFailed(Outcome.WRONG_PEER, "somebody else"))
    await asyncio.wait(tasks)
    assert [failure(task) for task in tasks] == [Outcome.WRONG_PEER] * 3
    assert line.empty
    assert len(doors.knocks) == 1


async def test_one_failure_among_others_that_get_through_is_its_own() -> None:
    line: Line[str] = Line(2, 60.0)
    doors = Doors()
    tasks = await begun(line, doors, 4)
    doors.knocks[1].set_result("b")
    await until(lambda: len(doors.knocks) == 3)
    doors.knocks[0].set_exception(ConnectFailed(Outcome.CONNECT_TIMEOUT, "lost"))
    await until(lambda: len(doors.knocks) == 4)
    for knock in doors.knocks[2:]:
        knock.set_result("later")
    assert await asyncio.gather(*tasks[1:]) == ["b", "later", "later"]
    assert failure(tasks[0]) is Outcome.CONNECT_TIMEOUT


async def test_a_wait_has_an_end() -> None:
    line: Line[str] = Line(1, 0.01)
    doors = Doors()
    first, second = await begun(line, doors, 2)
    await asyncio.wait([second])
    assert failure(second) is Outcome.CONNECT_TIMEOUT
    doors.knocks[0].set_result("late")
    assert await first == "late"
    assert line.empty


async def test_who_is_cancelled_gives_its_turn_away() -> None:
    line: Line[str] = Line(1, 60.0)
    doors = Doors()
    tasks = await begun(line, doors, 4)
    tasks[1].cancel()
    doors.knocks[0].set_result("a")
    await asyncio.sleep(0)  # the third has been given its turn, and does not know yet
    tasks[2].cancel()
    await until(lambda: len(doors.knocks) == 2)
    doors.knocks[1].set_result("d")
    assert await tasks[3] == "d"
    assert line.empty


@pytest.mark.parametrize("connecting", [1, 3])
async def test_a_storm_needs_few_connections(net: Mesh, connecting: int) -> None:
    net.limits = replace(QUICK, connecting=connecting)
    web, api = await two_hops(net, Echo())
    clients = [await net.client(web.outbound) for _ in range(60)]
    answers = await asyncio.gather(*(client.ask(get(API)) for client in clients))
    assert Counter(answer.status for answer in answers) == {200: 60}
    for lanes in (web.running._peers._lanes, api.running._app._lanes):
        [lane] = lanes.values()
        assert 1 <= lane.opened < 60
    assert all(load.active == 0 for load in web.loads())


async def test_a_storm_of_opaque_connections(net: Mesh) -> None:
    net.limits = replace(QUICK, connecting=2)
    clients = 20
    at_once: set[object] = set()
    most = 0

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        at_once.add(reader)
        most = max(most, len(at_once))
        writer.write(await reader.readexactly(2))
        await reader.read()

    web, _ = await two_hops(net, echo, protocol=Protocol.TCP)
    made = [await net.client(web.outbound) for _ in range(clients)]
    for client in made:
        client.send(f"CONNECT {API} HTTP/1.1\r\nHost: {API}\r\n\r\nhi".encode())
    for client in made:
        assert (await client.receive(head_only=True)).status == 200
        assert await client.read(2) == b"hi"
    assert most == clients
    assert not web.running._peers._lines


async def test_a_silent_endpoint_does_not_make_its_callers_wait_in_turn(net: Mesh) -> None:
    """Each attempt takes `connect`; those in line do not wait for one after the other."""

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    net.limits = replace(QUICK, connect=0.2, connecting=1, hold=0.0)
    web, _ = await two_hops(net, Echo())
    [endpoint] = web.state.cluster("shop/api:8080")
    other = next_address()
    await net.serve(other, silent, net.mesh_port)
    web.reach(API, [replace(endpoint, ip=other)])
    clients = [await net.client(web.outbound) for _ in range(20)]
    answers = await asyncio.wait_for(asyncio.gather(*(client.ask(get(API)) for client in clients)), 10)
    assert {(answer.status, answer.get("x-smi-mesh-reason")) for answer in answers} == {
        (504, "connect-timeout")
    }
    assert not web.running._peers._lanes[replace(endpoint, ip=other)].opened
