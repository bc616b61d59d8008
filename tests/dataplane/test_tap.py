"""What a tap takes, and what it costs nobody."""

from __future__ import annotations

from typing import Any

import pytest

from dataplane.tap import MAX_RATE, MAX_SECONDS, MAX_TAPS, MAX_TEXT, Tap, TapFilter, read_filter
from dataplane.telemetry import Edge, HttpSeries, Telemetry
from smi.policy.match import Request

EDGE = Edge("inbound", "spiffe://x/ns/shop/sa/web", "shop/api", "", "shop/web-1", "Deployment/web/web", "")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def tapped() -> tuple[Tap, HttpSeries, Clock]:
    telemetry, clock = Telemetry(), Clock()
    series = telemetry.http_series("inbound", EDGE.peer, "shop/api", "", "shop/web-1", "Deployment/web/web")
    series.exemplar_due = 5e9
    return Tap(telemetry, clock), series, clock


def see(tap: Tap, series: HttpSeries, path: bytes = b"/items?token=secret", status: int = 200) -> None:
    tap.see(series, Request(b"GET", path, b"api"), status, "", "", 0.0031)


def test_a_request_without_its_query() -> None:
    tap, series, _ = tapped()
    assert not tap.active
    assert tap.start("t", TapFilter(), 60, 10)
    assert tap.active
    assert series.exemplar_due == 0.0, "every exchange now takes the way past the tap"
    see(tap, series)
    ((name, requests, dropped),) = tap.collect()
    assert (name, dropped) == ("t", 0)
    assert requests == [
        {
            "time": 1000.0, "direction": "inbound", "peer": "shop/web-1", "workload": "Deployment/web/web",
            "identity": "spiffe://x/ns/shop/sa/web", "service": "shop/api", "backend": "", "split": "",
            "method": "GET", "path": "/items", "status": 200, "reason": "", "grpc": "", "ms": 3.1,
        }
    ]  # fmt: skip
    assert tap.collect() == []
    series.exemplar_due = 7.0
    tap.stop("t")
    assert not tap.active
    assert series.exemplar_due == 7.0, "and no more"


def test_rate_number_and_time_are_bounded() -> None:
    tap, series, clock = tapped()
    for number in range(MAX_TAPS):
        assert tap.start(str(number), TapFilter(), 1e9, 10**6)
    assert not tap.start("more", TapFilter(), 1, 1)
    assert tap.start("0", TapFilter(), 10, 2), "one that is there can begin anew"
    for _ in range(MAX_RATE + 5):
        see(tap, series)
    found = {name: (len(requests), dropped) for name, requests, dropped in tap.collect()}
    assert found == {"0": (2, MAX_RATE + 3), **{str(n): (MAX_RATE, 5) for n in range(1, MAX_TAPS)}}
    clock.now += 1
    see(tap, series, b"/" + b"x" * 1000)
    requests = tap.collect()[0][1]
    assert len(requests[0]["path"]) == MAX_TEXT
    clock.now += 9
    tap.collect()
    assert tap.start("more", TapFilter(), 1, 1), "the time of the first is over"
    clock.now += MAX_SECONDS
    tap.collect()
    assert not tap.active


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({}, True),
        ({"direction": "inbound"}, True),
        ({"direction": "outbound"}, False),
        ({"method": "GET"}, True),
        ({"method": "POST"}, False),
        ({"path": "/it"}, True),
        ({"path": "/x"}, False),
        ({"status": "503"}, True),
        ({"status": "5xx"}, True),
        ({"status": "500"}, False),
        ({"peer": "web-1"}, True),
        ({"peer": "shop/web-1"}, True),
        ({"peer": "web"}, True),
        ({"peer": "shop/web"}, True),
        ({"peer": "api"}, True),
        ({"peer": "shop"}, True),
        ({"peer": "db"}, False),
    ],
)
def test_filters(wanted: dict[str, Any], passes: bool) -> None:
    assert TapFilter(**wanted).passes(EDGE, "GET", "/items", 503) is passes
    assert read_filter({"filter": wanted}) == TapFilter(**wanted)


def test_a_filter_of_another_dialect_lets_all_through() -> None:
    assert read_filter({"filter": 1}) == read_filter({"filter": {"path": 1}}) == TapFilter()


def test_a_series_that_came_later_is_known() -> None:
    tap, series, _ = tapped()
    tap.start("t", TapFilter(peer="web"), 60, 10)
    see(tap, series)
    assert tap._telemetry is not None
    later = tap._telemetry.http_series("outbound", "", "shop/db", "", "shop/db-0", "StatefulSet/db")
    see(tap, later)
    tap.start("u", TapFilter(peer="db"), 60, 10)
    see(tap, later)
    assert [(name, len(requests)) for name, requests, _ in tap.collect()] == [("t", 1), ("u", 1)]
    tap.clear()
    assert not tap.active
