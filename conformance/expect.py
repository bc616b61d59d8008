"""What counts of answers may be: one exact bound, no retries, no tuning. Pure arithmetic.

SMI says in which proportion traffic is split, not in which order. A mesh that picks each request at
random with the given weights is right, and so is one that takes turns; both stay inside the
binomial bound, the first with a stated error rate, the second always. Everything is computed
with whole numbers, so the bound is exact for every count and weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Protocol

ERROR_RATE: Final = Fraction(1, 1_000_000)
"""How often a mesh that picks at random with the right weights may be called wrong."""
MAX_PICKS: Final = 50_000
"""The arithmetic is exact and its cost grows with the square of the picks."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The counts `low`..`high` (both included) are those a right mesh may show."""

    low: int
    high: int

    def __contains__(self, count: object) -> bool:
        return isinstance(count, int) and self.low <= count <= self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True, slots=True)
class Share:
    """One backend's part of an experiment: what was wanted, what was counted, what is allowed."""

    name: str
    wanted: Fraction
    count: int
    picks: int
    bound: Bound

    @property
    def observed(self) -> Fraction:
        return Fraction(self.count, self.picks) if self.picks else Fraction(0)

    @property
    def ok(self) -> bool:
        return self.count in self.bound


def binomial_bound(picks: int, share: Fraction, error: Fraction = ERROR_RATE) -> Bound:
    """Counts that `picks` independent picks with probability `share` leave with probability <= `error`.

    Each side is left with probability <= error/2. Raises ValueError outside 0 <= picks <= MAX_PICKS,
    0 <= share <= 1, 0 < error < 1.
    """
    if not 0 <= picks <= MAX_PICKS:
        raise ValueError(f"picks={picks}: expected 0 to {MAX_PICKS}")
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: expected 0 to 1")
    if not 0 < error < 1:
        raise ValueError(f"error={error}: expected more than 0 and less than 1")
    low = _low_end(picks, share, error / 2)
    return Bound(low, picks - _low_end(picks, 1 - share, error / 2))


def _low_end(picks: int, share: Fraction, tail: Fraction) -> int:
    """The largest k with P(X < k) <= tail, X binomial. All terms share the denominator b**picks."""
    hit, total = share.numerator, share.denominator
    miss = total - hit
    if miss == 0:
        return picks
    term = miss**picks  # the numerator of P(X = 0)
    # P(X <= k) <= tail  ⇔  sum of terms * tail.denominator <= tail.numerator * total**picks
    limit = tail.numerator * total**picks // tail.denominator
    below = 0
    for count in range(picks + 1):
        below += term
        if below > limit:
            return count
        term = term * (picks - count) * hit // ((count + 1) * miss)  # exact: it is a binomial term
    return picks


def judge_shares(
    weights: Mapping[str, int],
    counts: Mapping[str, int],
    error: Fraction = ERROR_RATE,
    picks: int | None = None,
) -> tuple[Share, ...]:
    """Judge counted answers per backend against `weights` (whole numbers, not all zero).

    `picks` is how many answers there should have been, where that is known; otherwise how many there
    were. The error rate holds for all backends together. Whoever answered without being among the
    weights is listed as well, wanted 0 and allowed 0.
    """
    total = sum(weights.values())
    if total <= 0 or any(weight < 0 for weight in weights.values()):
        raise ValueError(f"weights {dict(weights)}: expected whole numbers >= 0, not all 0")
    picks = sum(counts.values()) if picks is None else picks
    names = [*weights, *sorted(set(counts) - set(weights))]
    each = error / len(weights)
    shares = []
    for name in names:
        wanted = Fraction(weights.get(name, 0), total)
        bound = binomial_bound(picks, wanted, each)
        shares.append(Share(name, wanted, counts.get(name, 0), picks, bound))
    return tuple(shares)


class Counted(Protocol):
    """Counts of HTTP answers or of TCP conversations; `driver.Answers` and `driver.Conversations` are."""

    @property
    def total(self) -> int: ...
    @property
    def servers(self) -> Mapping[str, int]: ...
    @property
    def errors(self) -> Mapping[str, int]: ...


class ExpectationError(AssertionError):
    """The mesh did something else than the specification asks for; the text says what was seen."""


def expect(condition: object, text: str) -> None:
    """Raise ExpectationError with `text` unless `condition` is true."""
    if not condition:
        raise ExpectationError(text)


def expect_shares(weights: Mapping[str, int], counted: Counted, picks: int) -> None:
    """All `picks` were answered well, and every backend's count is inside the exact bound."""
    shares = judge_shares(weights, counted.servers, picks=picks)
    wrong = [f"{share.name} {share.count}, allowed {share.bound}" for share in shares if not share.ok]
    expect(sum(counted.servers.values()) == picks, f"of {picks} not all were answered: {counted}")
    expect(not wrong, f"shares of {picks}: {'; '.join(wrong)} (saw {counted})")


def expect_served(counted: Counted, *names: str) -> None:
    """Everything was answered well, and by these applications only (by any of them)."""
    expect(
        sum(counted.servers.values()) == counted.total and set(counted.servers) <= set(names),
        f"expected answers of {' or '.join(names)} only, saw {counted}",
    )


def expect_exactly(counted: Counted, *names: str) -> None:
    """Everything was answered well, by each of these applications at least once and by no other."""
    expect_served(counted, *names)
    missing = sorted(set(names) - set(counted.servers))
    expect(not missing, f"expected answers of {', '.join(missing)} too, saw {counted}")


REFUSED: Final = frozenset({"reset", "closed", "refused"})
"""How a refused connection may end; a time-out is a hang, not a refusal."""


def expect_denied(counted: Counted) -> None:
    """Nothing was answered by an application, and nothing hung: 403 or a connection that ended."""
    others = set(counted.errors) - REFUSED
    answered = {status: n for status, n in getattr(counted, "statuses", {}).items() if status != 403}
    text = f"expected every exchange to be refused, saw {counted}"
    expect(counted.total and not counted.servers and not others and not answered, text)
