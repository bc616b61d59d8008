"""Two random choices."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.balance import Ceiling, Load, pick


@dataclass(eq=False)
class Choice:
    load: Load = field(default_factory=Load)


def choices(*active: int) -> list[Choice]:
    made = [Choice() for _ in active]
    for choice, count in zip(made, active, strict=True):
        choice.load.active = count
    return made


def test_nothing_to_choose_from() -> None:
    assert pick([], random.random) is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers())
def test_never_the_busiest_alone(active: list[int], seed: int) -> None:
    made = choices(*active)
    found = pick(made, random.Random(seed).random)
    assert found in made
    if len(made) > 1 and active.count(max(active)) == 1:
        assert found is not made[active.index(max(active))]


@given(st.integers())
def test_load_spreads_evenly(seed: int) -> None:
    made = choices(0, 0, 0, 0)
    draw = random.Random(seed).random
    for _ in range(400):
        found = pick(made, draw)
        assert found is not None
        found.load.active += 1
    counts = [choice.load.active for choice in made]
    assert max(counts) - min(counts) <= 8


@given(st.integers())
def test_a_suspect_is_taken_only_when_there_is_nothing_better(seed: int) -> None:
    made = choices(0, 5, 7)
    draw = random.Random(seed).random
    made[0].load.suspect = True
    assert pick(made, draw) is not made[0]
    for choice in made:
        choice.load.suspect = True
    assert pick(made, draw) in made


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 8))
def test_a_ceiling_is_never_exceeded_and_never_in_the_way(moves: list[bool], limit: int) -> None:
    """True: one wants to begin; False: one ends."""
    active = counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return active

    ceiling = Ceiling(limit, count)
    for begins in moves:
        if not begins:
            active -= active > 0
            continue
        full = ceiling.full()
        assert full is (active >= limit)
        active += not full


def test_a_ceiling_far_away_is_hardly_looked_at() -> None:
    calls: list[int] = []

    def count() -> int:
        calls.append(1)
        return 0

    ceiling = Ceiling(1000, count)
    assert not any(ceiling.full() for _ in range(10_000))
    assert len(calls) == 10
