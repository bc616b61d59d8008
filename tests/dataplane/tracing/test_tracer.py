"""Who is sampled, and what is kept of it."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from dataplane.core.traces import read_context
from dataplane.telemetry import Telemetry
from dataplane.tracing.tracer import MAX_WAITING, Tracer
from dataplane.wire.http1 import RequestHead, parse_request


def tracer(share: float, seed: int = 1) -> Tracer:
    chance = Random(seed)
    clock = itertools.count(1_000_000_000, 1000).__next__
    return Tracer(share, ("w3c",), Telemetry(), clock, chance.random, chance.getrandbits)


def request(*fields: str) -> RequestHead:
    return parse_request(
        ("\r\n".join(["GET / HTTP/1.1", "host: a", *fields]) + "\r\n\r\n").encode(), traced=True
    )


@pytest.mark.parametrize("share", [0.01, 0.25, 0.9])
def test_the_share_of_traces_is_the_one_wished_for(share: float) -> None:
    count = 20_000
    made = tracer(share)
    sampled = sum(made.begin(request()) is not None for _ in range(count))
    # five standard deviations of independent draws
    assert abs(sampled - count * share) < 5 * (count * share * (1 - share)) ** 0.5


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 100)])
def test_none_and_all(share: float, expected: int) -> None:
    made = tracer(share)
    assert sum(made.begin(request()) is not None for _ in range(100)) == expected


def test_draws_have_no_rhythm() -> None:
    """Gaps between sampled requests differ: traffic with a period of its own cannot hide between them."""
    made = tracer(0.1)
    sampled = [number for number in range(2000) if made.begin(request()) is not None]
    gaps = {after - before for before, after in itertools.pairwise(sampled)}
    assert len(gaps) > 10


def test_traces_that_are_not_sampled_differ() -> None:
    made = tracer(0.0)
    heads = [request() for _ in range(100)]
    for head in heads:
        assert made.begin(head) is None
    contexts = [read_context([(b"traceparent", head.header(b"traceparent") or b"")]) for head in heads]
    assert {context.sampled for context in contexts if context is not None} == {False}
    assert len({context.trace for context in contexts if context is not None}) == 100


def test_what_does_not_fit_is_counted() -> None:
    made = tracer(1.0)
    series = Telemetry().http_series("inbound", "", "", "")
    for _ in range(MAX_WAITING + 3):
        head = request()
        span = made.begin(head)
        assert span is not None
        made.finish(span, series, head, 200, "", "", False, 0.0, 0.001)
    assert (made.begun, made.dropped, made.waiting) == (MAX_WAITING + 3, 3, MAX_WAITING)
    assert [len(made.take(3000)), len(made.take(3000)), made.take(1)] == [3000, MAX_WAITING - 3000, []]
