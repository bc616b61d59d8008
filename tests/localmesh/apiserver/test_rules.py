"""CEL rules: the language as far as definitions in the wild use it, and what is said about the rest."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from localmesh.apiserver import rules

from .conftest import Client

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def judged(schema: dict[str, Any], value: Any, old: Any = None) -> list[tuple[str, str, str]]:
    node = rules.read(schema)
    assert node is not None
    return [(cause.reason, cause.field, cause.message) for cause in rules.broken(value, node, old)]


def ruled(rule: str, **more: Any) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, **more}]}


HOLDS = [
    ("has(self.a) != has(self.b)", {"a": 1}, {"a": 1, "b": 2}),
    ("!has(self.a) || self.a.b > 1", {"c": 1}, {"a": {"b": 1}}),
    ("self.items.all(i, i.weight >= 0)", {"items": [{"weight": 0}]}, {"items": [{"weight": -1}]}),
    ("self.items.exists_one(i, i == 'x')", {"items": ["x", "y"]}, {"items": ["x", "x"]}),
    ("self.name.matches('^[a-z]+$')", {"name": "abc"}, {"name": "A"}),
    ("size(self.items) <= 1", {"items": ["x"]}, {"items": ["x", "y"]}),
    ("self.kind in ['a', 'b']", {"kind": "a"}, {"kind": "c"}),
    ("self.host.split('.').size() > 1", {"host": "a.b"}, {"host": "a"}),
    ("self.host.lowerAscii() == self.host", {"host": "ä.b"}, {"host": "A"}),
    ("self.host.find('[0-9]+') == '12'", {"host": "a12b34"}, {"host": "a1"}),
    ("self.host.substring(1, 2) == 'b'", {"host": "abc"}, {"host": "b"}),
    ("self.host.replace('a', 'b').trim() == 'b'", {"host": " a "}, {"host": "c"}),
    ("self.weights.sum() == 100", {"weights": [90, 10]}, {"weights": [1]}),
    ("self.weights.isSorted() && self.weights.max() < 3", {"weights": [1, 2]}, {"weights": [2, 1]}),
    ("isURL(self.url)", {"url": "http://x/y"}, {"url": "x"}),
    ("isIP(self.ip) && !isCIDR(self.ip)", {"ip": "10.0.0.1"}, {"ip": "10.0.0.0/8"}),
    ("self.if__dash__x == 1", {"if-x": 1}, {"if-x": 2}),
    ("self.__namespace__ == 'a'", {"namespace": "a"}, {"namespace": "b"}),
]


@pytest.mark.parametrize(("rule", "good", "bad"), HOLDS, ids=[row[0] for row in HOLDS])
def test_a_rule_holds_or_does_not(rule: str, good: Any, bad: Any) -> None:
    schema = {"type": "object", "properties": {"if-x": {}, "namespace": {}}, **ruled(rule, message="no")}
    assert judged(schema, good) == []
    assert judged(schema, bad) == [("FieldValueInvalid", "<nil>", "Invalid value: no")]


def test_values_have_the_types_of_their_schema() -> None:
    """A time compares as a time, a duration as one, and a whole number of type number is a double."""
    schema = {
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "every": {"type": "string", "format": "duration"},
            "share": {"type": "number"},
        },
        **ruled("self.at < timestamp('2030-01-01T00:00:00Z') && self.every <= duration('60m') && "
                "type(self.share) == double"),
    }  # fmt: skip
    assert judged(schema, {"at": "2026-11-21T09:00:00+01:00", "every": "1h", "share": 1}) == []
    assert judged(schema, {"at": "2031-01-01T00:00:00Z", "every": "1h", "share": 1}) != []


def test_a_rule_tells_where_and_why() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                **ruled("self.max > 1", reason="FieldValueForbidden", fieldPath=".max",
                        messageExpression="'max is ' + string(self.max)"),
            },
            "list": {"type": "array", "items": {"type": "object", **ruled("self.a == self.b")}},
        },
    }  # fmt: skip
    assert judged(schema, {"spec": {"max": 1}, "list": [{"a": 1, "b": 1}, {"a": 1}]}) == [
        ("FieldValueForbidden", "spec.max", "Forbidden: max is 1"),
        (
            "FieldValueInvalid",
            "list[1]",
            'Invalid value: "object": no such key: b evaluating rule: failed rule: self.a == self.b',
        ),
    ]


def test_rules_about_change_see_the_value_before() -> None:
    keyed = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", **ruled("self.v >= oldSelf.v", message="shrinks")},
    }
    schema = {"type": "object", "properties": {"list": keyed}}
    before = {"list": [{"name": "a", "v": 1}, {"name": "b", "v": 5}]}
    after = {"list": [{"name": "b", "v": 4}, {"name": "new", "v": 0}]}
    assert judged(schema, after) == []
    assert judged(schema, after, before) == [("FieldValueInvalid", "list[0]", "Invalid value: shrinks")]
    unkeyed = copy.deepcopy(schema)
    del unkeyed["properties"]["list"]["x-kubernetes-list-type"]
    assert judged(unkeyed, after, before) == []


def test_an_optional_old_self_is_asked_at_creation_too() -> None:
    rule = "oldSelf.hasValue() || self == 'new'"
    schema = {"type": "string", **ruled(rule, optionalOldSelf=True)}
    assert judged(schema, "new") == []
    assert len(judged(schema, "other")) == 1
    assert judged(schema, "other", "new") == []


async def test_definitions_are_told_about_their_rules(call: Client) -> None:
    """A broken expression is refused, an unsupported one is warned about and not checked."""

    def definition(rule: str) -> dict[str, Any]:
        schema = {"type": "object", "properties": {"spec": {"type": "object", **ruled(rule)}}}
        schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = True  # type: ignore[index]  # JSON
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        names = {"plural": "things", "kind": "Thing"}
        return {
            "metadata": {"name": "things.demo.io"},
            "spec": {"group": "demo.io", "scope": "Cluster", "names": names, "versions": [version]},
        }

    refused = await call("POST", CRDS, definition("self.a >"))
    assert refused.status == 422
    place = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]"
    assert f"{place}.rule: Invalid value" in refused.body["message"]
    assert "compilation failed" in refused.body["message"]
    taken = await call("POST", CRDS, definition("quantity(self.a).isGreaterThan(quantity('1'))"))
    assert taken.status == 201
    assert f"{place} is not checked: localmesh does not support the function" in taken.headers["Warning"]
    thing = {"apiVersion": "demo.io/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": {"a": "0"}}
    things = "/apis/demo.io/v1/things"
    async with asyncio.timeout(5):
        while (answer := await call("POST", things, thing)).status == 404:  # noqa: ASYNC110 - the condition is remote
            await asyncio.sleep(0)  # until it is served
    assert answer.status == 201
