"""S1-S3: the tolerant reader."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.api import Parsed, Rejected, parse
from smi.api.hub import (
    HTTPMatch,
    HTTPRouteGroup,
    IdentityBinding,
    RouteRef,
    SmiObject,
    Subject,
    TrafficSplit,
    TrafficTarget,
    WeightedService,
)
from smi.api.quantity import QuantityError, parse_quantity
from smi.findings import Finding, Reason, Severity
from tests.smi.objects import Doc, json_objects, smi_object, split


def value(obj: Doc) -> Any:
    outcome = parse(obj)
    assert isinstance(outcome, Parsed), outcome
    return outcome.value


def refusal(obj: Doc) -> Finding:
    outcome = parse(obj)
    assert isinstance(outcome, Rejected), outcome
    assert all(finding.severity is Severity.ERROR for finding in outcome.findings)
    return outcome.findings[0]


def test_metadata_of_every_object() -> None:
    obj = split(("a", 1))
    obj["metadata"] |= {"uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}
    obj["metadata"]["annotations"] = {"team": "shop"}
    read: SmiObject = value(obj)
    assert (read.uid, read.generation, read.created) == ("u", 3, "2026-01-01T00:00:00Z")
    assert read.annotations == {"team": "shop"}
    assert str(read.key) == "shop/thing"
    assert str(read.ref) == "TrafficSplit shop/thing"
    assert read.ref.group == "split.smi-spec.io"


def test_a_split_of_the_latest_version() -> None:
    assert value(
        split(("a", 90), ("b", 10), matches=[{"kind": "HTTPRouteGroup", "name": "g"}])
    ) == TrafficSplit(
        namespace="shop",
        name="thing",
        service="api",
        backends=(WeightedService("a", 90), WeightedService("b", 10)),
        matches=(RouteRef("HTTPRouteGroup", "g"),),
    )


@pytest.mark.parametrize("matches", [None, []])
def test_an_empty_list_of_matches_is_no_filter(matches: object) -> None:
    assert value(split(("a", 1), matches=matches)).matches is None


def test_s1_v1alpha1_target_has_its_fields_at_top_level() -> None:
    obj = smi_object(
        "TrafficTarget",
        "v1alpha1",
        destination={"kind": "ServiceAccount", "name": "api", "port": "8080"},
        specs=[{"kind": "HTTPRouteGroup", "name": "g", "matches": ["m"]}],
        sources=[{"kind": "ServiceAccount", "name": "web", "namespace": "front"}],
    )
    assert value(obj) == TrafficTarget(
        namespace="shop",
        name="thing",
        destination=Subject("ServiceAccount", "shop", "api"),
        rules=(RouteRef("HTTPRouteGroup", "g", ("m",)),),
        sources=(Subject("ServiceAccount", "front", "web"),),
        port=8080,
    )


@pytest.mark.parametrize("namespace", [{}, {"namespace": ""}, {"namespace": None}])
def test_s23_r11_an_empty_namespace_is_the_targets_own(namespace: Doc) -> None:
    account = {"kind": "ServiceAccount", "name": "x", **namespace}
    obj = smi_object("TrafficTarget", "v1alpha3", spec={"destination": account, "sources": [account]})
    read: TrafficTarget = value(obj)
    assert read.destination.namespace == read.sources[0].namespace == "shop"


@pytest.mark.parametrize("matches", [{}, {"matches": []}, {"matches": None}])
def test_s22_a_rule_without_matches_means_all(matches: Doc) -> None:
    rule = {"kind": "HTTPRouteGroup", "name": "g", **matches}
    spec = {"destination": {"kind": "ServiceAccount", "name": "x"}, "rules": [rule]}
    assert value(smi_object("TrafficTarget", "v1alpha4", spec=spec)).rules == (
        RouteRef("HTTPRouteGroup", "g"),
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "Firefox", "cookie": "a"},
        [{"user-agent": "Firefox"}, {"cookie": "a"}],
        [{"cookie": "a", "user-agent": "Firefox"}, {}],
    ],
)
@pytest.mark.parametrize("version", ["v1alpha2", "v1alpha3", "v1alpha4"])
def test_s2_headers_as_a_map_and_as_a_list_of_maps(headers: object, version: str) -> None:
    body: Doc = {"matches": [{"name": "m", "headers": headers}]}
    obj = smi_object("HTTPRouteGroup", version, **(body if version == "v1alpha2" else {"spec": body}))
    assert value(obj).matches == (HTTPMatch("m", headers=(("cookie", "a"), ("user-agent", "Firefox"))),)


@pytest.mark.parametrize("version", ["v1alpha3", "v1alpha4"])
def test_s2_top_level_matches_are_honoured_with_a_warning(version: str) -> None:
    both = smi_object(
        "HTTPRouteGroup",
        version,
        spec={"matches": [{"name": "a"}]},
        matches=[{"name": "b", "methods": ["GET"]}],
    )
    outcome = parse(both)
    assert isinstance(outcome, Parsed)
    assert isinstance(outcome.value, HTTPRouteGroup)
    assert outcome.value.matches == (HTTPMatch("a"), HTTPMatch("b", methods=("GET",)))
    assert [(finding.severity, finding.reason) for finding in outcome.findings] == [
        (Severity.WARNING, Reason.TOP_LEVEL_MATCHES)
    ]


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha2"])
def test_top_level_matches_are_right_in_old_versions(version: str) -> None:
    outcome = parse(smi_object("HTTPRouteGroup", version, matches=[{"name": "b", "pathRegex": ""}]))
    assert isinstance(outcome, Parsed)
    assert outcome.findings == ()
    assert isinstance(outcome.value, HTTPRouteGroup)
    assert outcome.value.matches == (HTTPMatch("b", path=None),)


@pytest.mark.parametrize("weight", [-1, 0.5, "5", "500m", True, None, [], 2**63])
def test_s3_weights_are_whole_numbers(weight: object) -> None:
    found = refusal(split(("a", 1), ("b", weight)))
    assert (found.reason, found.field) == (Reason.INVALID_WEIGHT, "spec.backends[1].weight")


@pytest.mark.parametrize(
    "weight", ["-1", -1, "x", "1 m", "", True, None, "1e99", "1" * 99, "10E", "0.0000000000000000001"]
)
def test_s3_v1alpha1_weights_are_quantities(weight: object) -> None:
    found = refusal(split(("a", 1), ("b", weight), version="v1alpha1"))
    assert found.reason in (Reason.INVALID_WEIGHT,)
    assert found.field == "spec.backends[1].weight"


@pytest.mark.parametrize("version", ["v1alpha1", "v1alpha4"])
def test_s3_a_missing_weight_is_refused(version: str) -> None:
    obj = split(("a", 1), version=version)
    del obj["spec"]["backends"][0]["weight"]
    found = refusal(obj)
    assert (found.reason, found.message) == (Reason.INVALID_WEIGHT, "weight is required")


def test_the_published_crds_number_type_is_tolerated() -> None:
    assert value(split(("a", 50.0))).backends == (WeightedService("a", 50),)


@pytest.mark.parametrize(
    ("obj", "field", "words"),
    [
        ({}, "apiVersion", "the object has no apiVersion or no kind"),
        ({"apiVersion": "v1", "kind": "Pod"}, "apiVersion", "Pod of v1 is not an SMI object this mesh knows"),
        (smi_object("TrafficSplit", "v1alpha4"), "spec", "spec is required"),
        (
            smi_object("TrafficSplit", "v1alpha4", spec={"service": "", "backends": []}),
            "spec.service",
            "at least 1",
        ),
        (
            smi_object("TrafficSplit", "v1alpha4", spec={"service": 7, "backends": []}),
            "spec.service",
            "valid string",
        ),
        (smi_object("TrafficTarget", "v1alpha1", specs=[]), "destination", "destination is required"),
        (
            smi_object("TCPRoute", "v1alpha4", spec={"matches": {"ports": [80, 70000]}}),
            "spec.matches.ports[1]",
            "less than or equal to 65535",
        ),
        (
            smi_object("HTTPRouteGroup", "v1alpha4", spec={"matches": [{"name": "m", "headers": "x"}]}),
            "spec.matches[0].headers",
            "headers must be a map of name to pattern, or a list of such maps",
        ),
        (
            smi_object(
                "IdentityBinding",
                "v1alpha4",
                spec={
                    "schemes": {
                        "podLabelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
                    }
                },
            ),
            "spec.schemes.podLabelSelector.matchExpressions",
            "matchExpressions are not supported, use matchLabels",
        ),
    ],
)
def test_a_refusal_names_the_field_its_author_wrote(obj: Doc, field: str, words: str) -> None:
    found = refusal(obj)
    assert found.field == field
    assert words in found.message


def test_refusals_are_bounded() -> None:
    outcome = parse(split(*((f"b{n}", -1) for n in range(100))))
    assert isinstance(outcome, Rejected)
    assert len(outcome.findings) == 10


def test_r11_identity_binding() -> None:
    schemes = {
        "podLabelSelector": {"matchLabels": {"b": "2", "a": "1"}},
        "spiffeIdentities": ["cluster.local/ns/shop/sa/api"],
        "serviceAccount": "api",
    }
    assert value(smi_object("IdentityBinding", "v1alpha4", spec={"schemes": schemes})) == IdentityBinding(
        namespace="shop",
        name="thing",
        pod_labels=(("a", "1"), ("b", "2")),
        spiffe_identities=("cluster.local/ns/shop/sa/api",),
        service_account="api",
    )


@given(st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec"]), json_objects, max_size=4))
def test_parse_never_raises(obj: Doc) -> None:
    parse(obj)


_QUANTITIES: list[tuple[object, int, int]] = [
    *(("500m", 1, 2), (1, 1, 1), ("1.5", 3, 2), (".5", 1, 2), ("1.", 1, 1), ("2Ki", 2048, 1)),
    *(("1e-3", 1, 1000), ("1E", 10**18, 1), ("3u", 3, 10**6), ("7n", 7, 10**9), ("+1k", 1000, 1)),
    *(("-1", -1, 1), (0.1, 1, 10)),
]


@pytest.mark.parametrize(("text", "numerator", "denominator"), _QUANTITIES)
def test_s1_quantities_are_exact(text: object, numerator: int, denominator: int) -> None:
    assert parse_quantity(text).as_integer_ratio() == (numerator, denominator)


@pytest.mark.parametrize(
    "text", ["", "m", "1 ", "1mm", "1e", "0x1", "١", "1_0", None, [], float("nan"), 10**400]
)
def test_what_is_not_a_quantity(text: object) -> None:
    with pytest.raises(QuantityError):
        parse_quantity(text)
