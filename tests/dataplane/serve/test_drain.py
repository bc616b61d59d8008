"""The end of a proxy: what is under way is finished, nothing new begins."""

from __future__ import annotations

import asyncio

import pytest

from tests.dataplane.serve.http import Client, Echo, Message, get, plain
from tests.dataplane.serve.mesh import API, Mesh, two_hops
from tests.dataplane.waiting import until


async def test_request_under_way_is_finished_and_idle_connections_close(net: Mesh) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(message: Message) -> bytes:
        if "slow" in message.start:
            asked.set()
            await release.wait()
        return plain("done")

    web, _ = await two_hops(net, Echo(answer=answer))
    idle, busy = await net.client(web.outbound), await net.client(web.outbound)
    assert (await idle.ask(get(API))).status == 200
    busy.send(get(API, "/slow"))
    await asked.wait()
    draining = asyncio.get_running_loop().create_task(web.running.drain(5.0))
    assert await idle.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(web.outbound)
    release.set()
    answer_ = await busy.receive()
    assert (answer_.body, answer_.get("connection")) == (b"done", "close")
    assert await busy.closed() == b""
    await asyncio.wait_for(draining, 1.0)


async def test_deadline_ends_what_does_not_end_itself(net: Mesh) -> None:
    async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await asyncio.Event().wait()

    web, _ = await two_hops(net, never)
    client = await net.client(web.outbound)
    client.send(get(API))
    await until(lambda: web.running.connections == 1)
    await asyncio.wait_for(web.running.drain(0.1), 2.0)
    assert web.running.connections == 0
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await client.receive()


async def test_draining_an_app_loses_no_request_of_its_callers(net: Mesh) -> None:
    """One of two pods goes while requests flow; its endpoint is still known for a while."""
    web, one = await two_hops(net, Echo("one"))
    other = await net.pod("api")
    port = await net.serve(other.ip, Echo("other"))
    other.admit(net.anything())
    web.reach(API, [*web.state.cluster("shop/api:8080"), other.endpoint(port)])
    client = await net.client(web.outbound)
    found = []
    for number in range(60):
        if number == 20:
            await one.running.drain(1.0)
        answer = await client.ask(get(API, "/", "Content-Length: 2", method="PUT") + b"hi")
        found.append((answer.status, answer.body))
    assert {status for status, _ in found} == {200}
    assert {body for _, body in found[21:]} == {b"other"}


async def test_nothing_is_left_behind(net: Mesh) -> None:
    web, api = await two_hops(net, Echo())
    client = await net.client(web.outbound)
    assert (await client.ask(get(API))).status == 200
    client.close()
    await until(lambda: web.running.connections == 0)
    for pod in (web, api):
        await pod.running.drain(1.0)
        assert pod.running.connections == 0
        assert len(pod.running._serving.tasks) == 0
