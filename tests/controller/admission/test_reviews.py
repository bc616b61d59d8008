"""Validation, conversion and registration: envelopes, and what they do with nonsense."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from controller.admission.conversion import convert_review
from controller.admission.registration import API_SERVICE_PATH, CONFIGURATIONS, register
from controller.admission.validate import validate
from controller.kinds import WATCHED
from controller.manifests import InstallSettings, render
from smi.api import convert
from tests.controller.compile.build import split
from tests.controller.kubeapi import StoredObjects

CRD_NAMES = tuple(f"{kind.plural}.{kind.group}" for kind in WATCHED if kind.smi)


def judged(operation: str, obj: object) -> Any:
    return validate(operation, obj, trust_domain="cluster.local", cluster_domain="cluster.local")


def test_a_good_object_is_allowed_and_a_delete_always() -> None:
    assert judged("CREATE", split("canary", "api", {"v1": 1})).allowed
    assert judged("DELETE", None).allowed
    assert not judged("CREATE", None).allowed


def test_an_error_refuses_and_names_the_field() -> None:
    verdict = judged("UPDATE", split("canary", "api", {"v1": -1}))
    assert not verdict.allowed
    assert "spec.backends[0].weight" in verdict.message


def test_a_remark_is_a_warning() -> None:
    verdict = judged("CREATE", split("canary", "api", {"api": 1, "v1": 1}))
    assert verdict.allowed
    assert verdict.warnings
    assert all(len(text) <= 256 for text in verdict.warnings)


def conversion(wanted: str, *objects: object) -> dict[str, Any]:
    request = {"uid": "u", "desiredAPIVersion": wanted, "objects": list(objects)}
    review = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request}
    answer: dict[str, Any] = convert_review(review, convert)["response"]
    assert answer["uid"] == "u"
    return answer


def test_objects_are_converted_in_order() -> None:
    made = [split("one", "api", {"v1": 1}), split("two", "api", {"v1": 1})]
    answer = conversion("split.smi-spec.io/v1alpha2", *made)
    assert answer["result"] == {"status": "Success"}
    assert [one["metadata"]["name"] for one in answer["convertedObjects"]] == ["one", "two"]
    back = conversion("split.smi-spec.io/v1alpha4", *answer["convertedObjects"])
    assert back["convertedObjects"] == made


@pytest.mark.parametrize(
    ("wanted", "obj"),
    [
        ("split.smi-spec.io/v9", split("canary", "api", {"v1": 1})),
        ("access.smi-spec.io/v1alpha3", split("canary", "api", {"v1": 1})),
        ("split.smi-spec.io/v1alpha2", "text"),
        ("split.smi-spec.io/v1alpha2", {}),
    ],
)
def test_one_that_cannot_be_converted_fails_the_review(wanted: str, obj: object) -> None:
    answer = conversion(wanted, split("good", "api", {"v1": 1}), obj)
    assert answer["result"]["status"] == "Failed"
    assert answer["result"]["message"]
    assert answer["convertedObjects"] == []


async def test_the_bundle_is_put_wherever_our_service_is_named_and_only_once() -> None:
    api = StoredObjects()
    for manifest in render(InstallSettings()):
        path = f"/apis/{manifest['apiVersion']}/{manifest['kind'].lower()}s/{manifest['metadata']['name']}"
        ours = ("webhookconfigurations", "customresourcedefinitions", "apiservices")
        if any(word in path for word in ours):
            api.put(path, manifest)
    foreign = {"name": "x.example.org", "clientConfig": {"url": "https://example.org"}}
    api.objects[CONFIGURATIONS[1]]["webhooks"].append(foreign)
    assert await register(api, "PEM", CRD_NAMES) == ()
    amended = len(api.writes)
    assert amended == len(CONFIGURATIONS) + 4 + 1, "CRDs of one version need no conversion"
    encoded = base64.b64encode(b"PEM").decode()
    for webhook in api.objects[CONFIGURATIONS[0]]["webhooks"]:
        assert webhook["clientConfig"]["caBundle"] == encoded
    assert api.objects[API_SERVICE_PATH]["spec"]["caBundle"] == encoded
    assert api.objects[CONFIGURATIONS[1]]["webhooks"][-1] == foreign
    await register(api, "PEM", CRD_NAMES)
    assert len(api.writes) == amended, "nothing to change, nothing written"
    await register(api, "ANOTHER", CRD_NAMES)
    assert len(api.writes) == 2 * amended


async def test_what_is_not_installed_yet_is_said() -> None:
    *configurations, crd, api_service = await register(StoredObjects(), "PEM", ("a.b",))
    assert tuple(configurations) == CONFIGURATIONS
    assert api_service == API_SERVICE_PATH
    assert crd.endswith("/customresourcedefinitions/a.b")
