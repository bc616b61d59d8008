"""The access log: what a line says, which exchanges get one, and what happens when nobody reads."""

from __future__ import annotations

import asyncio
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.accesslog import MAX_WAITING, AccessLog, pump
from dataplane.tap import Tap, TapFilter
from dataplane.tasks import Tasks
from dataplane.telemetry import Edge, Telemetry
from smi.names import AccessLogging, access_logging
from smi.policy.match import Request

EDGE = Edge(
    "inbound", "spiffe://cluster.local/ns/shop/sa/web", "shop/api", "", "shop/web-1", "Deployment/web/web"
)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEAD = Request(
    b"GET",
    b'/items"\n?token=secret',
    b"api:8080",
    [
        (b"x-request-id", b"r-1"),
        (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode()),
        (b"authorization", b"Bearer secret"),
    ],
)


def log_of(wish: str, chance: float = 0.0) -> AccessLog:
    found = access_logging(wish)
    assert found is not None
    return AccessLog(found, lambda: 1795239277.25, lambda: chance)


def see(log: AccessLog, status: int = 200, reason: str = "", grpc: str = "") -> None:
    log.see(EDGE, HEAD, status, reason, grpc, 0.0031)


def test_json_says_who_asked_for_what_and_how_it_went_but_no_secret() -> None:
    log = log_of("json")
    see(log, 403, "no-grant")
    text = log.take()
    assert "secret" not in text
    entry = json.loads(text)
    assert entry["time"] == "2026-11-21T05:34:37.250Z"
    assert (entry["method"], entry["path"], entry["authority"]) == ("GET", '/items"\n', "api:8080")
    assert (entry["status"], entry["reason"], entry["ms"]) == (403, "no-grant", 3.1)
    assert (entry["peer"], entry["identity"]) == ("shop/web-1", EDGE.peer)
    assert (entry["request_id"], entry["trace_id"]) == ("r-1", TRACE)


@given(
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.text(max_size=8),
    st.floats(0, 4e9),
)
def test_whatever_is_asked_a_line_is_one_json_object(
    method: bytes, path: bytes, field: bytes, reason: str, moment: float
) -> None:
    log = AccessLog(AccessLogging("json"), lambda: moment, lambda: 0.0)
    head = Request(method, path, field, [(b"x-request-id", field)])
    for status in (200, 0):
        log.see(EDGE, head, status, reason, "", 0.001)
    first, second = log.take().splitlines()
    entry = json.loads(first)
    said = {
        "method": method.decode("latin-1"),
        "authority": field.decode("latin-1"),
        "path": path.partition(b"?")[0].decode("latin-1"),
        "request_id": field.decode("latin-1"),
        "reason": reason,
    }
    for name, value in said.items():
        assert entry.get(name, "") == value
    assert (entry["status"], json.loads(second)["status"]) == (200, 0)


def test_the_common_format_is_one_line_whatever_the_path_holds() -> None:
    log = log_of("clf")
    see(log)
    line = log.take()
    assert re.fullmatch(
        r'shop/web-1 - spiffe://\S+ \[21/Nov/2026:05:34:37 \+0000\] "GET /items\\"\\n" 200 -\n', line
    )


@pytest.mark.parametrize(
    ("status", "reason", "grpc", "logged"),
    [
        (200, "", "", False),
        (399, "", "0", False),
        (404, "", "", True),
        (503, "overload", "", True),
        (200, "", "14", True),
        (200, "truncated", "", True),
        (0, "client-gone", "", True),
    ],
)
def test_failures_only(status: int, reason: str, grpc: str, logged: bool) -> None:
    log = log_of("json failures")
    see(log, status, reason, grpc)
    assert bool(log.take()) is logged


@pytest.mark.parametrize(("chance", "logged"), [(0.0499, True), (0.05, False)])
def test_a_share_is_drawn(chance: float, logged: bool) -> None:
    log = log_of("json 5%", chance)
    see(log)
    assert bool(log.take()) is logged


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    log = log_of("json")
    for _ in range(MAX_WAITING + 3):
        see(log)
    assert log.take().count("\n") == MAX_WAITING
    assert (log.written, log.dropped) == (MAX_WAITING, 3)


async def test_the_pump_writes_whole_lines_and_never_holds_up_the_loop() -> None:
    log = log_of("json")
    reader, writer = os.pipe()
    tasks = Tasks()
    tasks.start("access log", pump(log, writer))
    try:
        for _ in range(1500):  # more than a pipe holds: the writer waits in its thread
            see(log)
        received = b""
        while received.count(b"\n") < 1500:
            received += await asyncio.to_thread(os.read, reader, 65536)
        assert all(json.loads(line)["status"] == 200 for line in received.splitlines())
    finally:
        await tasks.cancel()
        os.close(reader)
        os.close(writer)


def test_with_a_log_every_exchange_is_seen_with_or_without_a_tap() -> None:
    telemetry = Telemetry()
    log = log_of("json")
    tap = Tap(telemetry, lambda: 0.0, log)
    assert tap.active
    series = telemetry.http_series("inbound", "", "shop/api", "")
    series.exemplar_due = 5e9
    tap.see(series, HEAD, 200, "", "", 0.001)
    assert series.exemplar_due == 0.0, "the next exchange is seen as well"
    assert tap.start("t", TapFilter(), 60, 10)
    tap.stop("t")
    assert tap.active, "the log goes on without the tap"
    tap.see(series, HEAD, 200, "", "", 0.001)
    assert log.take().count("\n") == 2


@pytest.mark.parametrize("text", ["", "off", "  "])
def test_off_is_the_default(text: str) -> None:
    assert access_logging(text) is None


@pytest.mark.parametrize(
    "text", ["yes", "json 0%", "json 101%", "failures", "json often", "off json", "clf 5"]
)
def test_a_wish_that_cannot_be_read_says_what_can_be_given(text: str) -> None:
    with pytest.raises(ValueError, match="expected off, or json or clf with failures or a share such as 5%"):
        access_logging(text)


def test_a_wish_in_full() -> None:
    assert access_logging("clf failures 12.5%") == AccessLogging("clf", failures=True, share=0.125)
