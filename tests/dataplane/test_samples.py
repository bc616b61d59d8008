"""Counters as data: what happened when, and memory that follows what is busy."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dataplane.samples import LONGEST_WINDOW, TICK_SECONDS, Ring
from dataplane.telemetry import MILLISECONDS, Own, Telemetry

WEB = "spiffe://cluster.local/ns/shop/sa/web"
OWN = Own("shop/api-1", "Deployment/api/api", "spiffe://cluster.local/ns/shop/sa/api")
EDGE = ("outbound", WEB, "shop/web", "shop/web-v2", "shop/web-1", "Deployment/web-v2//v2", "shop/canary")


def rows(answer: dict[str, Any], kind: str = "http") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer[kind]
    return found


def test_a_row_names_both_sides_and_counts_success_and_failure() -> None:
    telemetry = Telemetry()
    ring = Ring(telemetry, 100.0)
    series = telemetry.http_series(*EDGE)
    for status, grpc in ((200, ""), (404, ""), (500, ""), (200, "14"), (0, "")):
        series.observe(status, "", 0.02, grpc)
    telemetry.tcp_open("inbound", WEB, "shop/api", "", "shop/web-1", "Deployment/web").close(3, 4, 0.1)
    telemetry.http_series("inbound", WEB, "shop/api", "")  # a connection without a request
    found = ring.samples(OWN, 107.0, None)
    assert (found["version"], found["started"], found["now"], found["window_seconds"]) == (1, 100, 107, 7)
    assert (found["pod"], found["workload"]["name"], found["workload"]["app"]) == ("shop/api-1", "api", "api")
    (row,) = rows(found)
    assert row["direction"] == "outbound"
    assert (row["service"], row["backend"], row["split"]) == ("shop/web", "shop/web-v2", "shop/canary")
    assert row["peer"] == {
        "pod": "shop/web-1",
        "namespace": "shop",
        "workload": {"kind": "Deployment", "name": "web-v2", "app": "", "version": "v2"},
        "identity": WEB,
    }
    assert (row["success"], row["failure"]) == (2, 3)
    assert row["sum_ms"] == 100
    assert len(row["buckets"]) == len(found["bounds_ms"]) + 1
    assert row["buckets"][found["bounds_ms"].index(20)] == 5
    (tcp,) = rows(found, "tcp")
    assert (tcp["opened"], tcp["closed"], tcp["sent_bytes"], tcp["received_bytes"]) == (1, 1, 3, 4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(0, 90))
def test_a_window_has_what_came_in_it(per_tick: list[int], window: int) -> None:
    telemetry = Telemetry()
    ring = Ring(telemetry, 0.0)
    for number, count in enumerate(per_tick):
        for _ in range(count):
            telemetry.http_series(*EDGE).observe(200, "", 0.02)
        ring.tick((number + 1) * TICK_SECONDS)
    now = len(per_tick) * TICK_SECONDS
    found = ring.samples(OWN, now, window)
    covered = found["window_seconds"]
    assert covered <= LONGEST_WINDOW
    if window <= min(now, LONGEST_WINDOW):
        assert abs(covered - window) <= TICK_SECONDS / 2
    ticks = round(covered / TICK_SECONDS)
    expected = sum(per_tick[len(per_tick) - ticks :]) if ticks else 0
    assert sum(row["success"] for row in rows(found)) == expected
    assert sum(sum(row["buckets"]) for row in rows(found)) == expected
    assert sum(row["success"] for row in rows(ring.samples(OWN, now, None))) == sum(per_tick)


def test_what_is_idle_is_kept_once() -> None:
    telemetry = Telemetry()
    ring = Ring(telemetry, 0.0)
    telemetry.http_series(*EDGE).observe(200, "", 0.02)
    for number in range(5):
        ring.tick(number * TICK_SECONDS)
    kept = {id(counts) for past in ring._past for counts in past.http.values()}
    assert len(kept) == 1
    assert len(MILLISECONDS) + 1 == len(next(iter(ring._past[-1].http.values())).buckets)
