"""When an object is what an assertion asks for: KUTTL's subset rule, by example and by property."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.kuttl.match import difference, identity, matching, mismatch, project

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "1", "true"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)


@pytest.mark.parametrize(
    ("expected", "actual", "reason"),
    [
        ({}, {"a": 1}, None),
        ({"a": {}}, {"a": {"b": 1}}, None),
        ({"a": 1}, {"a": 1.0}, None),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1, "y": 2}]}, None),
        ({"a": None}, {"a": None}, None),
        ({"a": 1}, {}, ".a: expected 1, it is not there"),
        ({"a": None}, {}, ".a: expected null, it is not there"),
        ({"a": 1}, {"a": "1"}, ".a: expected number 1, found string '1'"),
        ({"a": 1}, {"a": True}, ".a: expected number 1, found boolean true"),
        ({"a": {"b": 1}}, {"a": None}, ".a: expected object {b: 1}, found null"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ".a: expected 2 elements, found 3"),
        ({"a": []}, {"a": [1]}, ".a: expected 0 elements, found 1"),
        ({"a": [1, 2]}, {"a": [2, 1]}, ".a[0]: expected 1, found 2"),
        ({"a": [{"x": 1}, {"x": 2}]}, {"a": [{"x": 1}, {"x": 3}]}, ".a[1].x: expected 2, found 3"),
    ],
)
def test_what_is_named_must_be_there(expected: Any, actual: Any, reason: str | None) -> None:
    found = mismatch(expected, actual)
    assert (None if found is None else str(found)) == reason


@given(JSON)
def test_everything_matches_itself(value: Any) -> None:
    assert mismatch(value, copy.deepcopy(value)) is None


@given(OBJECTS, OBJECTS)
def test_more_fields_make_no_difference(expected: dict[str, Any], more: dict[str, Any]) -> None:
    assert mismatch(expected, {**more, **expected}) is None


@given(OBJECTS, st.data())
def test_a_missing_field_always_does(actual: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted({"e", *actual})))
    less = {name: value for name, value in actual.items() if name != key}
    assert mismatch({**actual, key: actual.get(key)}, less) is not None


@given(JSON, JSON, JSON)
def test_matching_is_transitive(one: Any, two: Any, three: Any) -> None:
    if mismatch(one, two) is None and mismatch(two, three) is None:
        assert mismatch(one, three) is None


@given(JSON, JSON)
def test_what_is_left_of_a_match_is_the_expectation(expected: Any, actual: Any) -> None:
    """`project` is what the printed difference is made of: it is empty exactly for a match."""
    matches = mismatch(expected, actual) is None
    assert matches == (strict(project(expected, actual)) == strict(expected))


def strict(value: Any) -> Any:
    """Python thinks that True is 1."""
    if isinstance(value, dict):
        return {key: strict(part) for key, part in value.items()}
    if isinstance(value, list):
        return [strict(part) for part in value]
    return (type(value).__name__, value)


def test_the_difference_shows_only_what_is_asserted() -> None:
    expected = {"kind": "Deployment", "status": {"readyReplicas": 2}}
    actual = {"kind": "Deployment", "spec": {"replicas": 2}, "status": {"readyReplicas": 1, "replicas": 2}}
    assert difference(expected, actual, "Deployment x/web").splitlines() == [
        "--- Deployment x/web (expected)",
        "+++ Deployment x/web (found)",
        "@@ -1,3 +1,3 @@",
        " kind: Deployment",
        " status:",
        "-  readyReplicas: 2",
        "+  readyReplicas: 1",
    ]


def test_a_huge_difference_is_cut() -> None:
    wanted, there = {"a": list(range(500))}, {"a": [-number - 1 for number in range(500)]}
    lines = difference(wanted, there, "x").splitlines()
    assert len(lines) == 201
    assert lines[-1].endswith("more lines")


def test_any_of_several_may_match() -> None:
    pods = [{"status": {"phase": "Pending"}}, {"status": {"phase": "Running"}, "x": 1}]
    assert matching({"status": {"phase": "Running"}}, pods) == [pods[1]]
    assert matching({"status": {"phase": "Failed"}}, pods) == []


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ({"kind": "Pod", "metadata": {"name": "a", "namespace": "n"}}, "Pod n/a"),
        ({"kind": "Pod", "metadata": {"namespace": "n"}}, "Pod n/(any)"),
        ({"kind": "Node"}, "Node (any)"),
    ],
)
def test_objects_are_called_by_kind_and_name(obj: Any, text: str) -> None:
    assert identity(obj) == text
