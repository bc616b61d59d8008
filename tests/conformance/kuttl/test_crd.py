"""The old shape of a CustomResourceDefinition, as apiextensions.k8s.io/v1beta1 showed it."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.kuttl.crd import is_old, old_view
from conformance.kuttl.match import mismatch
from smi.api.crds import crds


def version(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "served": True, "storage": name == "v1", **fields}


def definition(*versions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.io"},
        "spec": {"group": "example.io", "scope": "Namespaced", "versions": list(versions), **spec},
        "status": {"acceptedNames": {"kind": "Thing"}, "storedVersions": ["v1"]},
    }


SCHEMA = {"openAPIV3Schema": {"type": "object"}}
COLUMNS = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]


def test_what_all_versions_share_stands_at_the_top() -> None:
    one = version("v1", schema=SCHEMA, subresources={"status": {}}, additionalPrinterColumns=COLUMNS)
    two = version("v2", schema=SCHEMA, subresources={"status": {}}, additionalPrinterColumns=COLUMNS)
    spec = old_view(definition(one, two))["spec"]
    assert spec["version"] == "v1"
    assert spec["validation"] == SCHEMA
    assert spec["subresources"] == {"status": {}}
    assert spec["additionalPrinterColumns"][0]["JSONPath"] == ".metadata.creationTimestamp"
    assert spec["versions"] == [version("v1"), version("v2")]


def test_what_differs_stays_with_its_version() -> None:
    spec = old_view(definition(version("v1", schema=SCHEMA), version("v2", schema={"openAPIV3Schema": {}})))[
        "spec"
    ]
    assert "validation" not in spec
    assert [entry["schema"] for entry in spec["versions"]] == [SCHEMA, {"openAPIV3Schema": {}}]


def test_the_conversion_webhook_is_spelt_as_it_was() -> None:
    webhook = {"clientConfig": {"url": "https://x"}, "conversionReviewVersions": ["v1"]}
    spec = old_view(definition(version("v1"), conversion={"strategy": "Webhook", "webhook": webhook}))["spec"]
    assert spec["conversion"] == {
        "strategy": "Webhook",
        "webhookClientConfig": {"url": "https://x"},
        "conversionReviewVersions": ["v1"],
    }


def test_the_definition_itself_is_not_changed() -> None:
    given = definition(version("v1", schema=SCHEMA))
    view = old_view(given)
    assert given["apiVersion"] == "apiextensions.k8s.io/v1"
    assert given["spec"]["versions"][0]["schema"] == SCHEMA
    assert is_old(view)
    assert not is_old(given)


@pytest.mark.parametrize("crd", crds(), ids=lambda crd: crd["metadata"]["name"])
def test_what_the_official_tests_assert_of_our_definitions(crd: dict[str, Any]) -> None:
    """`01-assert.yaml` of the official suites: the group and the accepted names, in the old shape."""
    names = crd["spec"]["names"]
    served = {**crd, "status": {"acceptedNames": names, "storedVersions": []}}
    expected = {
        "apiVersion": "apiextensions.k8s.io/v1beta1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": crd["metadata"]["name"]},
        "spec": {"group": crd["spec"]["group"]},
        "status": {
            "acceptedNames": {key: names[key] for key in ("kind", "shortNames", "plural", "singular")}
        },
    }
    assert mismatch(expected, old_view(served)) is None
    assert mismatch(expected, served) is not None
