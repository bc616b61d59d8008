"""What is predicted for those who come from another mesh, and what the predictions rest on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from conformance.case import Case, Level
from conformance.collect import Entry, collect
from conformance.command import build
from conformance.predict import Forecast, PeerError, page, parse, predict, read

RULES = """
kind: TrafficTarget
apiVersion: access.smi-spec.io/v1alpha3
metadata: {name: x}
spec:
  rules:
"""
PEERS = """
peers:
- name: other
  title: Other Mesh
  read: its source
  features: [split-weights, access-http]
  behaviours:
  - {there: a | b, here: c, todo: d, source: e, cases: [odd]}
  - {there: f, here: g, todo: h, source: i, cases: [], shows: http-rule-without-matches}
"""


async def nothing(_: Any) -> None:
    return None


def entry(name: str, feature: str, manifest: str = "", level: Level = Level.CORE, **fields: Any) -> Entry:
    return Entry(Case(name, feature, level, nothing, rules=("S1",), **fields), manifest, name)


ENTRIES = [
    entry("plain", "split-weights"),
    entry("odd", "split-ports"),
    entry("missing", "split-udp"),
    entry("needy", "split-weights", needs=("split-udp",)),
    entry("silent", "split-weights", level=Level.IMPLEMENTATION),
    entry("open-rule", "access-http", RULES + "  - {kind: HTTPRouteGroup, name: r}"),
    entry("narrow-rule", "access-http", RULES + "  - {kind: HTTPRouteGroup, name: r, matches: [m]}"),
    entry("tcp-rule", "access-http", RULES + "  - {kind: TCPRoute, name: r}"),
]
NAMES = [item.case.name for item in ENTRIES]


def forecasts(text: str = PEERS) -> dict[str, Forecast]:
    (peer,) = parse(text, NAMES)
    return {found.case.name: found.forecast for found in predict(peer, ENTRIES)}


def test_a_behaviour_goes_before_what_is_claimed() -> None:
    assert forecasts() == {
        "plain": Forecast.SAME,
        "odd": Forecast.DIFFERENT,
        "missing": Forecast.UNCLAIMED,
        "needy": Forecast.UNCLAIMED,
        "silent": Forecast.OPEN,
        "open-rule": Forecast.DIFFERENT,
        "narrow-rule": Forecast.SAME,
        "tcp-rule": Forecast.SAME,
    }


def test_a_behaviour_shows_in_manifests() -> None:
    found = forecasts(PEERS.replace("http-rule-without-matches", "tcp-or-udp-rule"))
    assert (found["tcp-rule"], found["open-rule"]) == (Forecast.DIFFERENT, Forecast.SAME)


def test_the_page_says_what_to_do_and_where_it_is_from() -> None:
    lines = page(parse(PEERS, NAMES), ENTRIES).splitlines()
    assert "| Other Mesh | 3 | 2 | 2 | 1 |" in lines
    assert "| a \\| b | c | d | odd | e |" in lines
    assert "| f | g | h | 1 more | i |" in lines
    unclaimed = "UDP flows are shared by weight; requests are shared among backends by weight"
    assert f"Not claimed there: {unclaimed}." in lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cases: [odd]", "cases: [nobody]"), "other: there is no case nobody"),
        (("split-weights, access-http", "split-nothing"), "unknown features split-nothing"),
        (("features: [split-weights, access-http]", "profile: nobody"), "nobody"),
        (("features: [split-weights, access-http]", "title: x"), "peers.yaml"),
        (("source: e, ", ""), "Field required"),
        (("peers:", "meshes:"), "peers"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(change: tuple[str, str], message: str) -> None:
    assert change[0] in PEERS
    with pytest.raises(PeerError) as caught:
        parse(PEERS.replace(*change, 1), NAMES)
    assert message in str(caught.value)


def test_every_mesh_has_documented_differences() -> None:
    entries = collect()
    peers = read(entries)
    assert [peer.name for peer in peers] == ["osm", "linkerd", "traefik-mesh", "nginx", "istio-adapter"]
    for peer in peers:
        found = [item.forecast for item in predict(peer, entries)]
        assert len(found) == len(entries)
        assert Forecast.SAME in found
        assert Forecast.DIFFERENT in found


def test_the_command_lists_every_case() -> None:
    run = CliRunner().invoke(build(None), ["predict", "--from", "osm", "--output", "json"])
    rows = {row["case"]: row for row in json.loads(run.output)}
    assert len(rows) == len(collect())
    assert rows["access/matches-omitted"]["forecast"] == "different"
    assert rows["access/matches-omitted"]["source"].endswith("routesFromRules")
    table = CliRunner().invoke(build(None), ["predict", "--from", "linkerd"]).output.splitlines()
    assert len(table) == len(rows) + 1
    assert table[-1].endswith("not measured")
    wrong = CliRunner().invoke(build(None), ["predict", "--from", "nobody"])
    assert wrong.exit_code == 2
    assert "expected osm, linkerd" in wrong.output
