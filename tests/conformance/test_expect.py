"""The binomial bound against brute force, and its properties."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.expect import MAX_PICKS, Bound, binomial_bound, judge_shares

shares = st.fractions(min_value=0, max_value=1, max_denominator=50)
errors = st.sampled_from([Fraction(1, 10), Fraction(1, 100), Fraction(1, 10**6), Fraction(2, 3)])


def chance(picks: int, share: Fraction, count: int) -> Fraction:
    """P(X = count), by the definition."""
    return comb(picks, count) * share**count * (1 - share) ** (picks - count)


@given(st.integers(0, 40), shares, errors)
def test_the_bound_is_the_widest_within_the_error_rate(picks: int, share: Fraction, error: Fraction) -> None:
    bound = binomial_bound(picks, share, error)
    below = sum((chance(picks, share, count) for count in range(bound.low)), Fraction(0))
    above = sum((chance(picks, share, count) for count in range(bound.high + 1, picks + 1)), Fraction(0))
    assert below <= error / 2
    assert above <= error / 2
    # and it is tight: one step further in would exceed the rate, unless the count is certain
    assert below + chance(picks, share, bound.low) > error / 2
    assert above + chance(picks, share, bound.high) > error / 2


@given(st.integers(0, 300), shares)
def test_mirror_image(picks: int, share: Fraction) -> None:
    bound, mirrored = binomial_bound(picks, share), binomial_bound(picks, 1 - share)
    assert (bound.low, bound.high) == (picks - mirrored.high, picks - mirrored.low)


@given(st.integers(1, 400), shares)
def test_taking_turns_is_always_inside(picks: int, share: Fraction) -> None:
    nearest = round(picks * share)
    assert nearest in binomial_bound(picks, share)


def test_certain_shares_allow_nothing_else() -> None:
    assert binomial_bound(500, Fraction(0)) == Bound(0, 0)
    assert binomial_bound(500, Fraction(1)) == Bound(500, 500)


def test_a_wrong_split_is_found_out() -> None:
    """60/40 passes for 70/30 in gateway-api's test about one run in eight; not here."""
    assert 600 not in binomial_bound(1000, Fraction(7, 10))


def test_large_counts_stay_exact_and_quick() -> None:
    bound = binomial_bound(10_000, Fraction(9, 10))
    assert bound.low < 9000 < bound.high
    assert bound.high - bound.low < 320


@pytest.mark.parametrize(
    ("picks", "share", "error"),
    [
        (-1, Fraction(1, 2), Fraction(1, 2)),
        (MAX_PICKS + 1, Fraction(1, 2), Fraction(1, 2)),
        (1, Fraction(3, 2), Fraction(1, 2)),
        (1, Fraction(1, 2), Fraction(0)),
        (1, Fraction(1, 2), Fraction(1)),
    ],
)
def test_arguments_are_checked(picks: int, share: Fraction, error: Fraction) -> None:
    with pytest.raises(ValueError, match="expected"):
        binomial_bound(picks, share, error)


def test_judging_names_everybody() -> None:
    shares = judge_shares({"v1": 90, "v2": 10}, {"v1": 450, "v2": 49, "intruder": 1})
    assert [share.name for share in shares] == ["v1", "v2", "intruder"]
    assert [share.ok for share in shares] == [True, True, False]
    assert shares[0].observed == Fraction(9, 10)
    assert str(shares[2].bound) == "0..0"


def test_judging_without_answers_claims_nothing() -> None:
    assert [share.observed for share in judge_shares({"v1": 1}, {})] == [0]


@pytest.mark.parametrize("weights", [{}, {"v1": 0}, {"v1": -1, "v2": 2}])
def test_weights_are_checked(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        judge_shares(weights, {})
