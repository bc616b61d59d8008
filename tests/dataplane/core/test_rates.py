"""Token buckets: what passes, in the long run and at once, and that nobody pays for another's calls."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.rates import SECOND, Bucket, Held, Rates, taken, wait
from smi.policy.match import Request
from smi.policy.snapshot import Limited, RateLimit, RouteMatch

WEB, OTHER = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/other"
GET = Request(b"GET", b"/items", b"api")


def limit(count: int = 2, seconds: int = 1, burst: int | None = None, **rest: object) -> RateLimit:
    known = RateLimit(
        "shop/api",
        f"{count}/{seconds}s",
        Limited.REQUESTS,
        frozenset({8080}),
        count,
        seconds,
        count if burst is None else burst,
    )
    return replace(known, **rest)  # type: ignore[arg-type]  # the caller's own fields


def passes(table: Rates, now: float, caller: str = WEB, port: int = 8080, request: Request = GET) -> bool:
    return table.request(port, caller, request, round(now * SECOND)) is None


calls = st.lists(st.tuples(st.integers(0, 3 * SECOND), st.sampled_from([WEB, OTHER])), max_size=60)
limits = st.builds(
    limit, count=st.integers(1, 20), seconds=st.sampled_from([1, 60]), burst=st.integers(1, 20)
)


@given(limits, calls, st.integers(1, 4))
def test_no_window_lets_more_through_than_burst_and_rate(
    one: RateLimit, gaps: list[tuple[int, str]], processes: int
) -> None:
    bucket, now, admitted = Bucket(one, processes), 0, []
    for gap, caller in gaps:
        now += gap
        if not bucket.wait(caller, now):
            bucket.take(caller, now)
            admitted.append(now)
    burst = max(1, one.burst // processes)
    for first, began in enumerate(admitted):
        for last in range(first, len(admitted)):
            window = admitted[last] - began
            # exactly: tokens at the window's begin, and those that came back in it
            assert last - first + 1 <= burst + window * one.count // (one.seconds * SECOND * processes)


@given(limits, calls)
def test_what_is_held_passes_after_just_the_time_that_was_said(
    one: RateLimit, gaps: list[tuple[int, str]]
) -> None:
    bucket, now = Bucket(one, 1), 0
    for gap, caller in gaps:
        now += gap
        held = bucket.wait(caller, now)
        if held:
            assert bucket.wait(caller, now + held - 1) == 1
            assert bucket.wait(caller, now + held) == 0
        else:
            bucket.take(caller, now)


@given(limits, calls, calls)
def test_a_client_with_a_bucket_of_its_own_pays_for_nobody_else(
    one: RateLimit, mine: list[tuple[int, str]], theirs: list[tuple[int, str]]
) -> None:
    def admitted(*sources: tuple[str, list[tuple[int, str]]]) -> list[int]:
        bucket, found = Bucket(replace(one, per_client=True), 1), []
        for at, caller in sorted((at, caller) for caller, calls in sources for at, _ in calls):
            if not bucket.wait(caller, at):
                bucket.take(caller, at)
                if caller == WEB:
                    found.append(at)
        return found

    assert admitted((WEB, mine)) == admitted((WEB, mine), (OTHER, theirs))


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**9), st.integers(1, 100))
def test_a_full_bucket_is_as_good_as_none(full_at: int, later: int, each: int, burst: int) -> None:
    now = full_at + later
    assert wait(full_at, now, each, burst) == 0
    assert taken(full_at, now, each) == taken(now, now, each)


@given(st.lists(limits, min_size=1, max_size=3), calls)
def test_a_refusal_costs_no_tokens(several: list[RateLimit], gaps: list[tuple[int, str]]) -> None:
    """Who is held by one limit has taken nothing of another: tokens go with requests that pass."""
    distinct = list({one.text: one for one in several}.values())
    together, apart, now = Rates(distinct), [Bucket(one, 1) for one in distinct], 0
    for gap, caller in gaps:
        now += gap
        waits = [bucket.wait(caller, now) for bucket in apart]
        held = together.request(8080, caller, GET, now)
        assert (held.nanoseconds if held else 0) == max(waits)
        if held is None:
            for bucket in apart:
                bucket.take(caller, now)


def test_a_rate_in_the_long_run() -> None:
    table = Rates([limit(10, 1, 5)])
    admitted = [n for n in range(1000) if passes(table, n / 100)]
    assert admitted[:5] == [0, 1, 2, 3, 4]
    assert len(admitted) == 5 + 99  # the burst, then ten a second for ten seconds
    assert {after - before for before, after in pairwise(admitted[5:])} == {10}


def test_what_a_limit_is_not_about() -> None:
    read = RouteMatch("shop/items", "read", "/items", frozenset({"GET"}), ())
    table = Rates(
        [
            limit(1, ports=frozenset({9090})),
            limit(1, source=OTHER),
            limit(1, matches=(read,)),
            limit(1, what=Limited.CONNECTIONS),
        ]
    )
    write = Request(b"POST", b"/items", b"api")
    assert all(passes(table, 0, request=write) for _ in range(5))
    assert [passes(table, 0) for _ in range(2)] == [True, False]
    assert [passes(table, 0, OTHER, request=write) for _ in range(2)] == [True, False]
    assert [table.connection(8080, WEB, 0) is None for _ in range(2)] == [True, False]
    assert [found.text for found in table.concerning(8080, WEB, GET)] == ["1/1s"]


@pytest.mark.parametrize(("nanoseconds", "seconds"), [(1, 1), (SECOND, 1), (SECOND + 1, 2)])
def test_retry_after_is_whole_seconds(nanoseconds: int, seconds: int) -> None:
    assert Held(limit(), nanoseconds).seconds == seconds


def test_processes_share_a_limit_but_each_lets_at_least_one_through() -> None:
    table = Rates([limit(10, 1, 8)], processes=4)
    assert [passes(table, 0) for _ in range(3)] == [True, True, False]
    assert [passes(table, 0.4), passes(table, 0.4)] == [True, False]
    assert passes(Rates([limit(1, 1, 1)], processes=4), 0)


def test_a_new_config_goes_on_with_the_buckets_of_limits_that_stay() -> None:
    table = Rates([limit(1), limit(1, source=OTHER)])
    assert passes(table, 0)
    changed = Rates([limit(1), limit(2, source=OTHER)], before=table)
    assert not passes(changed, 0)
    assert passes(Rates([limit(2)], before=table), 0)


def test_clients_beyond_those_that_can_be_told_apart_share_a_bucket() -> None:
    bucket, admitted = Bucket(limit(1, 1, per_client=True), 1, most=2), []
    for now, caller in [(0, "a"), (0, "b"), (0, "c"), (0, "d"), (5 * SECOND, "e")]:
        if not bucket.wait(caller, now):
            bucket.take(caller, now)
            admitted.append(caller)
    assert admitted == ["a", "b", "c", "e"]
    assert len(bucket) == 1  # all were full by then, so there was room again
