"""What a scrape gets: the dialects it asks for, in the format it asks for, whatever was counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.exposition import prefers_openmetrics
from dataplane.telemetry import Own, Telemetry
from smi.names import METRICS_DIALECTS
from tests.dataplane.dialects.scraped import OPENMETRICS, page, scrape

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;q=0.3,text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x", False),
        ("text/plain", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_openmetrics_is_given_to_who_asks_for_it(accept: str, expected: bool) -> None:
    assert prefers_openmetrics(accept) is expected


def test_a_scrape_that_asks_for_nothing_gets_the_usual_dialects() -> None:
    telemetry = Telemetry()
    telemetry.http("inbound", "", "", "", 200, "", 0.1)
    assert "istio_requests_total" not in page(telemetry, "")
    assert "smi_mesh_requests_total" in page(telemetry, "")
    both = page(telemetry, "linkerd, osm")
    assert "response_total" in both
    assert "smi_mesh_requests_total" not in both
    with pytest.raises(ValueError, match=r"'klingon' is no dialect; there are istio, linkerd, osm, smi"):
        page(telemetry, "osm,klingon")


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_EDGES = st.tuples(st.sampled_from(["inbound", "outbound"]), *(_TEXT for _ in range(6)))
_OUTCOMES = st.tuples(st.integers(0, 999), _TEXT, st.sampled_from(["", "0", "14", "x"]))


@settings(max_examples=15)  # the parsers are slow, and a page of all dialects is long
@given(st.lists(st.tuples(_EDGES, _OUTCOMES), max_size=4), st.booleans(), st.builds(Own, _TEXT, _TEXT, _TEXT))
def test_every_page_is_read_by_the_official_parsers_and_no_exchange_is_lost(
    counted: list[tuple[tuple[str, ...], tuple[int, str, str]]], openmetrics: bool, own: Own
) -> None:
    telemetry = Telemetry(limit=3)
    for edge, (status, reason, grpc) in counted:
        telemetry.http_series(*edge).observe(status, reason, 0.01, grpc, 5, 7)
        telemetry.tcp_open(*edge).close(1, 2, 0.1, reason)
    families = scrape(telemetry, ",".join(METRICS_DIALECTS), OPENMETRICS if openmetrics else "", own)
    for name in ("istio_requests", "response", "smi_mesh_requests", "smi_mesh_tcp_opened"):
        assert sum(sample.value for sample in families[name].samples) == len(counted)
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for family in families.values():
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, "no series appears twice"
            seen.add(key)
