"""Datagrams that wait: bounded each and in all, and who stays within the share loses nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dataplane.core.backlog import Backlog
from dataplane.core.shares import OVERHEAD

ROOM = 4 * (100 + OVERHEAD)
PUSHES = st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=100)), max_size=80)


@given(PUSHES)
def test_it_is_bounded_and_every_datagram_is_held_or_dropped(pushes: list[tuple[int, bytes]]) -> None:
    backlog: Backlog[int] = Backlog(3, 2 * (100 + OVERHEAD), ROOM)
    dropped = 0
    for flow, payload in pushes:
        dropped += backlog.push(flow, payload)
        assert backlog.size <= ROOM
    held = {flow: list(backlog.take(flow)) for flow in range(10)}
    assert backlog.size == 0
    assert sum(map(len, held.values())) + dropped == len(pushes)
    for flow, mine in held.items():
        all_mine = [payload for number, payload in pushes if number == flow]
        assert mine == all_mine[len(all_mine) - len(mine) :]  # the newest, in order
        assert len(mine) <= 3
        assert sum(len(payload) + OVERHEAD for payload in mine) <= 2 * (100 + OVERHEAD)
    if pushes:
        assert held[pushes[-1][0]][-1] == pushes[-1][1]


def test_a_flood_on_many_flows_leaves_a_small_one_whole() -> None:
    backlog: Backlog[int] = Backlog(64, ROOM, 2 * ROOM)
    small = [b"%d" % number for number in range(3)]
    for datagram in small:
        backlog.push(0, datagram)
        dropped = sum(backlog.push(flow, bytes(100)) for flow in (1, 2, 1, 2, 1, 2))
    assert dropped
    assert list(backlog.take(0)) == small


def test_large_datagrams_of_many_flows() -> None:
    """One of each would be too much."""
    backlog: Backlog[int] = Backlog(64, 1 << 17, 1 << 22)
    dropped = sum(backlog.push(flow, bytes(65_507)) for flow in range(4096))
    assert backlog.size <= 1 << 22
    assert dropped == 4096 - sum(len(backlog.take(flow)) for flow in range(4096)) > 4000


def test_empty_datagrams_are_not_free() -> None:
    backlog: Backlog[int] = Backlog(1 << 20, 1 << 20, 1 << 20)
    assert sum(backlog.push(1, b"") for _ in range(1 << 15)) >= (1 << 15) - (1 << 20) // OVERHEAD
