"""S1, R12: every version to every other and back, exactly."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.api import ConversionError, Parsed, convert, parse
from smi.api.convert import KEPT_ANNOTATION
from tests.smi.objects import (
    A_FEW,
    GROUPS,
    KIND_VERSIONS,
    VERSION_PAIRS,
    Doc,
    damaged_objects,
    objects_of,
    smi_object,
    split,
    versions_of,
)


@pytest.mark.parametrize(("kind", "here", "there"), VERSION_PAIRS)
@A_FEW
@given(data=st.data())
def test_s1_round_trip_is_exact(kind: str, here: str, there: str, data: st.DataObject) -> None:
    obj = data.draw(objects_of(kind, here))
    before = deepcopy(obj)
    abroad = convert(obj, there)
    assert abroad["apiVersion"].endswith(there)
    assert convert(abroad, here) == before
    assert obj == before


@cache
def ways(kind: str) -> st.SearchStrategy[list[str]]:
    return st.lists(versions_of(kind), min_size=2, max_size=5)


@pytest.mark.parametrize("kind", GROUPS)
@given(data=st.data())
def test_r12_nothing_is_lost_on_a_long_way(kind: str, data: st.DataObject) -> None:
    here, *stops, there = data.draw(ways(kind))
    obj = data.draw(objects_of(kind, here))
    abroad = obj
    for stop in [*stops, there]:
        abroad = convert(abroad, stop)
    assert convert(abroad, here) == obj
    assert abroad == convert(obj, there)


@pytest.mark.parametrize("kind", GROUPS)
@given(data=st.data())
def test_s1_an_object_means_the_same_in_every_version(kind: str, data: st.DataObject) -> None:
    obj = data.draw(objects_of(kind, data.draw(versions_of(kind))))
    one, other = parse(obj), parse(convert(obj, data.draw(versions_of(kind))))
    assert isinstance(one, Parsed), one
    assert isinstance(other, Parsed), other
    assert one.value == other.value


@pytest.mark.parametrize(("kind", "version"), KIND_VERSIONS)
@A_FEW
@given(data=st.data())
def test_conversion_does_not_judge(kind: str, version: str, data: st.DataObject) -> None:
    obj = data.draw(damaged_objects(kind, version))
    there = data.draw(versions_of(kind))
    convert(convert(obj, there), version)
    parse(obj)


FORGERIES: list[Any] = [
    None,
    1,
    -1,
    "x",
    [],
    [[]],
    [[["a"], {"x": 1}], 7],
    {},
    {"whole": None, "written": [1]},
    {"whole": [], "written": []},
    {"count": 1, "beside": "nothing"},
    {"destination": [[["ServiceAccount", None, "a"], 3]], "sources": 4},
]
FIELDS = ["weights", "matches", "destinationPort", "groups", "headers", "topLevel", "noSpec", "ports"]
forged = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(FORGERIES), max_size=3).map(
    json.dumps
) | st.sampled_from(["", "{", "[]", "null", "[" * 100_000])


@pytest.mark.parametrize(("kind", "version"), KIND_VERSIONS)
@A_FEW
@given(data=st.data())
def test_a_forged_annotation_harms_nobody(kind: str, version: str, data: st.DataObject) -> None:
    obj = data.draw(objects_of(kind, version))
    obj["metadata"]["annotations"] = {KEPT_ANNOTATION: data.draw(forged)}
    there = data.draw(versions_of(kind))
    convert(convert(obj, there), version)
    parse(obj)


def annotation(obj: Doc) -> Any:
    return json.loads(obj["metadata"]["annotations"][KEPT_ANNOTATION])


def test_s1_v1alpha1_weights_become_exact_whole_numbers() -> None:
    old = split(("a", "10m"), ("b", "100m"), ("c", "1500m"), version="v1alpha1")
    new = convert(old, "v1alpha4")
    assert [backend["weight"] for backend in new["spec"]["backends"]] == [10, 100, 1500]
    mixed = convert(split(("a", 1), ("b", "500m"), version="v1alpha1"), "v1alpha2")
    assert [backend["weight"] for backend in mixed["spec"]["backends"]] == [1000, 500]
    assert annotation(mixed) == {"weights": {"whole": [1000, 500], "written": [1, "500m"]}}


def test_whole_v1alpha1_weights_need_no_annotation() -> None:
    assert "annotations" not in convert(split(("a", 90), version="v1alpha1"), "v1alpha4")["metadata"]


def test_r12_an_edit_in_a_newer_version_counts() -> None:
    new = convert(split(("a", 1), ("b", "500m"), version="v1alpha1"), "v1alpha4")
    new["spec"]["backends"][1]["weight"] = 700
    old = convert(new, "v1alpha1")
    assert [backend["weight"] for backend in old["spec"]["backends"]] == [1000, 700]
    assert "annotations" not in old["metadata"]


def test_r12_an_old_client_that_moves_weights_keeps_the_matches() -> None:
    new = split(("a", 100), ("b", 0), matches=[{"kind": "HTTPRouteGroup", "name": "ab"}])
    old = convert(new, "v1alpha2")
    assert "matches" not in old["spec"]
    old["spec"]["backends"][1]["weight"] = 5
    assert convert(old, "v1alpha4")["spec"]["matches"] == new["spec"]["matches"]
    outcome = parse(old)
    assert isinstance(outcome, Parsed)
    assert outcome.value == parse_value(convert(old, "v1alpha4"))


def parse_value(obj: Doc) -> object:
    outcome = parse(obj)
    assert isinstance(outcome, Parsed)
    return outcome.value


def test_r12_destination_port_holds_in_versions_that_cannot_show_it() -> None:
    old = smi_object(
        "TrafficTarget",
        "v1alpha1",
        destination={"kind": "ServiceAccount", "name": "api", "port": 8080},
        specs=[{"kind": "TCPRoute", "name": "any"}],
        sources=[{"kind": "ServiceAccount", "name": "web"}],
    )
    new = convert(old, "access.smi-spec.io/v1alpha3")
    assert new["spec"]["destination"] == {"kind": "ServiceAccount", "name": "api"}
    assert new["spec"]["rules"] == old["specs"]
    assert parse_value(new).port == 8080  # type: ignore[attr-defined]  # a TrafficTarget


def test_r12_header_filters_survive_a_v1alpha1_client_that_adds_a_match() -> None:
    matches = [{"name": "ff", "headers": {"user-agent": "Firefox"}}, {"name": "all", "pathRegex": ".*"}]
    old = convert(smi_object("HTTPRouteGroup", "v1alpha4", spec={"matches": matches}), "v1alpha1")
    assert old["matches"] == [{"name": "ff"}, {"name": "all", "pathRegex": ".*"}]
    old["matches"].insert(0, {"name": "new", "pathRegex": "/new"})
    new = convert(old, "v1alpha4")
    assert new["spec"]["matches"] == [{"name": "new", "pathRegex": "/new"}, *matches]


def test_s2_top_level_matches_come_back_to_their_place() -> None:
    obj = smi_object("HTTPRouteGroup", "v1alpha3", matches=[{"name": "ff"}])
    old = convert(obj, "v1alpha2")
    assert old["matches"] == [{"name": "ff"}]
    assert convert(old, "v1alpha3") == obj


def test_ports_of_a_tcp_route_hold_in_versions_that_cannot_show_them() -> None:
    obj = smi_object("TCPRoute", "v1alpha4", spec={"matches": {"ports": [3306]}})
    for version in ("v1alpha1", "v1alpha2", "v1alpha3"):
        assert parse_value(convert(obj, version)).ports == (3306,)  # type: ignore[attr-defined]  # a TCPRoute


def test_s1_a_plain_tcp_route_gets_the_empty_spec_that_v1alpha3_shows() -> None:
    assert convert(smi_object("TCPRoute", "v1alpha1"), "v1alpha3")["spec"] == {}


@pytest.mark.parametrize(
    ("obj", "to", "words"),
    [
        ({}, "v1alpha4", "no apiVersion"),
        ({"apiVersion": "v1", "kind": "Pod"}, "v1", "Pod of v1 is not an SMI object"),
        (split(), "v1beta1", "no version 'v1beta1'"),
        (split(), "access.smi-spec.io/v1alpha1", "the group differs"),
        (split(version="v9"), "v1alpha4", "is not an SMI object this mesh knows"),
    ],
)
def test_what_cannot_be_converted_is_named(obj: Doc, to: str, words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        convert(obj, to)
