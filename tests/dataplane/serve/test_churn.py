"""Whatever happens to config, certificates and endpoints: nobody unallowed answers, nothing is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.dataplane.serve.http import Client, Echo, get, read_message
from tests.dataplane.serve.mesh import API, Mesh, match, routes, two_hops
from tests.dataplane.waiting import until


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_was_allowed_and_every_request_has_an_outcome(net: Mesh, seed: int) -> None:
    draw = random.Random(seed)
    web, one = await two_hops(net, Echo("one"))
    two = await net.pod("two")
    ports = {
        "one": web.state.cluster("shop/api:8080")[0].port,
        "two": await net.serve(two.ip, Echo("two")),
    }
    pods = {"one": one, "two": two}
    two.admit(net.anything())
    members, open_paths = {"one"}, {"one": True, "two": True}
    allowed: set[str] = {"one"}  # what some config allowed since the requests under way began

    def change() -> None:
        what = draw.choice(("members", "access", "certificate", "peer"))
        if what == "members":
            members.clear()
            members.update(draw.choice((("one",), ("two",), ("one", "two"), ())))
            web.reach(API, [pods[name].endpoint(ports[name]) for name in sorted(members)])
        elif what == "access":
            name = draw.choice(("one", "two"))
            open_paths[name] = not open_paths[name]
            pods[name].admit(net.anything() if open_paths[name] else routes(match("/never", "GET")))
        else:
            (web if what == "certificate" else draw.choice((one, two))).contexts.rotate()
        allowed.update(name for name in members if open_paths[name])

    asked = answered = 0

    async def ask(client: Client) -> None:
        nonlocal asked, answered
        asked += 1
        client.send(get(API))
        message = await read_message(client.reader)
        answered += 1
        assert message.status in (200, 403, 503), message.start
        if message.status == 200:
            assert message.body.decode() in allowed
        elif message.status == 403:
            assert message.get("x-smi-mesh-denial")
        else:
            assert message.get("x-smi-mesh-reason")

    clients = [await net.client(web.outbound) for _ in range(4)]
    async with asyncio.timeout(20):
        for _ in range(60):
            allowed.clear()
            allowed.update(name for name in members if open_paths[name])
            under_way = asyncio.gather(*(ask(client) for client in clients))
            for _ in range(draw.randrange(3)):
                change()
                await asyncio.sleep(0)
            await under_way
    assert asked == answered == 240
    await until(lambda: sum(web.count("outbound").values()) == asked)
    assert sum(load.active for load in web.loads()) == 0
