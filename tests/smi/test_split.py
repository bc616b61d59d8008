"""S7-S11, S14, R4: which split, which backend."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smi.policy.match import Request
from smi.policy.snapshot import Backend, Destination, Endpoint, RouteMatch, Split
from smi.policy.split import ROOT, Picker, Via, choose, compile_destination, eligible, takers
from tests.smi import strategies as s


def match(path: str | None = None, *headers: tuple[str, str], name: str = "m") -> RouteMatch:
    return RouteMatch("shop/g", name, path, frozenset(), headers)


def split(name: str, *matches: RouteMatch, catch_all: bool = False) -> Split:
    return Split(name, None if catch_all else matches, (Backend(f"shop/{name}", 1, f"shop/{name}:80"),))


def chosen(splits: list[Split], request: Request | None) -> str:
    picked = choose(compile_destination(Destination("shop/root", 80, splits=tuple(splits))), request)
    return picked.split.name if isinstance(picked, Via) else "root"


def get(path: bytes = b"/", *headers: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", path, b"api", headers)


def test_no_split_is_the_root() -> None:
    assert chosen([], get()) == "root"
    assert choose(compile_destination(Destination()), None) is ROOT


def test_s9_a_request_that_meets_no_match_goes_to_the_root() -> None:
    assert chosen([split("ab", match("/a"))], get(b"/b")) == "root"


def test_r3_an_empty_filter_matches_nothing() -> None:
    assert chosen([split("ab")], get()) == "root"
    assert chosen([split("ab"), split("all", catch_all=True)], get()) == "all"


def test_r4_what_filtered_splits_leave_goes_to_the_catch_all() -> None:
    splits = [split("ab", match("/a")), split("all", catch_all=True)]
    assert chosen(splits, get(b"/a")) == "ab"
    assert chosen(splits, get(b"/b")) == "all"


def test_r4_raw_tcp_meets_no_filtered_split() -> None:
    assert chosen([split("ab", match())], None) == "root"
    assert chosen([split("ab", match()), split("all", catch_all=True)], None) == "all"


def test_s11_more_header_filters_win_over_a_longer_path() -> None:
    splits = [split("path", match("/items/long")), split("header", match(None, ("x", "1")))]
    assert chosen(splits, get(b"/items/long", (b"x", b"1"))) == "header"
    assert chosen(splits, get(b"/items/long")) == "path"


def test_s11_then_the_longer_literal_path() -> None:
    splits = [split("short", match("/i.*")), split("long", match("/items/[0-9]+"))]
    assert chosen(splits, get(b"/items/7")) == "long"
    assert chosen(splits, get(b"/items/x")) == "short"


def test_r4_an_alternation_has_no_literal_path() -> None:
    splits = [split("alternation", match("/items/7|/items/8")), split("plain", match("/i"))]
    assert chosen(splits, get(b"/items/7")) == "plain"


def test_s11_then_the_older_split() -> None:
    assert chosen([split("older", match("/a")), split("newer", match("/a"))], get(b"/a")) == "older"


def test_r4_the_best_match_that_this_request_met_decides() -> None:
    # `a` has the strongest match of all, but this request meets only its weak one.
    splits = [split("a", match("/x", ("x", "1"), ("y", "2")), match("/it")), split("b", match("/items"))]
    assert chosen(splits, get(b"/items")) == "b"


@given(s.destinations, s.requests, st.randoms(use_true_random=False))
def test_s9_match_order_cannot_change_the_result(
    destination: Destination, request_: Request, random: object
) -> None:
    def shuffled(split_: Split) -> Split:
        if split_.matches is None:
            return split_
        order = list(split_.matches)
        random.shuffle(order)  # type: ignore[attr-defined]  # Hypothesis hands out a random.Random
        return Split(split_.name, tuple(order), split_.backends, split_.fallback_root)

    other = Destination(
        destination.service,
        destination.port,
        destination.protocol,
        destination.cluster,
        tuple(shuffled(item) for item in destination.splits),
    )

    def index(item: Destination) -> int:
        picked = choose(compile_destination(item), request_)
        return picked.index if isinstance(picked, Via) else -1

    assert index(other) == index(destination)


BACKENDS = (Backend("s/a", 1, "s/a:80"), Backend("s/b", 0, "s/b:80"), Backend("s/c", 2, "s/c:80"))


def test_s7_backends_without_endpoints_or_weight_are_skipped() -> None:
    whole = Split("s/split", None, BACKENDS)
    assert eligible(whole, lambda cluster: True) == (BACKENDS[0], BACKENDS[2])
    assert eligible(whole, lambda cluster: cluster == "s/c:80") == (BACKENDS[2],)


def test_s7_who_is_leaving_is_asked_only_when_nobody_else_is_left() -> None:
    whole = Split("s/split", None, BACKENDS)
    ready, leaving = (Endpoint("10.0.0.1", 80),), (Endpoint("10.0.0.2", 80, leaving=True),)
    first, last = BACKENDS[0], BACKENDS[2]
    for clusters, expected in (
        ((ready, ready), (first, last)),
        ((leaving, ready), (last,)),
        ((leaving, ()), (first,)),
        ((leaving, leaving), (first, last)),
        (((), ()), ()),
    ):
        known = dict(zip((first.cluster, last.cluster), clusters, strict=True))
        assert takers(whole, lambda key, known=known: known[key]) == expected  # type: ignore[misc]  # default in a lambda


def test_s8_nobody_left_is_an_empty_tuple() -> None:
    assert eligible(Split("s/split", None, BACKENDS), lambda cluster: False) == ()
    assert eligible(Split("s/split", None, BACKENDS[1:2]), lambda cluster: True) == ()


# --- S14 --------------------------------------------------------------------------------------

_WEIGHTS = st.one_of(st.integers(0, 5), st.integers(0, 100), st.integers(0, 10**6), st.integers(0, 10**20))


def worst_in_windows(weights: list[int], phase: int, picks: int, window: int) -> Fraction:
    """The largest distance of a backend's count in any window from its exact share."""
    picker = Picker(weights, phase)
    sequence = [picker.pick() for _ in range(picks)]
    total = sum(weights)
    counts = Counter(sequence[:window])
    worst = Fraction(0)
    for start in range(picks - window + 1):
        if start:
            counts[sequence[start - 1]] -= 1
            counts[sequence[start + window - 1]] += 1
        worst = max(worst, *(abs(counts[i] - Fraction(window * w, total)) for i, w in enumerate(weights)))
    return worst


