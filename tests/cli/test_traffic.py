"""Rows and graphs of `kubectl traffic`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.traffic import graph, tap, top
from cli.traffic.client import explain
from cli.traffic.command import main


def reference(name: str, kind: str = "Deployment") -> dict[str, str]:
    return {"kind": kind, "namespace": "shop", "name": name} if name else {}


def item(
    name: str,
    good: int = 30,
    bad: int = 0,
    *,
    other: str = "",
    direction: str = "to",
    side: str = "server",
    backend: dict[str, Any] | None = None,
    p99: str = "12m",
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": "TrafficMetrics",
        "resource": reference(name),
        "edge": {"direction": direction, "side": side, "resource": reference(other)},
        "window": "30s",
        "metrics": [
            {"name": "p99_response_latency", "unit": "seconds", "value": p99},
            {"name": "p90_response_latency", "unit": "seconds", "value": "9m"},
            {"name": "p50_response_latency", "unit": "seconds", "value": "2500u"},
            {"name": "success_count", "value": str(good)},
            {"name": "failure_count", "value": str(bad)},
        ],
    }
    return found | ({"backend": backend} if backend else {})


def shown(plural: str, *items: dict[str, Any], everywhere: bool = False, sort: str = "name") -> list[str]:
    headings, rows = top.sheet(plural, items, everywhere=everywhere, sort=sort)
    return [" ".join(line.split()) for line in top.aligned(headings, rows).splitlines()]


def test_top_is_the_specifications_table() -> None:
    assert shown("pods", item("foo", 54), item("bar", 40, 13), item("idle", 0)) == [
        "NAME SUCCESS RPS LATENCY_P50 LATENCY_P90 LATENCY_P99",
        "bar 75.47% 1.8rps 2.5ms 9.0ms 12ms",
        "foo 100.00% 1.8rps 2.5ms 9.0ms 12ms",
        "idle - - - - -",
    ]


def test_top_in_all_namespaces_and_in_another_order() -> None:
    slow, busy = item("slow", 1, p99="2"), item("busy", 60, 3)
    names = {
        sort: [line.split()[1] for line in shown("pods", slow, busy, everywhere=True, sort=sort)[1:]]
        for sort in top.SORTS
    }
    assert names == {
        "name": ["busy", "slow"], "rps": ["busy", "slow"], "success": ["busy", "slow"],
        "p99": ["slow", "busy"],
    }  # fmt: skip
    assert shown("namespaces", item("shop"), everywhere=True)[0].startswith("NAME ")


def test_splits_show_their_backends_and_shares() -> None:
    backends = [{"apex": "api", "name": name, "weight": weight} for name, weight in (("v1", 90), ("v2", 10))]
    first, second = (
        item("canary", count, backend=one) for count, one in zip((60, 20), backends, strict=True)
    )
    assert shown("trafficsplits", second, first) == [
        "NAME APEX LEAF WEIGHT SHARE SUCCESS RPS LATENCY_P50 LATENCY_P90 LATENCY_P99",
        "canary api v1 90 75.0% 100.00% 2.0rps 2.5ms 9.0ms 12ms",
        "canary api v2 10 25.0% 100.00% 0.7rps 2.5ms 9.0ms 12ms",
    ]


def test_numbers_of_other_implementations() -> None:
    found = item("a", 73)
    found["metrics"][0] = {"name": "p99_response_latency", "unit": "ms", "value": "296875m"}
    found["metrics"][3]["value"] = "73492m"
    found["window"] = "1m0s"
    numbers = top.numbers(found)
    assert numbers.p99 == Fraction(296875, 10**6)
    assert numbers.success == Fraction(73492, 1000)
    assert numbers.window == 60
    assert top.duration(Fraction(5, 4)) == "1.25s"


def test_a_pair_of_ends_is_one_edge_and_the_server_is_believed() -> None:
    found = graph.of_edges(
        [
            item("web", 10, other="api", side="client"),
            item("api", 9, other="web", direction="from"),
            item("api", 8, other="web", direction="from", side="client"),
            item("api", 1, other="", direction="from"),
            item("web", 0, other="db"),
        ]
    )
    assert [
        (edge.source.name, edge.target.name, edge.side, edge.numbers.success) for edge in found.edges
    ] == [
        ("", "api", "server", 1),
        ("web", "api", "server", 9),
    ]


def test_the_terminal_graph() -> None:
    found = graph.of_edges(
        [item("web", 90, 10, other="api"), item("api", other="db"), item("db", other="api")]
    )
    assert graph.as_text(found, False) == (
        "┌─────┐      ┌──────────────┐      ┌───────────────┐\n"
        "│ web │─────▶│ api          │◀────▶│ db            │\n"
        "│     │      │ 4.3rps 92.3% │      │ 1.0rps 100.0% │\n"
        "└─────┘      └──────────────┘      └───────────────┘\n"
        "\n"
        "FROM   TO    SUCCESS   RPS      LATENCY_P50   LATENCY_P90   LATENCY_P99\n"
        "api    db    100.00%   1.0rps   2.5ms         9.0ms         12ms\n"
        "db     api   100.00%   1.0rps   2.5ms         9.0ms         12ms\n"
        "web    api   90.00%    3.3rps   2.5ms         9.0ms         12ms\n"
    )
    assert graph.as_text(graph.Graph(()), False) == ""


names = st.sampled_from(["", "a", "b", "c", "d", "e", "f"])


@given(st.lists(st.tuples(names.filter(bool), names), max_size=20), st.booleans())
def test_every_form_shows_every_edge_of_any_graph(pairs: list[tuple[str, str]], everywhere: bool) -> None:
    found = graph.of_edges([item(source, other=target) for source, target in pairs])
    assert {(edge.source.name, edge.target.name) for edge in found.edges} == set(pairs)
    text = graph.as_text(found, everywhere)
    for node in found.nodes:
        assert node.label(everywhere) in text
    # Every call to somebody else ends in one arrowhead, or shares it with others into the same box.
    called = {edge.target for edge in found.edges if edge.source != edge.target}
    assert text.count("▶") + text.count("◀") >= len(called)
    assert graph.as_dot(found, everywhere).count(" -> ") == len(found.edges)
    document = json.loads(graph.as_json(found, everywhere))
    assert len(document["edges"]) == len(found.edges)
    picture = ElementTree.fromstring(graph.as_svg(found, everywhere))
    boxes = picture.findall(".//{http://www.w3.org/2000/svg}rect[@class='box']")
    assert len(boxes) == len(found.nodes)


def test_names_cannot_break_out_of_dot_and_svg() -> None:
    found = graph.of_edges([item('a"\\<b>&', other="b")])
    assert '[label="a\\"\\\\<b>&"]' in graph.as_dot(found, False)
    assert "<b>" not in graph.as_svg(found, False)


def test_a_long_chain_needs_no_recursion() -> None:
    chain = [f"s{number}" for number in range(1500)]
    found = graph.of_edges([item(a, other=b) for a, b in pairwise(chain)])
    assert len(graph._layout(found).layers) == 1500


def test_what_went_wrong_is_said_with_a_hint() -> None:
    status = json.dumps({"message": 'pods "x" not found'})
    assert explain("/p", 404, status).startswith('GET /p: 404 pods "x" not found\nis there such an object')
    assert explain("/p", 500, "broken\n") == "GET /p: 500 broken"
    assert "role with get and list" in explain("/p", 403, status)
    assert "smi-mesh-traffic-tapper" in explain("/p/tap", 403, status)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["top", "spaceships"], "is not one of"),
        (["top", "pods", "x", "-l", "a=b"], "exclude each other"),
        (["topology", "splits"], "between services"),
    ],
)
def test_what_cannot_be_asked(words: list[str], complaint: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert complaint in result.output


def test_without_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = CliRunner().invoke(main, ["top", "pods", "-A"])
    assert result.exit_code == 1
    assert "kubectl is not on PATH" in result.output


def test_tapped_requests_as_text() -> None:
    request = {
        "time": 1.25, "pod": "shop/api-0", "peer": "shop/web-0", "direction": "inbound", "method": "GET",
        "path": "/\x1b[2J", "status": 503, "ms": 3.14, "reason": "overloaded", "service": "shop/api",
    }  # fmt: skip
    line = tap.text(request)
    assert line[8:] == ".250  web-0 -> api-0  GET /?[2J  503  3.1ms  server  reason=overloaded"
    sent = tap.text({**request, "direction": "outbound", "peer": "", "reason": "", "status": 0})
    assert "api-0 -> api  GET" in sent
    assert "no answer" in sent
    assert tap.read(b"\n") is None
    assert tap.remark({"note": "x\x07"}) == "Warning: x?"
    assert tap.remark({"dropped": 3}).startswith("Warning: 3 requests")
    assert tap.remark(request) == ""


@pytest.mark.parametrize("words", [["deploy"], ["spaceship/x"], ["split/x"], ["pod/x", "--from=a", "--to=b"]])
def test_what_cannot_be_tapped(words: list[str]) -> None:
    assert CliRunner().invoke(main, ["tap", *words]).exit_code == 2
