"""How long is waited for a Service none of whose endpoints can be reached."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.patience import Patience, pause


def test_an_outage_is_waited_for_once() -> None:
    patience, one = Patience(3.0), (object(),)
    assert patience.until("a", one, 100.0) == 103.0
    assert patience.until("a", one, 102.0) == 103.0
    assert patience.until("a", one, 110.0) == 103.0  # it lasts: who comes now does not wait
    assert patience.until("b", one, 110.0) == 113.0


def test_other_endpoints_are_another_outage() -> None:
    patience, one, other = Patience(3.0), (object(),), (object(),)
    assert patience.until("a", one, 100.0) == 103.0
    assert patience.until("a", other, 102.0) == 105.0


def test_a_long_time_without_a_failure_ends_an_outage() -> None:
    patience, one = Patience(3.0), (object(),)
    patience.until("a", one, 100.0)
    patience.until("a", one, 120.0)
    assert patience.until("a", one, 150.0) == 103.0
    assert patience.until("a", one, 180.1) == 183.1


def test_what_is_remembered_is_bounded() -> None:
    patience, one = Patience(3.0), (object(),)
    for number in range(10_000):
        patience.until(f"{number}", one, 100.0)
    assert len(patience._outages) <= 4096


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.floats(0, 5)), max_size=30))
def test_nobody_waits_longer_than_the_patience(failures: list[tuple[str, int, float]]) -> None:
    patience, now = Patience(3.0), 0.0
    endpoints = [(object(),), (object(),), (object(),)]
    for key, which, later in failures:
        now += later
        assert patience.until(key, endpoints[which], now) <= now + 3.0


def test_pauses_grow_and_stay_short() -> None:
    pauses = [pause(turn) for turn in range(100)]
    assert pauses == sorted(pauses)
    assert 0.0 < pauses[0] < pauses[-1] <= 0.5
