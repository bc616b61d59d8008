"""Patches: the RFCs' own examples, Kubernetes' directives, and properties."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.apiserver import patch
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.shapes import builtin_shape, custom_shape

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
POD = builtin_shape("V1PodSpec")


@pytest.mark.parametrize(
    ("target", "change", "result"),
    [  # RFC 7396, Appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, change: Any, result: Any) -> None:
    assert patch.merge(target, change) == result


@given(VALUES, VALUES)
def test_merge_patch_is_idempotent_and_changes_no_argument(target: Any, change: Any) -> None:
    before = copy.deepcopy((target, change))
    once = patch.merge(target, change)
    assert (target, change) == before
    if isinstance(change, dict):
        assert patch.merge(once, change) == once


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [  # RFC 6902, Appendix A
        ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"baz": "qux", "foo": "bar"}),
        (
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
        ),
        ({"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}),
        ({"foo": ["bar", "qux", "baz"]}, [{"op": "remove", "path": "/foo/1"}], {"foo": ["bar", "baz"]}),
        ({"baz": "qux"}, [{"op": "replace", "path": "/baz", "value": "boo"}], {"baz": "boo"}),
        (
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
        ),
        (
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
        ),
        ({"foo": ["bar"]}, [{"op": "add", "path": "/foo/-", "value": ["abc"]}], {"foo": ["bar", ["abc"]]}),
        ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
        ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
    ],
)
def test_json_patch(document: Any, operations: Any, result: Any) -> None:
    before = copy.deepcopy(document)
    assert patch.json_patch(document, operations) == result
    assert document == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": True},
        {"op": "remove", "path": "/none"},
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "add", "path": "/list/5", "value": 1},
        {"op": "add", "path": "/list/01", "value": 1},
        {"op": "remove", "path": "/list/-"},
        {"op": "add", "path": "/a/b", "value": 1},
    ],
)
def test_json_patch_that_does_not_apply(operation: Any) -> None:
    with pytest.raises(ApiError) as refused:
        patch.json_patch({"a": 1, "list": [1]}, [operation])
    assert refused.value.code == 422


@pytest.mark.parametrize(
    "operations", [{}, [1], [{"op": "jump", "path": "/a"}], [{"op": "add", "path": "a"}]]
)
def test_json_patch_that_is_none(operations: Any) -> None:
    with pytest.raises(ApiError) as refused:
        patch.json_patch({"a": 1}, operations)
    assert refused.value.code == 400


def containers(*names: str) -> dict[str, Any]:
    return {"containers": [{"name": name, "image": f"{name}:1"} for name in names]}


def names(spec: dict[str, Any]) -> list[str]:
    return [container["name"] for container in spec["containers"]]


def test_lists_merge_by_key() -> None:
    result = patch.strategic(containers("a", "b"), {"containers": [{"name": "b", "image": "b:2"}]}, POD)
    assert result == {"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]}


def test_delete_and_replace_directives() -> None:
    target = containers("a", "b")
    assert names(patch.strategic(target, {"containers": [{"name": "a", "$patch": "delete"}]}, POD)) == ["b"]
    replaced = patch.strategic(target, {"containers": [{"$patch": "replace"}, {"name": "z"}]}, POD)
    assert replaced == {"containers": [{"name": "z"}]}
    assert patch.strategic({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"$patch": "delete"}}, POD) == {
        "nodeSelector": {}
    }


def test_element_order_keeps_unknown_items_in_their_place() -> None:
    change = {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "c:1"}],
    }
    before = {"containers": [{"name": "first"}, {"name": "a"}, {"name": "server-side"}]}
    assert names(patch.strategic(before, change, POD)) == ["c", "first", "a", "server-side"]


def test_retain_keys_switches_a_union() -> None:
    target = {"volumes": [{"name": "v", "emptyDir": {}}]}
    change = {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}
    assert patch.strategic(target, change, POD) == {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}


def test_sets_of_scalars() -> None:
    meta = builtin_shape("V1ObjectMeta")
    target = {"finalizers": ["a", "b"]}
    assert patch.strategic(target, {"finalizers": ["b", "c"]}, meta) == {"finalizers": ["a", "b", "c"]}
    assert patch.strategic(target, {"$deleteFromPrimitiveList/finalizers": ["a"]}, meta) == {
        "finalizers": ["b"]
    }


def test_lists_without_a_key_are_replaced() -> None:
    target = {"tolerations": [{"key": "a"}]}
    assert patch.strategic(target, {"tolerations": [{"key": "b"}]}, POD) == {"tolerations": [{"key": "b"}]}


def test_custom_lists_merge_by_their_annotations() -> None:
    item = {"type": "object", "properties": {"name": {"type": "string"}}}
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": item,
    }
    shape = custom_shape({"properties": {"backends": keyed, "plain": {"type": "array", "items": item}}})
    target = {"backends": [{"name": "a", "w": 1}], "plain": [{"name": "a"}]}
    change = {"backends": [{"name": "b", "w": 2}], "plain": [{"name": "b"}]}
    assert patch.strategic(target, change, shape) == {
        "backends": [{"name": "a", "w": 1}, {"name": "b", "w": 2}],
        "plain": [{"name": "b"}],
    }


@given(VALUES)
def test_strategic_without_rules_is_a_merge_patch(change: Any) -> None:
    target = {"a": {"b": 1}, "c": [1]}
    if isinstance(change, dict):
        assert patch.strategic(target, change, patch.OPAQUE) == patch.merge(target, change)
