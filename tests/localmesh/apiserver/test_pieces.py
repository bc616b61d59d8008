"""Small pure parts: selectors, JSON paths, durations, names, structural schemas, service addresses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.apiserver import expiry, options, paths, podstatus, structural, tables
from localmesh.apiserver.assemble import assemble
from localmesh.apiserver.discovery import resource_list
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.jsonpath import JsonPath, JsonPathError
from localmesh.apiserver.negotiation import choose_shape, read_yaml, wants_aggregated_discovery
from localmesh.apiserver.registry import version_priority
from localmesh.apiserver.selectors import from_json, parse_labels
from localmesh.apiserver.store import Item, Key, Store

LABELS = {"app": "web", "tier": "front"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=back", True),
        ("app in (web, api)", True),
        ("app notin (api),other notin (x)", True),
        ("app,!other", True),
        ("app=api", False),
        ("other", False),
        ("!app", False),
        ("app in (api)", False),
        ("tier!=front", False),
    ],
)
def test_label_selectors(selector: str, expected: bool) -> None:
    assert parse_labels(selector).matches(LABELS) is expected


@pytest.mark.parametrize("selector", ["a===b", "a in b", "a in (b", "=a", "a b", "a=b;c", "(", "a,,b"])
def test_bad_label_selectors(selector: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_labels(selector)
    assert refused.value.code == 400


@given(st.text(max_size=20))
def test_no_label_selector_fails_otherwise(text: str) -> None:
    try:
        parse_labels(text).matches(LABELS)
    except ApiError as error:
        assert error.code == 400  # noqa: PT017 - either outcome is right


def test_selector_objects() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["front"]},
        {"key": "x", "operator": "DoesNotExist"},
    ]
    assert from_json({"matchLabels": {"app": "web"}, "matchExpressions": expressions}).matches(LABELS)
    assert not from_json(
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}
    ).matches(LABELS)
    assert from_json({}).matches({})


def test_json_paths() -> None:
    obj = {
        "spec": {"replicas": 3, "a.b": "dotted", "list": [{"n": 1}, {"n": 2}]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
    }
    assert JsonPath(".spec.replicas").find(obj) == [3]
    assert JsonPath("{.spec['a.b']}").find(obj) == ["dotted"]
    assert JsonPath(".spec.list[*].n").text(obj) == "1,2"
    assert JsonPath(".spec.list[-1].n").find(obj) == [2]
    assert JsonPath('.status.conditions[?(@.type=="Ready")].status').find(obj) == ["True"]
    assert JsonPath(".spec.none.deeper").find(obj) == []
    with pytest.raises(JsonPathError):
        JsonPath(".spec[")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (150, "2m30s"), (600, "10m"), (3600 * 3, "3h"),
        (3600 * 3 + 60, "3h1m"), (3600 * 10, "10h"), (86400 * 2, "2d"), (86400 * 3 + 7200, "3d2h"),
        (86400 * 30, "30d"), (86400 * 800, "2y70d"), (86400 * 3650, "10y"),
    ],
)  # fmt: skip
def test_durations(seconds: int, text: str) -> None:
    assert tables.duration(seconds) == text


def test_go_durations() -> None:
    assert options.duration("5m34s") == 334
    assert options.duration("1h") == 3600
    assert options.duration("soon") is None


def test_versions_in_order_of_preference() -> None:
    given_versions = ["v1alpha1", "v1", "v2beta1", "v2", "v1beta2", "other"]
    expected = ["v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "other"]
    assert sorted(given_versions, key=version_priority) == expected


def test_paths() -> None:
    found = paths.parse("/apis/apps/v1/namespaces/shop/deployments/web/scale")
    assert found == paths.ResourcePath("apps", "v1", "deployments", "shop", "web", "scale")
    assert paths.parse("/api/v1/namespaces/shop") == paths.ResourcePath("", "v1", "namespaces", "", "shop")
    assert paths.parse("/api/v1/namespaces/shop/finalize") == paths.ResourcePath(
        "", "v1", "namespaces", "", "shop", "finalize"
    )
    assert paths.parse("/apis/apps/v1") is None
    assert paths.parse("/version") is None


def test_negotiation() -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert choose_shape(table).view == "Table"
    assert choose_shape("application/vnd.kubernetes.protobuf,application/json").view == ""
    assert choose_shape("application/json;as=Unknown;g=x,application/json").view == ""
    with pytest.raises(ApiError):
        choose_shape("application/vnd.kubernetes.protobuf")
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    assert wants_aggregated_discovery(aggregated) == "v2"
    assert wants_aggregated_discovery("application/json") is None
    assert read_yaml(b"when: 2026-01-01\nok: true") == {"when": "2026-01-01", "ok": True}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                "size": {"type": "integer", "minimum": 1, "maximum": 5},
                "name": {"type": "string", "pattern": "^x", "maxLength": 3},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "choice": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": True,
                    "oneOf": [{"required": ["l"]}, {"required": ["r"]}],
                },
                "either": {"x-kubernetes-int-or-string": True},
                "maybe": {"type": "string", "nullable": True},
                "when": {"type": "string", "format": "date-time"},
            },
        }
    },
}


def check(**spec: Any) -> list[tuple[str, str]]:
    return [(cause.reason, cause.field) for cause in structural.validate({"spec": spec}, SCHEMA)]


def test_structural_validation() -> None:
    assert check(mode="a", size=5, either="50%", maybe=None, when="2026-01-01T00:00:00Z") == []
    assert check(mode="c") == [("FieldValueNotSupported", "spec.mode")]
    assert check(size=0) == [("FieldValueInvalid", "spec.size")]
    assert check(size="1") == [("FieldValueTypeInvalid", "spec.size")]
    assert check(size=True) == [("FieldValueTypeInvalid", "spec.size")]
    assert check(name="abcd") == [("FieldValueTooLong", "spec.name"), ("FieldValueInvalid", "spec.name")]
    assert check(tags={"k": 1}) == [("FieldValueTypeInvalid", "spec.tags.k")]
    assert check(choice={}) == [("FieldValueInvalid", "spec.choice")]
    assert check(choice={"l": 1, "r": 1}) == [("FieldValueInvalid", "spec.choice")]
    assert check(choice={"l": 1}) == []
    assert check(either=1.5) == [("FieldValueTypeInvalid", "spec.either")]
    assert check(when="yesterday") == [("FieldValueInvalid", "spec.when")]
    missing = structural.validate({}, SCHEMA)
    assert [(cause.reason, cause.field) for cause in missing] == [("FieldValueRequired", "spec")]


def test_structural_prune_and_default() -> None:
    unknown: list[str] = []
    obj = {"kind": "K", "metadata": {}, "spec": {"x": 1, "choice": {"any": 1}, "size": None}, "more": 1}
    pruned = structural.prune(obj, SCHEMA, unknown.append)
    assert sorted(unknown) == ["more", "spec.x"]
    structural.fill_defaults(pruned, SCHEMA)
    assert pruned == {"kind": "K", "metadata": {}, "spec": {"choice": {"any": 1}, "mode": "a"}}


async def test_service_addresses_are_unique_and_come_back() -> None:
    core = assemble(Store(), service_cidr="10.96.0.0/28")
    await core.bootstrap()
    api = core.api
    given_addresses = []
    for number in range(12):
        spec = {"ports": [{"port": 80}], "type": "NodePort" if number < 3 else "ClusterIP"}
        made = await api.create("services", "default", {"metadata": {"name": f"s{number}"}, "spec": spec})
        given_addresses.append(made["spec"]["clusterIP"])
        assert ("nodePort" in made["spec"]["ports"][0]) is (number < 3)
    assert len(set(given_addresses)) == 12
    assert "10.96.0.1" not in given_addresses
    for number in range(12, 14):
        spec = {"ports": [{"port": 80}]}
        try:
            await api.create("services", "default", {"metadata": {"name": f"s{number}"}, "spec": spec})
        except ApiError as full:
            assert "no free address" in full.message  # noqa: PT017 - the range ends in this loop
            break
    await api.delete("services", "default", "s3")
    again = await api.create(
        "services", "default", {"metadata": {"name": "z"}, "spec": {"ports": [{"port": 1}]}}
    )
    assert again["spec"]["clusterIP"] == given_addresses[3]
    taken = {"metadata": {"name": "t"}, "spec": {"clusterIP": given_addresses[0], "ports": [{"port": 1}]}}
    with pytest.raises(ApiError) as refused:
        await api.create("services", "default", taken)
    assert "already allocated" in refused.value.message
    headless = await api.create(
        "services",
        "default",
        {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}},
    )
    assert headless["spec"]["clusterIPs"] == ["None"]
    await core.close()


async def test_discovery_lists_subresources() -> None:
    core = assemble(Store())
    rows = (resource_list(core.rest.registry, "apps", "v1") or {})["resources"]
    names = {row["name"] for row in rows}
    assert {"deployments", "deployments/scale", "deployments/status"} <= names
    await core.close()


def test_pod_status_words() -> None:
    def pod(**status: Any) -> dict[str, Any]:
        spec = {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}
        return {"metadata": {}, "spec": spec, "status": {"phase": "Pending", **status}}

    waiting = {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3}
    running = {"name": "c", "state": {"running": {}}, "ready": True, "restartCount": 0}
    unfinished = {"name": "i", "state": {"running": {}}}
    finished = {"name": "i", "state": {"terminated": {"exitCode": 0}}}
    assert podstatus.summarise(pod()).reason == "Pending"
    assert podstatus.summarise(pod(initContainerStatuses=[unfinished])).reason == "Init:0/1"
    crashed = podstatus.summarise(pod(containerStatuses=[waiting], initContainerStatuses=[finished]))
    assert (crashed.reason, crashed.restarts) == ("CrashLoopBackOff", 3)
    fine = podstatus.summarise(pod(phase="Running", containerStatuses=[running]))
    assert (fine.reason, fine.ready, fine.total) == ("Running", 1, 1)


def test_old_events_expire() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)

    def event(number: int, age: timedelta) -> Item:
        stamp = (now - age).strftime("%Y-%m-%dT%H:%M:%SZ")
        value = {"metadata": {"creationTimestamp": stamp}, "lastTimestamp": stamp}
        return Item(Key("default", str(number)), number, value, b"")

    items = [event(1, timedelta(hours=2)), event(2, timedelta(minutes=5))]
    assert [item.revision for item in expiry.expired(items, now)] == [1]
    many = [event(number, timedelta()) for number in range(expiry.MOST + 3)]
    assert [item.revision for item in expiry.expired(many, now)] == [0, 1, 2]
