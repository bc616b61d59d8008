"""What one request has tried in vain, and where it may go next: the same for every version of HTTP.

A request makes its `Attempts` at its first failure; most never do.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final

from dataplane.core.outcome import LOST, UNPROCESSED, Outcome
from dataplane.core.retry import Loss, may_retry
from dataplane.serve.gate import Gate, Way, retried
from dataplane.wire.http1 import Fields, RequestHead
from smi.names import REASON_HEADER

_REASON: Final = REASON_HEADER.encode()


class Attempts:
    """The failed ways of one request."""

    __slots__ = ("_connects", "_resent", "_turns", "_ways")

    def __init__(self) -> None:
        self._ways: list[Way] = []
        self._connects = 0  # of these, failed before anything was sent, since it last waited
        self._resent = 0  # times it was sent again
        self._turns = 0  # times it waited for a way (S33)

    def may_retry(self, loss: Loss, method: bytes, way: Way, replayable: bool) -> bool:
        """Whether what was lost on `way` may be tried once more, there or elsewhere.

        `replayable`: everything that was sent of the request is still at hand.
        """
        may = may_retry(loss, method, replayable=replayable, connects=self._connects + 1, resent=self._resent)
        return may and (way.guard is None or loss is Loss.STALE or way.guard.may_retry())

    def another(self, gate: Gate, way: Way) -> Way | None:
        """A way that was not tried, instead of `way`."""
        return gate.again(way, [*self._ways, way])

    def hold(self, gate: Gate, head: RequestHead, way: Way) -> Coroutine[Any, Any, Way | None] | None:
        """Wait for a way instead of `way`, which nothing was sent on; None: do not wait."""
        return gate.hold(head, way, [*self._ways, way], self._turns)

    def leave(self, way: Way, other: Way, loss: Loss, now: float) -> Way:
        """Go on from `way` to `other` at once: `other` as a retry is to be counted."""
        way.load.active -= 1
        self._ways.append(way)
        if loss is Loss.NOT_SENT:
            self._connects += 1
        else:
            self._resent += 1
        if way.guard is None or loss is Loss.STALE:
            return other
        way.guard.ended(Outcome.RESET.status, now)
        return retried(other)

    def waited(self, way: Way, other: Way) -> None:
        """Go on from `way` to `other` after waiting for it."""
        way.load.active -= 1
        self._ways.append(way)
        self._connects = 0
        self._turns += 1
        if any(_same_endpoint(tried, other) for tried in self._ways):  # another round of the same
            self._ways.clear()


def _same_endpoint(one: Way, other: Way) -> bool:
    return one.plan is not None and other.plan is not None and one.plan.load is other.plan.load


def peer_loss(fields: Fields) -> tuple[Loss, str] | None:
    """How a peer's proxy says, in the fields of its answer, that it lost a request, and its reason.

    None: what it answers is the answer.
    """
    reason = next((value for name, value in fields if name == _REASON), b"").decode("ascii", "replace")
    if reason in UNPROCESSED:
        return Loss.NOT_SENT, reason
    return (Loss.SENT, reason) if reason in LOST else None
