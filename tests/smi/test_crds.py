"""The CRDs: structural, complete, and in agreement with the reader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi.api.convert import SERVED_VERSIONS, STORAGE_VERSIONS
from smi.api.crds import crds
from tests.smi.objects import A_FEW, GROUPS, KIND_VERSIONS, Doc, objects_of, smi_object

BY_KIND = {crd["spec"]["names"]["kind"]: crd for crd in crds()}


def schema_of(kind: str, version: str) -> Doc:
    versions = {item["name"]: item for item in BY_KIND[kind]["spec"]["versions"]}
    schema: Doc = versions[version]["schema"]["openAPIV3Schema"]
    return schema


def test_every_kind_and_version_is_served_and_one_is_stored() -> None:
    assert set(BY_KIND) == set(GROUPS)
    for kind, crd in BY_KIND.items():
        group = GROUPS[kind]
        versions = crd["spec"]["versions"]
        assert {item["name"] for item in versions if item["served"]} == set(SERVED_VERSIONS[group, kind])
        assert [item["name"] for item in versions if item["storage"]] == [STORAGE_VERSIONS[group, kind]]
        assert all(item["subresources"] == {"status": {}} for item in versions)


@pytest.mark.parametrize(
    ("kind", "name", "short"),
    [
        ("TrafficSplit", "trafficsplits.split.smi-spec.io", "ts"),
        ("TrafficTarget", "traffictargets.access.smi-spec.io", "tt"),
        ("IdentityBinding", "identitybindings.access.smi-spec.io", "ib"),
        ("HTTPRouteGroup", "httproutegroups.specs.smi-spec.io", "htr"),
        ("TCPRoute", "tcproutes.specs.smi-spec.io", "tr"),
        ("UDPRoute", "udproutes.specs.smi-spec.io", "ur"),
    ],
)
def test_names(kind: str, name: str, short: str) -> None:
    assert BY_KIND[kind]["metadata"]["name"] == name
    assert BY_KIND[kind]["spec"]["names"]["shortNames"] == [short]


def test_kinds_of_several_versions_are_converted_by_our_webhook() -> None:
    for kind, crd in BY_KIND.items():
        if len(crd["spec"]["versions"]) == 1:
            assert "conversion" not in crd["spec"]
            continue
        webhook = crd["spec"]["conversion"]["webhook"]
        assert webhook["conversionReviewVersions"] == ["v1"], kind
        assert webhook["clientConfig"] == {
            "service": {
                "namespace": "smi-mesh-system",
                "name": "smi-mesh-controller",
                "path": "/convert",
                "port": 443,
            }
        }


def nodes(schema: Doc) -> Iterator[Doc]:
    yield schema
    for inner in schema.get("properties", {}).values():
        yield from nodes(inner)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])


@pytest.mark.parametrize(("kind", "version"), KIND_VERSIONS)
def test_schemas_are_structural(kind: str, version: str) -> None:
    for node in nodes(schema_of(kind, version)):
        open_ = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"} & set(node)
        assert "type" in node or open_
        assert not ("properties" in node and "additionalProperties" in node)
        assert set(node.get("required", ())) <= set(node.get("properties", {}))


def test_no_two_places_share_an_object() -> None:
    seen: set[int] = set()
    for crd in crds():
        for version in crd["spec"]["versions"]:
            for node in nodes(version["schema"]["openAPIV3Schema"]):
                assert id(node) not in seen
                seen.add(id(node))


def prune(value: Any, schema: Doc) -> Any:
    """What an API server keeps of an object (apiextensions: structural pruning)."""
    if isinstance(value, list):
        return [prune(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        return {key: prune(item, inner) for key, item in value.items()}
    known = schema.get("properties", {})
    keep_all = schema.get("x-kubernetes-preserve-unknown-fields", False)
    return {key: prune(item, known.get(key, {})) for key, item in value.items() if key in known or keep_all}


@pytest.mark.parametrize(("kind", "version"), KIND_VERSIONS)
@A_FEW
@given(data=st.data())
def test_s2_nothing_that_a_version_can_say_is_pruned(kind: str, version: str, data: st.DataObject) -> None:
    obj = data.draw(objects_of(kind, version))
    frame = {"apiVersion", "kind", "metadata"}
    body = {key: value for key, value in obj.items() if key not in frame}
    assert prune(body, schema_of(kind, version)) == body


def test_r11_a_selector_that_must_be_refused_is_not_pruned_into_one_that_selects_more() -> None:
    selector = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
    obj = smi_object("IdentityBinding", "v1alpha4", spec={"schemes": {"podLabelSelector": selector}})
    assert prune({"spec": obj["spec"]}, schema_of("IdentityBinding", "v1alpha4")) == {"spec": obj["spec"]}


def test_s22_a_target_without_rules_or_sources_gets_past_the_schema() -> None:
    for version in ("v1alpha2", "v1alpha3", "v1alpha4"):
        assert schema_of("TrafficTarget", version)["properties"]["spec"]["required"] == ["destination"]


def test_columns_lead_somewhere() -> None:
    for kind, crd in BY_KIND.items():
        for version in crd["spec"]["versions"]:
            properties = set(version["schema"]["openAPIV3Schema"]["properties"]) | {"metadata"}
            names = [column["name"] for column in version["additionalPrinterColumns"]]
            assert names[-3:] == ["Accepted", "Programmed", "Age"], kind
            for column in version["additionalPrinterColumns"]:
                assert column["jsonPath"].split(".")[1] in properties
