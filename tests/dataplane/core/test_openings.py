"""What is remembered of who spoke first: for a while, and for so many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.openings import First, Openings


def test_learned_and_forgotten() -> None:
    openings = Openings(10, 60.0)
    assert openings.recall("db", 0.0) is None
    openings.learn("db", First.SERVER, 0.0)
    openings.learn("web", First.REQUEST, 0.0)
    assert (openings.recall("db", 60.0), openings.recall("web", 1.0)) == (First.SERVER, First.REQUEST)
    assert openings.recall("db", 60.1) is None
    openings.forget("web")
    openings.forget("web")
    assert (openings.recall("web", 1.0), len(openings)) == (None, 0)


def test_learning_again_begins_anew() -> None:
    openings = Openings(10, 60.0)
    openings.learn("db", First.SERVER, 0.0)
    openings.learn("db", First.REQUEST, 50.0)
    assert openings.recall("db", 100.0) is First.REQUEST


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(First)), max_size=60), st.integers(1, 5))
def test_the_latest_are_kept(learned: list[tuple[int, First]], limit: int) -> None:
    openings = Openings(limit, 60.0)
    for at, (key, first) in enumerate(learned):
        openings.learn(key, first, at / 100)
    latest = dict(learned)
    order = list(dict.fromkeys(key for key, _ in reversed(learned)))
    assert len(openings) == min(limit, len(latest))
    for place, key in enumerate(order):
        assert openings.recall(key, 1.0) is (latest[key] if place < limit else None)
