"""Taps of several workers come together as one: one rate, one answer, and none that outlives its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dataplane.tap import MAX_TAPS
from dataplane.workers.taps import Relay


class Bench:
    """A Relay, what it tells workers and what it says to the controller; `now` is its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.said: list[dict[str, Any]] = []
        self.relay = Relay(lambda kind, fields: self.told.append((kind, fields)), self._say, lambda: self.now)

    def _say(self, **message: Any) -> None:
        self.said.append(message)

    def order(self, name: str = "t", *, seconds: float = 60, rate: int = 10) -> None:
        self.relay.start(
            {"type": "tap", "id": name, "filter": {"method": "GET"}, "seconds": seconds, "rate": rate}
        )

    def seen(self, number: int, name: str = "t", dropped: int = 0) -> None:
        self.relay.seen({"type": "tapped", "id": name, "requests": [{}] * number, "dropped": dropped})


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_workers_get_the_order_as_it_came(bench: Bench) -> None:
    bench.order()
    fields = {"id": "t", "filter": {"method": "GET"}, "seconds": 60, "rate": 10}
    assert bench.told == [("tap", fields)]
    bench.relay.stop({"id": "t"})
    assert bench.told[1:] == [("untap", {"id": "t"})]


def test_the_rate_is_that_of_all_together(bench: Bench) -> None:
    bench.order(rate=10)
    for number in (7, 7, 1):
        bench.seen(number)
    assert [(len(one["requests"]), one["dropped"]) for one in bench.said] == [(7, 0), (3, 4), (0, 1)]
    bench.now += 1
    bench.seen(5, dropped=2)
    assert (len(bench.said[-1]["requests"]), bench.said[-1]["dropped"]) == (5, 2)


def test_too_many_are_refused_once_until_others_end(bench: Bench) -> None:
    for number in range(MAX_TAPS + 1):
        bench.order(f"t{number}")
    assert bench.said == [
        {"type": "tapped", "id": f"t{MAX_TAPS}", "requests": [], "dropped": 0, "error": "too many taps"}
    ]
    assert len(bench.told) == MAX_TAPS
    bench.order("t0")  # begun anew, not one more
    bench.now += 61
    bench.order("late")
    assert len(bench.said) == 1


def test_a_new_worker_is_told_what_time_is_left(bench: Bench) -> None:
    bench.order("short", seconds=5)
    bench.order("long", seconds=60)
    bench.now += 10
    assert [(one["id"], one["seconds"]) for one in bench.relay.running()] == [("long", 50)]


def test_what_comes_after_the_end_is_dropped(bench: Bench) -> None:
    bench.order()
    bench.relay.clear()
    bench.seen(3)
    bench.relay.start({"id": "t", "seconds": "soon", "rate": 1})  # not understood
    assert bench.said == []
    assert [kind for kind, _ in bench.told] == ["tap", "untap"]