@given(st.lists(_WEIGHTS, min_size=2, max_size=10).filter(any), st.integers(0, 2**64))
@example([1, 1], 1)
@example([1, 2**63 - 1], 2**63)
@example([997, 1009, 1013], 10**9)
def test_s14_every_window_of_100_picks(weights: list[int], phase: int) -> None:
    positive = sum(weight > 0 for weight in weights)
    bound = 1 if positive <= 2 else 2
    assert worst_in_windows(weights, phase, picks=250, window=100) <= bound


@given(st.lists(st.integers(0, 60), min_size=1, max_size=10).filter(any), st.integers(0, 1000))
def test_s14_exact_over_a_whole_cycle(weights: list[int], phase: int) -> None:
    picker = Picker(weights, phase)
    assert Counter(picker.pick() for _ in range(sum(weights))) == Counter(
        {index: weight for index, weight in enumerate(weights) if weight}
    )


@given(st.integers(1, 600), st.integers(1, 600), st.integers(0, 5000))
def test_s14_a_long_cycle_computed_equals_one_stepped_through(first: int, second: int, phase: int) -> None:
    # Scaled weights have the same order but a cycle too long to be written down.
    stepped = Picker([first * 10**9 + 1, second * 10**9], 0)
    for _ in range(phase):
        stepped.pick()
    jumped = Picker([first * 10**9 + 1, second * 10**9], phase)
    assert [jumped.pick() for _ in range(50)] == [stepped.pick() for _ in range(50)]


def test_s14_phases_set_proxies_apart() -> None:
    first_picks = [Picker([50, 50], phase).pick() for phase in range(100)]
    assert Counter(first_picks) == {0: 50, 1: 50}
    rare = Counter(Picker([999, 1], phase).pick() for phase in range(1000))
    assert rare == {0: 999, 1: 1}


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1]])
def test_a_picker_needs_a_positive_weight(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weight"):
        Picker(weights)
