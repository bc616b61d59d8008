"""What UDP flows cost and what they are counted by: room, time, and load, given back in the end."""

from __future__ import annotations

from dataclasses import replace

from dataplane.serve import datagrams
from smi.policy.snapshot import Backend, Split
from tests.dataplane.serve.mesh import QUICK, Mesh
from tests.dataplane.serve.udp import CLOCK, Pair, dropped, grant, listen, reach
from tests.dataplane.waiting import until


async def begun(net: Mesh) -> Pair:
    pair = Pair(net)
    await pair.begin()
    pair.clock.admit(grant(pair.port))
    return pair


async def test_a_flow_that_is_over_makes_room_for_another_of_its_peer(net: Mesh) -> None:
    """Whether its caller ended it or it was idle."""
    net.limits = replace(QUICK, udp_flows_per_peer=2)
    pair = await begun(net)
    mine, theirs = pair.caller.udp._flows, pair.clock.running.udp.inbound.flows
    for round_ in range(3):
        for number in (1, 2):
            pair.caller.send(b"x", 10 * round_ + number)
        await pair.caller.answers(2 * round_ + 2)
        mine.idle = 0.0
        if round_ > 0:
            theirs.idle = 0.0
        await until(lambda: len(mine) + len(theirs) == 0)
        mine.idle = theirs.idle = 30.0
    assert dropped(pair.clock) == {}
    for number in (91, 92, 93):
        pair.caller.send(b"x", number)
    await until(lambda: dropped(pair.clock) == {("inbound", datagrams.FLOW_TABLE_FULL): 1})


async def test_datagrams_of_either_direction_keep_a_flow(net: Mesh) -> None:
    pair = await begun(net)
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    [there] = pair.clock.running.udp.inbound.flows
    [here] = pair.caller.udp._flows
    pair.caller.udp._flows.idle = pair.clock.running.udp.inbound.flows.idle = 1e12
    here.used = there.used = -1.0
    pair.server.transport.sendto(b"news", pair.server.seen[0][1])
    await pair.caller.answers(2)
    assert min(here.used, there.used) > 0
    here.used = there.used = -1.0
    pair.server.transport.close()  # so that nothing comes back
    pair.caller.send(b"two")
    await until(lambda: min(here.used, there.used) > 0)


async def test_a_carrier_without_flows_is_closed_and_one_with_flows_is_not(net: Mesh) -> None:
    """At the destination, however long they have been quiet: their own idle time is longer, perhaps."""
    pair = await begun(net)
    pair.caller.send(b"one")
    await pair.caller.answers(1)
    [caller] = pair.clock.running.udp.inbound._callers
    caller.rest(1e12, 1.0)
    pair.server.transport.sendto(b"news", pair.server.seen[0][1])
    assert await pair.caller.answers(2) == [b"clock one", b"news"]


async def test_a_flow_weighs_on_its_endpoint_until_it_ends(net: Mesh) -> None:
    pair = await begun(net)
    for number in range(3):
        pair.caller.send(b"x", number)
    await pair.caller.answers(3)
    assert [load.active for load in pair.caller.pod.loads()] == [3]
    pair.caller.udp._flows.idle = 0.0
    await until(lambda: [load.active for load in pair.caller.pod.loads()] == [0])


async def test_a_flow_leaves_a_backend_that_may_have_no_more_of_it(net: Mesh) -> None:
    """Taken out of the split, although its pods are there."""
    pair = await begun(net)
    other = await net.pod("other")
    port, _ = await listen(net, other.ip, "other")
    other.admit(grant(port))
    web, clock = pair.caller.pod, pair.clock.endpoint(pair.port)

    def only(name: str) -> tuple[Split, ...]:
        backend = Backend(f"shop/{name}", 1, f"udp:shop/{name}:5300")
        return (Split("shop/split", None, (backend,)),)

    both = {"clock": (clock,), "one": (clock,), "two": (other.endpoint(port),)}
    reach(web, only("one"), **both)
    pair.caller.send(b"a")
    await pair.caller.answers(1)
    reach(web, only("two"), **both)
    pair.caller.send(b"b")
    assert await pair.caller.answers(2) == [b"clock a", b"other b"]


async def test_a_rotation_retires_the_carrier_behind_its_last_flow(net: Mesh) -> None:
    pair = await begun(net)
    pair.caller.send(b"one", 1)
    await pair.caller.answers(1)
    pair.caller.pod.contexts.rotate()
    pair.caller.send(b"two", 2)
    await pair.caller.answers(2)
    assert len(pair.caller.udp._open) == 2
    flows = pair.caller.udp._flows
    [old] = [flow for flow in flows if flow.client == ("10.0.0.1", 40001)]
    old.used = -1e9
    await until(lambda: len(pair.caller.udp._open) == 1)  # pool_idle is a minute
    assert len(flows) == 1


async def test_an_endpoint_that_took_no_carrier_is_avoided(net: Mesh) -> None:
    net.limits = replace(QUICK, suspect=30.0)
    pair = await begun(net)
    gone = await net.pod("gone")
    reach(pair.caller.pod, clock=(gone.endpoint(1),))
    await gone.running.drain(0.0)
    pair.caller.send(b"one")
    await until(lambda: dropped(pair.caller.pod) == {("outbound", "connect-failed"): 1})
    assert [load.suspect for load in pair.caller.pod.loads()] == [True]


async def test_flow_numbers_in_use_are_not_given_again(net: Mesh) -> None:
    pair = await begun(net)
    pair.caller.send(b"one", 1)
    await pair.caller.answers(1)
    [link] = pair.caller.udp._links.values()
    link._last = 0  # the numbers have come round
    pair.caller.send(b"two", 2)
    await pair.caller.answers(2)
    assert sorted((to[1], payload) for source, to, payload in pair.caller.back if source == CLOCK) == [
        (40001, b"clock one"),
        (40002, b"clock two"),
    ]
    assert len(link._flows) == 2
