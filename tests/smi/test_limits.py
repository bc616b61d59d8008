"""What annotations about limits mean, and what is said of the parts that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.limits import (
    ANNOTATIONS,
    DEFAULT_PENDING,
    MAX_NUMBER,
    MAX_RATES,
    Complaint,
    RateOrder,
    Route,
    ServiceLimits,
    service_limits,
)
from smi.names import (
    CIRCUIT_BREAKER_ANNOTATION,
    CONNECTION_RATE_LIMIT_ANNOTATION,
    OUTLIER_DETECTION_ANNOTATION,
    RATE_LIMIT_ANNOTATION,
    NamespacedName,
)
from smi.policy.snapshot import CircuitBreaker, Limited, Outliers

ROUTES = NamespacedName("shop", "routes")


def read(annotation: str, text: str) -> tuple[ServiceLimits, tuple[Complaint, ...]]:
    return service_limits({annotation: text}.get, "shop")


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("100/s", RateOrder(Limited.REQUESTS, 100, 1, 100, text="100/s")),
        ("20/minute", RateOrder(Limited.REQUESTS, 20, 60, 20, text="20/m")),
        ("1/h burst 5", RateOrder(Limited.REQUESTS, 1, 3600, 5, text="1/h burst 5")),
        ("5/s burst 5", RateOrder(Limited.REQUESTS, 5, 1, 5, text="5/s")),
        ("9/s per client", RateOrder(Limited.REQUESTS, 9, 1, 9, True, text="9/s per client")),
        (
            "9/s from batch",
            RateOrder(
                Limited.REQUESTS, 9, 1, 9, source=NamespacedName("shop", "batch"), text="9/s from shop/batch"
            ),
        ),
        (
            " 9/s  on routes/read per client  burst 3 from ops/cron ",
            RateOrder(
                Limited.REQUESTS,
                9,
                1,
                3,
                True,
                NamespacedName("ops", "cron"),
                Route(ROUTES, "read"),
                "9/s burst 3 per client from ops/cron on routes/read",
            ),
        ),
        ("9/s on routes", RateOrder(Limited.REQUESTS, 9, 1, 9, route=Route(ROUTES), text="9/s on routes")),
    ],
)
def test_a_rate_limit(text: str, order: RateOrder) -> None:
    found, complaints = read(RATE_LIMIT_ANNOTATION, text)
    assert (found.rates, complaints) == ((order,), ())
    again, _ = read(RATE_LIMIT_ANNOTATION, found.rates[0].text)
    assert again == found  # the normal form means the same


def test_several_limits_stand_together() -> None:
    found, complaints = read(RATE_LIMIT_ANNOTATION, "100/s; 10/s per client\n100/s;")
    assert [order.text for order in found.rates] == ["100/s", "10/s per client"]
    assert not complaints


def test_connections_are_limited_by_an_annotation_of_their_own() -> None:
    found, complaints = read(CONNECTION_RATE_LIMIT_ANNOTATION, "5/s per client")
    assert [(order.what, order.count) for order in found.rates] == [(Limited.CONNECTIONS, 5)]
    assert not complaints


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("100", "expected requests per s, m or h such as '100/s'"),
        ("100/d", "expected requests per s, m or h"),
        ("0/s", "from 1 to"),
        (f"{MAX_NUMBER + 1}/s", f"to {MAX_NUMBER}"),
        ("5/s burst", "burst: expected a whole number"),
        ("5/s burst 0", "from 1 to"),
        ("5/s per pod", "expected 'per client', got 'per pod'"),
        ("5/s on", "'on' needs an HTTPRouteGroup"),
        ("5/s on a/b/c", "'on' needs an HTTPRouteGroup"),
        ("5/s from /x", "'from' needs a service account"),
        ("5/s burst 3 burst 4", "'burst' is said twice"),
        ("5/s please", "'please' is not known; after the rate may come burst, per client, from, on"),
        ("", "it is empty"),
    ],
)
def test_what_is_not_understood_is_said_and_harms_only_itself(text: str, says: str) -> None:
    found, (complaint,) = read(RATE_LIMIT_ANNOTATION, text)
    assert not found
    assert complaint.annotation == RATE_LIMIT_ANNOTATION
    assert says in complaint.message
    if text:
        beside, complaints = read(RATE_LIMIT_ANNOTATION, f"7/s; {text}")
        assert [order.text for order in beside.rates] == ["7/s"]
        assert len(complaints) == 1


def test_connections_meet_no_match() -> None:
    found, (complaint,) = read(CONNECTION_RATE_LIMIT_ANNOTATION, "5/s on routes")
    assert not found
    assert "a connection meets no match" in complaint.message


def test_no_more_limits_than_are_read() -> None:
    found, (complaint,) = read(RATE_LIMIT_ANNOTATION, ";".join(f"{n}/s" for n in range(1, 40)))
    assert len(found.rates) == MAX_RATES
    assert "there are 39 limits" in complaint.message


def test_a_circuit_breaker() -> None:
    text = "max-connections=10 max-pending-requests=0, max-requests=20 max-retries=3 retry-budget=25%"
    found, complaints = read(CIRCUIT_BREAKER_ANNOTATION, text)
    assert (found.breaker, complaints) == (CircuitBreaker(10, 0, 20, 3, 25), ())
    found, _ = read(CIRCUIT_BREAKER_ANNOTATION, "max-connections=10")
    assert found.breaker == CircuitBreaker(10, DEFAULT_PENDING)


def test_outlier_detection() -> None:
    found, complaints = read(OUTLIER_DETECTION_ANNOTATION, "consecutive-errors=5")
    assert (found.breaker, complaints) == (CircuitBreaker(outliers=Outliers(5)), ())
    text = (
        "consecutive-errors=5 consecutive-gateway-errors=3 base-ejection-time=500ms max-ejection-time=2m "
        "max-ejection-percent=50"
    )
    found, complaints = read(OUTLIER_DETECTION_ANNOTATION, text)
    assert (found.breaker, complaints) == (CircuitBreaker(outliers=Outliers(5, 3, 0.5, 120.0, 50)), ())
    both, _ = service_limits(
        {CIRCUIT_BREAKER_ANNOTATION: "max-requests=1", OUTLIER_DETECTION_ANNOTATION: text}.get, "shop"
    )
    assert both.breaker == CircuitBreaker(max_requests=1, outliers=Outliers(5, 3, 0.5, 120.0, 50))


@pytest.mark.parametrize(
    ("annotation", "text", "says"),
    [
        (CIRCUIT_BREAKER_ANNOTATION, "max-request=1", "'max-request=1': expected one of max-connections=…"),
        (CIRCUIT_BREAKER_ANNOTATION, "max-requests=-1", "max-requests: expected a whole number from 1"),
        (CIRCUIT_BREAKER_ANNOTATION, "max-requests", "expected one of"),
        (CIRCUIT_BREAKER_ANNOTATION, "retry-budget=101%", "a percentage from 0% to 100%"),
        (CIRCUIT_BREAKER_ANNOTATION, "", "it is empty"),
        (OUTLIER_DETECTION_ANNOTATION, "max-ejection-percent=50", "nothing is ejected"),
        (OUTLIER_DETECTION_ANNOTATION, "consecutive-errors=1 base-ejection-time=2d", "a time such as 500ms"),
    ],
)
def test_what_a_breaker_does_not_know(annotation: str, text: str, says: str) -> None:
    found, (complaint,) = read(annotation, text)
    assert says in complaint.message
    if annotation == CIRCUIT_BREAKER_ANNOTATION:
        assert found.breaker is None
        beside, complaints = read(annotation, f"max-retries=1 {text}")
        assert beside.breaker == CircuitBreaker(max_retries=1)
        assert len(complaints) == (1 if text else 0)


def test_what_waits_needs_something_to_wait_for() -> None:
    found, (complaint,) = read(CIRCUIT_BREAKER_ANNOTATION, "max-pending-requests=5")
    assert found.breaker == CircuitBreaker(max_pending=5)
    assert "without it nothing waits" in complaint.message


@given(st.sampled_from(ANNOTATIONS), st.text(max_size=40) | st.from_regex(r"[a-z0-9/=%;. -]{0,40}"))
def test_whatever_is_written_is_read(annotation: str, text: str) -> None:
    found, complaints = read(annotation, text)
    assert found or complaints or not text.strip(" ;\n\t")
