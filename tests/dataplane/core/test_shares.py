"""Max-min fairness: who stays within the share loses nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.shares import cost, keep, share

QUEUES = st.lists(st.tuples(st.integers(0, 4), st.binary(min_size=1, max_size=30)), max_size=60)


@given(st.lists(st.integers(0, 1000)), st.integers(0, 3000))
def test_the_share_fills_the_room(sizes: list[int], room: int) -> None:
    each = share(sizes, room)
    taken = sum(min(size, each) for size in sizes)
    assert taken <= room
    assert taken == sum(sizes) or taken > room - len(sizes)  # but for what does not divide


@given(QUEUES, st.integers(0, 5000))
def test_what_is_kept(queue: list[tuple[int, bytes]], room: int) -> None:
    kept = keep(queue, room)
    sizes = {flow: sum(cost(frame) for key, frame in queue if key == flow) for flow, _ in queue}
    each = share(sizes.values(), room)
    for flow, size in sizes.items():
        mine = [frame for key, frame in queue if key == flow]
        left = [frame for key, frame in kept if key == flow]
        assert left == mine[len(mine) - len(left) :]  # the newest, in order
        if size <= each:
            assert left == mine
    assert kept[-1:] == queue[-1:]
    newest = cost(queue[-1][1]) if queue else 0
    assert sum(cost(frame) for _, frame in kept) <= max(room, newest) + newest
