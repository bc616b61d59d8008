"""The published results of `make bench`: their form, that no work is missing, that the chart is theirs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROWS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks/results/latest.json").read_text("utf-8"))
CHART = (ROOT / "docs/pictures/benchmarks.svg").read_text("utf-8")
WORKS = {
    "HTTP/1.1 one hop": "≥ 2",
    "HTTP/1.1 two hops, mTLS": "≥ 1.7",
    r"HTTP/2 one hop .*": "≥ 1.2",
    r"gRPC unary one hop .*": "≥ 1.2",
    "1 MB bodies, response": "≥ 0.8",
    "1 MB bodies, request": "≥ 0.8",
    "10 MB bodies, response": "≥ 0.8",
    "10 MB bodies, request": "≥ 0.8",
    "bodies: memory above idle, .*": "≤ 1",
    "opaque TCP, two hops, mTLS, from the server": "≥ 0.8",
    "opaque TCP, two hops, mTLS, to the server": "≥ 0.8",
    "added latency at 2 000 requests/s, two hops, mTLS": "≤ 1",
    "new mTLS connections, full handshake": "≥ 0.8",
    "new mTLS connections, resumed": "≥ 0.8",
    "RSS idle": "≤ 1",
    "RSS, 1000 services, 10000 endpoints, 20 used": "≤ 1",
    r"[0-9]+ idle client connections": "≤ 1",
    "--workers 2 on two cores": "≥ 1.8",
}
"""Works with a goal, as patterns; `≤ 1` is of a bound that is the row's `peer_value`."""


def test_rows_have_one_form() -> None:
    for row in ROWS:
        assert list(row) == ["work", "metric", "ours", "peer", "peer_value", "ratio", "goal", "met"], row


@pytest.mark.parametrize("work", WORKS)
def test_no_work_is_missing(work: str) -> None:
    found = [row for row in ROWS if re.fullmatch(work, row["work"]) and row["goal"] is not None]
    assert found, f"benchmarks/results/latest.json has no {work}: run `make bench`"
    for row in found:
        assert row["goal"] == WORKS[work]
        least = row["goal"].startswith("≥")
        bound = float(row["goal"][2:])
        if abs(row["ratio"] - bound) > 0.001:  # it is rounded
            assert row["met"] is ((row["ratio"] > bound) is least)


def test_the_chart_is_of_these_results() -> None:
    shown = [float(ratio) for ratio in re.findall(r">([0-9.]+) × [^<]+<", CHART)]
    ratios = sorted(row["ratio"] for row in ROWS if row["ratio"])
    assert sorted(shown) == pytest.approx(ratios, abs=0.006)
