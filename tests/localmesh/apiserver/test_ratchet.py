"""What an update may leave wrong, and which fields it may repeat."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from localmesh.apiserver import ratchet, rules, structural
from localmesh.apiserver.negotiation import repeated_fields

from .conftest import Client

RULE = {"x-kubernetes-validations": [{"rule": "self.low <= self.high", "message": "upside down"}]}
NAMED = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "size": {"type": "integer", "maximum": 3}},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["mode"],
            "properties": {
                "mode": {"type": "string", "enum": ["a", "b"]},
                "note": {"type": "string", "maxLength": 3},
                "range": {
                    "type": "object",
                    "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
                    **RULE,
                },
                "keyed": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": NAMED,
                },
                "plain": {"type": "array", "items": NAMED},
            },
        }
    },
}


def faults(new: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """Fields at fault in an update."""
    node = rules.read(SCHEMA)
    assert node is not None
    causes = ratchet.new_faults(structural.validate(new, SCHEMA), new, old, SCHEMA)
    return [cause.field for cause in [*causes, *rules.broken(new, node, old)]]


OLD = {
    "spec": {
        "mode": "z",
        "note": "long",
        "range": {"low": 2, "high": 1},
        "keyed": [{"name": "x", "size": 9}, {"name": "y", "size": 1}],
        "plain": [{"name": "x", "size": 9}],
    }
}


def test_nothing_that_stays_is_refused() -> None:
    assert faults(copy.deepcopy(OLD), OLD) == []
    grown = copy.deepcopy(OLD)
    grown["spec"]["keyed"] = [{"name": "new", "size": 2}, *OLD["spec"]["keyed"]]  # type: ignore[misc]  # JSON
    assert faults(grown, OLD) == [], "an item with a key may move"


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        ("mode", "y", "spec.mode"),
        ("note", "longer", "spec.note"),
        ("range", {"low": 3, "high": 1}, "spec.range"),
        ("keyed", [{"name": "x", "size": 8}], "spec.keyed[0].size"),
        ("keyed", [{"name": "z", "size": 9}], "spec.keyed[0].size"),
        ("plain", [{"name": "x", "size": 9}, {"name": "y"}], "spec.plain[0].size"),
    ],
)
def test_what_changes_must_be_right(field: str, value: Any, wrong: str) -> None:
    new = copy.deepcopy(OLD)
    new["spec"][field] = value
    assert faults(new, OLD) == [wrong]


def test_rules_about_change_are_always_asked() -> None:
    schema = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}
    node = rules.read(schema)
    assert node is not None
    assert len(list(rules.broken(1, node, 1))) == 1


def test_what_is_missing_may_stay_so_while_nothing_beside_it_changes() -> None:
    old = {"spec": {"note": "a"}}
    assert faults(copy.deepcopy(old), old) == []
    assert faults({"spec": {"note": "b"}}, old) == ["spec.mode"]


def test_repeated_fields_have_their_paths() -> None:
    body = b'{"a":1,"b":[{"c":1,"d":2,"c":3}],"a":{"e":1,"e":2,"e":3}}'
    assert repeated_fields(body) == ["a", "a.e", "b[0].c"]
    assert repeated_fields(b'{"a":{"b":1},"c":{"b":1}}') == []


async def test_repeated_fields_are_told_as_asked(call: Client) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    body = '{"metadata":{"name":"cm"},"data":{"a":"1","a":"2"}}'
    strict = await call("POST", f"{path}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert strict.body["message"].endswith('strict decoding error: duplicate field "data.a"')
    warned = await call("POST", path, body)
    assert (warned.status, warned.body["data"]) == (201, {"a": "2"})
    assert warned.headers["Warning"] == '299 - "duplicate field \\"data.a\\""'
    patch = '{"data":{"b":"1","b":"2"}}'
    merge = "application/merge-patch+json"
    refused = await call("PATCH", f"{path}/cm?fieldValidation=Strict", patch, content_type=merge)
    assert refused.status == 400
    assert (await call("PATCH", f"{path}/cm?fieldValidation=Ignore", patch, content_type=merge)).status == 200
