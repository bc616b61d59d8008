"""The config in force: asked for on first use, replaced whole, given up when idle."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import state as state_module
from dataplane.state import IDLE_SWEEPS, NotKnown, State, Target
from smi.policy.access import Denial, Peer, Permit, admit_tcp
from smi.policy.codec import CodecError, encode_breaker, encode_inbound
from smi.policy.snapshot import PASSTHROUGH, CircuitBreaker, Grant, Inbound, RouteMatch
from tests.dataplane.config import WEB, cluster, destination, inbound, update
from tests.dataplane.waiting import until

API = "10.96.0.5:8080"
Asked = list[tuple[tuple[str, ...], tuple[str, ...]]]


def configured(phase: int = 0) -> tuple[State, Asked]:
    """A state with an inbound policy at revision 1, and what it asks for."""
    state, asked = State(phase), []
    state.on_subscriptions(lambda added, removed: asked.append((added, removed)))
    state.apply(update(1, {"inbound": inbound()}, full=True))
    return state, asked


async def known(state: State, key: str, revision: int, resources: dict[str, object]) -> Target:
    """`require` the key and answer with these resources."""
    waiting = asyncio.gather(state.require(key))
    await until(lambda: key in state._answers)
    state.apply(update(revision, resources))
    (target,) = await waiting
    return target


async def test_before_the_first_config_there_is_no_policy() -> None:
    state = State(0)
    assert (state.inbound, state.revision) == (None, 0)
    waiting = asyncio.gather(state.wait_configured(), state.wait_configured())
    await asyncio.sleep(0)
    state.apply(update(4, {"inbound": inbound()}, full=True))
    await waiting
    assert state.revision == 4
    assert state.inbound is not None
    assert isinstance(admit_tcp(state.inbound, Peer(WEB, None), 80), Denial)
    state.apply(update(5, {"inbound": inbound("shop/t")}))
    assert isinstance(admit_tcp(state.inbound, Peer(WEB, None), 80), Permit)


async def test_a_destination_is_asked_for_once_and_answers_all_who_wait() -> None:
    state, asked = configured()
    assert state.lookup(API) is None
    waiting = asyncio.gather(*(state.require(API) for _ in range(5)))
    await until(lambda: asked)
    state.apply(
        update(1, {f"destination/{API}": destination("api"), "cluster/shop/api:8080": cluster("10.0.0.1")})
    )
    targets = await waiting
    assert asked == [((API,), ())]
    assert {id(target) for target in targets} == {id(state.lookup(API))}
    assert targets[0].destination.service == "shop/api"
    assert [endpoint.ip for endpoint in state.cluster("shop/api:8080")] == ["10.0.0.1"]
    assert state.cluster("shop/nobody:1") == ()
    assert await state.require(API) is targets[0]


async def test_circuit_breakers_come_and_go_with_the_config() -> None:
    state, _ = configured()
    wanted = encode_breaker(CircuitBreaker(max_requests=2))
    answer = {f"destination/{API}": destination("api"), "cluster/shop/api:8080": cluster("10.0.0.1")}
    await known(state, API, 1, {**answer, "breaker/shop/api:8080": wanted, "breaker/shop/b:1": wanted})
    assert state.breakers["shop/api:8080"] == CircuitBreaker(max_requests=2)
    assert state.describe()["resources"]["breaker/shop/b:1"] == wanted
    # a worker that asks for the destination is told of its breaker, too
    assert state.resources([API])["breaker/shop/api:8080"] == wanted
    assert "breaker/shop/b:1" not in state.resources([API])
    before = state.breakers
    state.apply(update(2, {"inbound": inbound()}))
    assert state.breakers is before
    with pytest.raises(CodecError, match="max_requests"):
        state.apply(update(3, {"breaker/shop/b:1": {"max_requests": -1}}))
    assert state.breakers is before
    state.apply({"revision": 3, "resources": {}, "removed": ["breaker/shop/b:1"]})
    assert set(state.breakers) == {"shop/api:8080"}
    state.apply(update(4, {"inbound": inbound()}, full=True))
    assert state.breakers == {}


async def test_an_unknown_address_is_a_pass_through() -> None:
    state, _ = configured()
    target = await known(state, "192.0.2.1:443", 1, {"destination/192.0.2.1:443": {}})
    assert target.destination == PASSTHROUGH


async def test_no_answer_in_time_is_said_and_a_late_one_serves_the_next() -> None:
    state, asked = configured()
    with pytest.raises(NotKnown, match=r"10\.96\.0\.5:8080"):
        await state.require(API, seconds=0.01)
    state.apply(update(2, {f"destination/{API}": destination("api")}))
    assert (await state.require(API)).key == API
    assert asked == [((API,), ())]


async def test_a_destination_that_was_taken_away_is_asked_for_again() -> None:
    state, asked = configured()
    await known(state, API, 1, {f"destination/{API}": destination("api")})
    state.apply(update(2, {}, removed=(f"destination/{API}",)))
    assert state.lookup(API) is None
    await known(state, API, 3, {f"destination/{API}": destination("api")})
    assert asked == [((API,), ()), ((API,), ())]


async def test_an_exchange_keeps_the_target_it_began_with() -> None:
    state, _ = configured()
    before = await known(state, API, 1, {f"destination/{API}": destination("api", {"v1": 1})})
    state.apply(update(2, {f"destination/{API}": destination("api", {"v2": 1})}))
    after = state.lookup(API)
    assert after is not None
    assert after is not before
    assert before.destination.splits[0].backends[0].service == "shop/v1"
    assert after.destination.splits[0].backends[0].service == "shop/v2"


@pytest.mark.parametrize(
    "bad",
    [
        {"revision": "9"},
        {"revision": True},
        {"revision": -1},
        {"full": "yes"},
        {"resources": []},
        {"removed": "x"},
        {"removed": [1]},
        {"resources": {"inbound": inbound("shop/t"), f"destination/{API}": {"port": "x"}}},
        {"resources": {"inbound": inbound("shop/t"), "cluster/shop/api:8080": 7}},
        {"resources": {f"destination/{API}": destination("other"), "inbound": None}},
        {"full": True, "resources": {"inbound": {}}},
    ],
)
async def test_a_bad_update_changes_nothing(bad: dict[str, object]) -> None:
    state, _ = configured()
    resources = {f"destination/{API}": destination("api"), "cluster/shop/api:8080": cluster("10.0.0.1")}
    target = await known(state, API, 3, resources)
    seen: list[int] = []
    state.on_update(lambda: seen.append(state.revision))
    before, policy = json.dumps(state.describe()), state.inbound
    with pytest.raises(CodecError):
        state.apply(update(9, {}) | bad)
    assert json.dumps(state.describe()) == before
    assert state.inbound is policy
    assert state.lookup(API) is target
    assert seen == []


async def test_a_full_update_replaces_everything() -> None:
    state, _ = configured()
    resources = {f"destination/{API}": destination("api"), "cluster/shop/api:8080": cluster("10.0.0.1")}
    await known(state, API, 1, resources)
    state.apply(
        update(2, {"inbound": inbound(), f"destination/{API}": destination("new")}, full=True),
    )
    target = state.lookup(API)
    assert target is not None
    assert target.destination.service == "shop/new"
    assert state.cluster("shop/api:8080") == ()


def test_a_full_update_in_several_lines_never_leaves_the_proxy_without_a_policy() -> None:
    state, _ = configured()
    policy = state.inbound
    state.apply(update(2, {"cluster/shop/api:8080": cluster("10.0.0.1")}, full=True))
    assert state.inbound is policy
    state.apply(update(2, {"inbound": inbound("shop/t")}))
    assert state.inbound is not policy
    assert state.cluster("shop/api:8080")


async def test_what_was_not_asked_for_and_what_is_not_known_is_ignored() -> None:
    state, _ = configured()
    state.apply(update(2, {"destination/1.2.3.4:5": destination("x"), "wasm/filter": {"a": 1}}))
    assert state.revision == 2
    assert state.lookup("1.2.3.4:5") is None


def test_observers_hear_of_changes_but_not_of_mere_revisions() -> None:
    state, _ = configured()
    seen: list[int] = []
    state.on_update(lambda: seen.append(state.revision))
    state.apply(update(2, {}))
    assert state.revision == 2
    state.apply(update(3, {"cluster/shop/api:8080": cluster()}))
    assert seen == [3]


async def test_an_idle_destination_is_given_up_and_a_used_one_is_not() -> None:
    state, asked = configured()
    used, touched, idle = "10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80"
    for key in (used, touched, idle):
        await known(state, key, 1, {f"destination/{key}": destination("x")})
    asked.clear()
    gone: list[str] = []
    for _ in range(IDLE_SWEEPS + 1):
        state.lookup(used)
        state.touch(touched)
        gone += state.sweep()
    assert gone == [idle]
    assert asked == [((), (idle,))]
    assert state.lookup(idle) is None
    assert state.lookup(touched) is not None
    assert sorted(state.subscriptions) == [used, touched]


async def test_giving_up_a_key_wakes_who_waits_for_it() -> None:
    state, _ = configured()
    waiting = asyncio.gather(state.require(API), return_exceptions=True)
    await until(lambda: API in state.subscriptions)
    for _ in range(IDLE_SWEEPS + 1):
        state.sweep()
    (outcome,) = await waiting
    assert isinstance(outcome, NotKnown)


async def test_the_number_of_destinations_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_SUBSCRIPTIONS", 3)
    state, asked = configured()
    for key in ("a:1", "b:1", "c:1"):
        await known(state, key, 1, {f"destination/{key}": {}})
    with pytest.raises(NotKnown, match="in use at once"):
        await state.require("d:1", 0.01)
    state.sweep()
    state.lookup("a:1")
    state.lookup("c:1")
    await known(state, "d:1", 1, {"destination/d:1": {}})
    assert sorted(state.subscriptions) == ["a:1", "c:1", "d:1"]
    assert asked[-2:] == [((), ("b:1",)), (("d:1",), ())]


@pytest.mark.parametrize("key", ["x" * 301, "a\nb:80", "exämple:80"])
async def test_what_cannot_be_a_destination_is_not_asked_for(key: str) -> None:
    state, asked = configured()
    with pytest.raises(NotKnown):
        await state.require(key)
    assert asked == []


def taken(target: Target, count: int) -> list[str | None]:
    (turns,) = target.turns.values()
    backends = [turns.next() for _ in range(count)]
    return [None if backend is None else backend.service for backend in backends]


async def two_backends(state: State, key: str = API) -> Target:
    resources = {
        f"destination/{key}": destination("api", {"v1": 3, "v2": 1}),
        "cluster/shop/v1:8080": cluster("10.0.0.1"),
        "cluster/shop/v2:8080": cluster("10.0.0.2"),
    }
    return await known(state, key, 1, resources)


async def test_turns_follow_the_weights_and_outlive_updates() -> None:
    state, _ = configured()
    taken_so_far = taken(await two_backends(state), 2)
    resources = {
        f"destination/{API}": destination("api", {"v1": 3, "v2": 1}),
        "cluster/shop/x:1": cluster("1.1.1.1"),
    }
    for revision in range(2, 30):
        state.apply(update(revision, resources))
        target = state.lookup(API)
        assert target is not None
        taken_so_far += taken(target, 1)
    assert Counter(taken_so_far[:28]) == {"shop/v1": 21, "shop/v2": 7}, "an update does not restart the turns"


async def test_two_keys_of_one_service_share_its_turns() -> None:
    state, _ = configured()
    by_address, by_name = await two_backends(state), await two_backends(state, "api:8080")
    both = [taken(by_address if number % 2 else by_name, 1)[0] for number in range(40)]
    assert Counter(both) == {"shop/v1": 30, "shop/v2": 10}


async def test_a_udp_port_of_the_same_number_has_its_own_turns() -> None:
    state, _ = configured()
    tcp = await two_backends(state)
    both = {**destination("api", {"v1": 3, "v2": 1}), "protocol": "udp"}
    udp = await known(state, "udp:10.96.0.5:8080", 1, {"destination/udp:10.96.0.5:8080": both})
    assert Counter(taken(tcp, 1) + taken(udp, 4) + taken(tcp, 3)) == {"shop/v1": 6, "shop/v2": 2}
    assert sorted({key[1] for key, _, _ in state.turns()}) == ["8080", "8080/udp"]


async def test_a_backend_without_ready_endpoints_is_skipped_and_counted() -> None:
    state, _ = configured()
    target = await two_backends(state)
    state.apply(update(2, {"cluster/shop/v1:8080": cluster()}))
    assert taken(target, 4) == ["shop/v2"] * 4
    state.apply(update(3, {}, removed=("cluster/shop/v2:8080",)))
    assert taken(target, 2) == [None, None]
    tallies = {backend.service: turns.tallies[backend.service] for _, backend, turns in state.turns()}
    assert (tallies["shop/v1"].picks, tallies["shop/v1"].skipped) == (0, 6)
    assert (tallies["shop/v2"].picks, tallies["shop/v2"].skipped) == (4, 2)


@given(st.integers(0, 2**31), st.lists(st.booleans(), min_size=1, max_size=40))
def test_flapping_endpoints_do_not_distort_the_shares(phase: int, flaps: list[bool]) -> None:
    """A third backend comes and goes; the picks while it is away keep their exact share (S14)."""
    state = State(phase)
    state.apply(update(1, {"inbound": inbound()}, full=True))
    state._idle[API] = 0  # as if it had been asked for: `require` needs a loop
    resources = {
        f"destination/{API}": destination("api", {"v1": 9, "v2": 1, "v3": 1}),
        "cluster/shop/v1:8080": cluster("10.0.0.1"),
        "cluster/shop/v2:8080": cluster("10.0.0.2"),
    }
    state.apply(update(1, resources))
    target = state.lookup(API)
    assert target is not None
    without: list[str | None] = []
    for up in flaps * 3:
        state.apply(update(2, {"cluster/shop/v3:8080": cluster("10.0.0.3") if up else cluster()}))
        picks = taken(target, 1)
        without += [] if up else picks
    assert abs(without.count("shop/v2") - len(without) / 10) <= 1


async def test_a_pattern_that_does_not_compile_is_reported_and_matches_nothing() -> None:
    state, _ = configured()
    bad = RouteMatch("shop/routes", "broken", "(", frozenset(), ())
    grant = Grant("shop/t", frozenset({WEB}), http=(bad,))
    state.apply(update(2, {"inbound": encode_inbound(Inbound("shop/web-1", WEB, grants=(grant,)))}))
    assert state.revision == 2
    assert len(state.quarantined()) == 1


async def test_describe_shows_what_is_in_force() -> None:
    state, _ = configured()
    resources = {
        f"destination/{API}": destination("api", {"v1": 1}),
        "cluster/shop/v1:8080": cluster("10.0.0.1"),
    }
    await known(state, API, 8, resources)
    shown = json.loads(json.dumps(state.describe()))
    assert shown["revision"] == 8
    assert shown["subscriptions"] == [API]
    assert shown["resources"] == resources | {"inbound": inbound()}
