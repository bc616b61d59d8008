"""When a request may be sent again."""

from __future__ import annotations

import pytest

from dataplane.core.retry import IDEMPOTENT, MAX_CONNECTS, Loss, may_retry


@pytest.mark.parametrize("loss", Loss)
def test_nothing_is_sent_again_that_is_not_at_hand(loss: Loss) -> None:
    assert not may_retry(loss, b"GET", replayable=False, connects=0, resent=0)


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"GET"])
def test_what_was_not_sent_is_tried_elsewhere_whatever_it_is(method: bytes) -> None:
    verdicts = [
        may_retry(Loss.NOT_SENT, method, replayable=True, connects=count, resent=0)
        for count in range(MAX_CONNECTS + 1)
    ]
    assert verdicts == [True] * MAX_CONNECTS + [False]


@pytest.mark.parametrize("method", sorted(IDEMPOTENT))
def test_idempotent_requests_are_resent_once(method: bytes) -> None:
    assert may_retry(Loss.SENT, method, replayable=True, connects=0, resent=0)
    assert not may_retry(Loss.SENT, method, replayable=True, connects=0, resent=1)


def test_a_stale_connection_does_not_use_up_the_one_retry() -> None:
    assert may_retry(Loss.STALE, b"GET", replayable=True, connects=0, resent=1)
    assert not may_retry(Loss.STALE, b"GET", replayable=True, connects=0, resent=2)


@pytest.mark.parametrize("loss", [Loss.SENT, Loss.STALE])
def test_what_may_have_been_done_is_not_done_twice(loss: Loss) -> None:
    assert not may_retry(loss, b"POST", replayable=True, connects=0, resent=0)
