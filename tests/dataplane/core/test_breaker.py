"""Circuit breakers: what may be under way, who waits, what may be tried again, who is left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dataplane.core.breaker import Breaker, Breakers, Entry, Kind, Lease, Member, Waiting, shared, status_of
from dataplane.core.outbound import Plan, Router
from smi.policy.snapshot import CircuitBreaker, Endpoint, Outliers

KEY = "shop/api:8080"


class Kit:
    """A breaker with members, and what it deferred and told."""

    def __init__(self, settings: CircuitBreaker, members: int = 1) -> None:
        self.later: list[Callable[[], None]] = []
        self.told: list[tuple[str, float]] = []
        self.breaker = Breaker(
            KEY, settings, self.later.append, lambda member, seconds: self.told.append((member.name, seconds))
        )
        self.members = tuple(Member(self.breaker, f"shop/api-{n}") for n in range(members))
        self.breaker.members = self.members

    def run(self) -> None:
        """What was deferred happens."""
        while self.later:
            self.later.pop(0)()

    def begin(self, kind: Kind = Kind.REQUEST) -> Entry:
        entry = self.breaker.enter(kind)
        if entry is Entry.PASS:
            self.members[0].lease(kind).active += 1
        return entry

    def end(self, kind: Kind = Kind.REQUEST) -> None:
        self.members[0].lease(kind).active -= 1
        self.run()


def test_requests_over_the_threshold_are_refused_at_once() -> None:
    kit = Kit(CircuitBreaker(max_requests=2))
    assert [kit.begin(), kit.begin(Kind.STREAM), kit.begin()] == [Entry.PASS, Entry.PASS, Entry.REQUESTS]
    kit.end()
    assert kit.begin() is Entry.PASS
    assert kit.begin(Kind.OPAQUE) is Entry.PASS  # no request
    assert kit.breaker.rejected == {Entry.REQUESTS: 1}


def test_connections_are_those_of_http1_and_opaque_ones() -> None:
    kit = Kit(CircuitBreaker(max_connections=2, max_pending=0))
    assert [kit.begin(), kit.begin(Kind.OPAQUE)] == [Entry.PASS, Entry.PASS]
    assert kit.begin(Kind.STREAM) is Entry.PASS  # beside others on a connection that is there
    assert [kit.begin(), kit.begin(Kind.OPAQUE)] == [Entry.PENDING, Entry.CONNECTIONS]
    assert list(kit.breaker.levels()) == [(Entry.CONNECTIONS, 2, 2), (Entry.PENDING, 0, 0)]
    assert kit.members[0].active == 3


def test_who_waits_goes_first_in_first_out() -> None:
    kit = Kit(CircuitBreaker(max_connections=1, max_pending=2))
    lease = kit.members[0].lease(Kind.REQUEST)
    assert kit.begin() is Entry.PASS
    went: list[str] = []
    turns = {name: Waiting(lease, lambda name=name: went.append(name)) for name in "abc"}  # type: ignore[misc]  # default
    for name in "ab":
        assert kit.breaker.enter(Kind.REQUEST) is Entry.WAIT
        kit.breaker.wait(turns[name])
    assert kit.breaker.enter(Kind.REQUEST) is Entry.PENDING
    lease.active -= 1
    assert went == []
    assert kit.breaker.enter(Kind.REQUEST) is Entry.PENDING  # nobody overtakes
    kit.run()
    assert went == ["a"]
    kit.breaker.leave(turns["b"])
    kit.breaker.leave(turns["a"])  # harmless
    kit.breaker.wait(turns["c"])
    lease.active -= 1
    kit.run()
    assert (went, lease.active) == (["a", "c"], 1)


class Traffic(RuleBasedStateMachine):
    """Whatever comes and goes: no threshold is passed, and nobody waits while there is room."""

    def __init__(self) -> None:
        super().__init__()
        self.kit = Kit(CircuitBreaker(max_connections=2, max_pending=3, max_requests=4), members=2)
        self.under_way: list[Lease] = []
        self.queued: list[Waiting] = []

    def took(self, lease: Lease) -> None:
        lease.active += 1
        self.under_way.append(lease)

    @rule(kind=st.sampled_from(Kind), place=st.integers(0, 1))
    def come(self, kind: Kind, place: int) -> None:
        lease = self.kit.members[place].lease(kind)
        entry = self.kit.breaker.enter(kind)
        if entry is Entry.PASS:
            self.took(lease)
        elif entry is Entry.WAIT:

            def go() -> None:
                self.queued.remove(waiting)
                self.under_way.append(lease)

            waiting = Waiting(lease, go)
            self.queued.append(waiting)
            self.kit.breaker.wait(waiting)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), at_once=st.booleans())
    def go(self, data: st.DataObject, at_once: bool) -> None:
        self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1))).active -= 1
        if at_once:
            self.kit.run()

    @precondition(lambda self: self.queued)
    @rule()
    def give_up(self) -> None:
        self.kit.breaker.leave(self.queued.pop())

    @rule()
    def later(self) -> None:
        self.kit.run()

    @invariant()
    def holds(self) -> None:
        breaker = self.kit.breaker
        kinds = [lease.kind for lease in self.under_way]
        assert breaker.requests == sum(kind is not Kind.OPAQUE for kind in kinds) <= 4
        assert breaker.connections == sum(kind is not Kind.STREAM for kind in kinds) <= 2
        assert breaker.waiting == len(self.queued) <= 3
        assert sum(member.active for member in self.kit.members) == len(self.under_way)
        if self.queued and not self.kit.later:
            assert breaker.connections == 2 or breaker.requests == 4


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=50, stateful_step_count=40)


@pytest.mark.parametrize(
    ("settings", "requests", "allowed"),
    [
        (CircuitBreaker(max_requests=100), 10, 50),
        (CircuitBreaker(max_retries=2), 10, 2),
        (CircuitBreaker(max_retries=0), 10, 0),
        (CircuitBreaker(retry_percent=20), 40, 9),
        (CircuitBreaker(retry_percent=20), 1, 3),
        (CircuitBreaker(max_retries=2, retry_percent=50), 40, 2),
    ],
)
def test_retries_are_bounded(settings: CircuitBreaker, requests: int, allowed: int) -> None:
    """A percentage is of all that is under way, retries among it."""
    kit = Kit(settings)
    lease = kit.members[0].lease(Kind.REQUEST)
    lease.active += requests
    begun = 0
    while begun < 50 and lease.may_retry():
        lease.again().active += 1
        begun += 1
    assert begun == allowed
    assert kit.breaker.rejected.get(Entry.RETRIES, 0) == (1 if begun < 50 else 0)
    lease.again().active -= begun
    assert lease.may_retry() is (allowed > 0)


FIVE = Outliers(consecutive_errors=5, base_seconds=10.0, max_seconds=25.0, max_percent=50)


def test_an_endpoint_that_fails_in_a_row_is_left_out_for_a_while() -> None:
    kit = Kit(CircuitBreaker(outliers=FIVE), members=4)
    bad = kit.members[0]
    for status in (500, 503, 500, 500, 200, 500, 502, 504, 500):
        bad.ended(status, 0.0)
    assert not bad.suspect
    bad.ended(599, 0.0)
    assert bad.suspect
    assert kit.told == [("shop/api-0", 10.0)]
    kit.breaker.sweep(9.9)
    assert bad.suspect
    bad.suspect = False  # that a connection can be made again changes nothing
    assert bad.suspect
    kit.breaker.sweep(10.0)
    assert not bad.suspect


def test_who_fails_again_and_again_is_left_out_longer_and_is_forgiven_in_time() -> None:
    kit, now = Kit(CircuitBreaker(outliers=FIVE), members=4), 0.0
    bad = kit.members[0]
    for _ in range(3):
        for _ in range(5):
            bad.ended(500, now)
        now = bad.changes_at
        kit.breaker.sweep(now)
    assert [seconds for _, seconds in kit.told] == [10.0, 20.0, 25.0]
    for _ in range(3):
        now += 10.0
        kit.breaker.sweep(now)
    assert bad.ejections == 0


def test_gateway_errors_have_a_count_of_their_own() -> None:
    kit = Kit(CircuitBreaker(outliers=Outliers(consecutive_gateway_errors=2)), members=2)
    for status in (503, 500, 503, 500, 502):
        kit.members[0].ended(status, 0.0)
    assert not kit.members[0].ejected
    kit.members[0].ended(504, 0.0)
    assert kit.members[0].ejected


@pytest.mark.parametrize(("members", "percent", "out"), [(10, 30, 3), (4, 50, 2), (3, 10, 1), (1, 0, 1)])
def test_no_more_than_a_share_is_left_out_but_one_may_always_be(members: int, percent: int, out: int) -> None:
    kit = Kit(CircuitBreaker(outliers=Outliers(1, max_percent=percent)), members=members)
    for member in kit.members:
        member.ended(500, 0.0)
    assert kit.breaker.ejected == kit.breaker.ejections == out


@pytest.mark.parametrize(
    ("status", "grpc", "comes_to"), [(200, "", 200), (200, "0", 200), (200, "14", 503), (200, "5", 200)]
)
def test_a_grpc_status_tells_how_a_call_ended(status: int, grpc: str, comes_to: int) -> None:
    assert status_of(status, grpc) == comes_to


def test_processes_share_the_thresholds() -> None:
    settings = CircuitBreaker(10, 0, 3, 2, 20, FIVE)
    assert shared(settings, 1) is settings
    assert shared(settings, 4) == CircuitBreaker(2, 0, 1, 1, 20, FIVE)


# --- with the router ------------------------------------------------------------------------------


ENDPOINTS = tuple(Endpoint(f"10.1.0.{n}", 8080, f"shop/api-{n}") for n in range(4))


class Shop:
    """A router over one cluster."""

    def __init__(self) -> None:
        self.cluster = ENDPOINTS
        self.later: list[Callable[[], None]] = []
        self.breakers = Breakers(self.later.append, lambda _member, _seconds: None)
        self.router = Router(lambda _key: self.cluster, lambda: 0.0, self.breakers)

    def use(self, settings: CircuitBreaker | None) -> None:
        if self.breakers.use({} if settings is None else {KEY: settings}):
            self.router.forget()

    def plans(self) -> tuple[Plan, ...]:
        return self.router._prepared(KEY, "shop/api", "", "")


def test_without_a_breaker_there_is_no_guard() -> None:
    shop = Shop()
    shop.breakers.use({"shop/other:80": CircuitBreaker(1)})
    assert all(plan.guard is None for plan in shop.plans())


def test_new_endpoints_and_other_thresholds_leave_what_is_counted() -> None:
    shop = Shop()
    shop.use(CircuitBreaker(max_requests=1))
    first = shop.plans()[0].guard
    assert first is not None
    first.lease(Kind.REQUEST).active += 1
    shop.cluster = ENDPOINTS[:2]
    assert shop.plans()[0].guard is first
    breaker = shop.breakers.of(KEY)
    assert breaker is not None
    assert len(breaker.members) == 2
    assert breaker.enter(Kind.REQUEST) is Entry.REQUESTS
    shop.use(CircuitBreaker(max_requests=2))
    assert shop.plans()[0].guard is first
    assert breaker.enter(Kind.REQUEST) is Entry.PASS
    shop.use(None)
    assert shop.plans()[0].guard is None
    first.lease(Kind.REQUEST).active -= 1
    assert breaker.requests == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True), st.data())
def test_an_ejected_endpoint_is_not_chosen_while_there_is_another(
    out: list[int], data: st.DataObject
) -> None:
    shop = Shop()
    shop.router._draw = lambda: data.draw(st.floats(0, 1, exclude_max=True))
    shop.use(CircuitBreaker(outliers=Outliers(1, max_percent=100)))
    plans = shop.plans()
    for place in out:
        guard = plans[place].guard
        assert guard is not None
        guard.ended(503, 0.0)
    chosen = shop.router._endpoint(KEY, "shop/api", "")
    assert isinstance(chosen, Plan)
    assert chosen.endpoint not in {ENDPOINTS[place] for place in out}


def test_where_all_are_ejected_one_of_them_is_chosen_all_the_same() -> None:
    shop = Shop()
    shop.use(CircuitBreaker(outliers=Outliers(1, max_percent=100)))
    for plan in shop.plans():
        assert plan.guard is not None
        plan.guard.ended(503, 0.0)
    assert isinstance(shop.router._endpoint(KEY, "shop/api", ""), Plan)
