"""Admission and conversion call-outs against a real HTTPS server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .conftest import Client
from .webhook import patched, serving

CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1"
PODS = "/api/v1/namespaces/default/pods"


def configuration(kind: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    hook = {
        "name": "test.smi-mesh.io",
        "clientConfig": config,
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }
    return {"kind": kind, "metadata": {"name": "test"}, "webhooks": [hook]}


async def mutating(call: Client, config: dict[str, Any], **more: Any) -> None:
    body = configuration("MutatingWebhookConfiguration", config, **more)
    answer = await call("POST", f"{CONFIGURATIONS}/mutatingwebhookconfigurations", body)
    assert answer.status == 201, answer.text


async def validating(call: Client, config: dict[str, Any], **more: Any) -> None:
    body = configuration("ValidatingWebhookConfiguration", config, **more)
    answer = await call("POST", f"{CONFIGURATIONS}/validatingwebhookconfigurations", body)
    assert answer.status == 201, answer.text


def pod(name: str, **labels: str) -> dict[str, Any]:
    meta = {"name": name, "labels": labels}
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": "sh:1"}]}}


def inject(_request: dict[str, Any]) -> dict[str, Any]:
    sidecar = {"name": "proxy", "image": "smi-mesh/proxy:1"}
    return patched(
        {"op": "add", "path": "/spec/containers/-", "value": sidecar},
        {"op": "add", "path": "/metadata/annotations", "value": {"smi-mesh.io/status": "injected"}},
    )


async def test_a_sidecar_is_injected_and_defaulted(call: Client, tmp_path: Path) -> None:
    async with serving(tmp_path, {"/inject": inject}) as hook:
        await mutating(call, hook.config("/inject"))
        made = (await call("POST", PODS, pod("p"))).body
        (request,) = hook.requests
    assert [one["name"] for one in made["spec"]["containers"]] == ["c", "proxy"]
    assert made["spec"]["containers"][1]["terminationMessagePath"] == "/dev/termination-log"
    assert made["metadata"]["annotations"] == {"smi-mesh.io/status": "injected"}
    assert made["status"]["phase"] == "Pending"
    assert request["operation"] == "CREATE"
    assert request["namespace"] == "default"
    assert request["object"]["spec"]["restartPolicy"] == "Always"
    assert request["userInfo"]["username"] == "kubernetes-admin"


async def test_selectors_choose(call: Client, tmp_path: Path) -> None:
    selector = {"namespaceSelector": {"matchLabels": {"mesh": "on"}}}
    objects = {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}
    async with serving(tmp_path, {"/inject": inject}) as hook:
        await mutating(call, hook.config("/inject"), objectSelector=objects, **selector)
        await call("POST", PODS, pod("outside"))
        labels = {"metadata": {"labels": {"mesh": "on"}}}
        merge = "application/merge-patch+json"
        await call("PATCH", "/api/v1/namespaces/default", labels, content_type=merge)
        await call("POST", PODS, pod("inside"))
        await call("POST", PODS, pod("skipped", skip="yes"))
        assert [request["name"] for request in hook.requests] == ["inside"]


async def test_a_refusal_reaches_the_client(call: Client, tmp_path: Path) -> None:
    def refuse(_request: dict[str, Any]) -> dict[str, Any]:
        status = {"code": 422, "message": "weight must not be negative", "reason": "Invalid"}
        return {"allowed": False, "status": status, "warnings": ["look at the docs"]}

    async with serving(tmp_path, {"/validate": refuse}) as hook:
        await validating(call, hook.config("/validate"))
        answer = await call("POST", PODS, pod("p"))
    assert answer.status == 422
    assert answer.body["message"] == (
        'admission webhook "test.smi-mesh.io" denied the request: weight must not be negative'
    )
    assert answer.headers["Warning"] == '299 - "look at the docs"'
    assert (await call("GET", f"{PODS}/p")).status == 404


async def test_failure_policy(call: Client) -> None:
    nowhere = {"url": "https://127.0.0.1:1/"}
    await validating(call, nowhere, failurePolicy="Ignore", timeoutSeconds=1)
    assert (await call("POST", PODS, pod("a"))).status == 201
    await mutating(call, nowhere, timeoutSeconds=1)
    answer = await call("POST", PODS, pod("b"))
    assert answer.status == 500
    assert answer.body["message"].startswith(
        'Internal error occurred: failed calling webhook "test.smi-mesh.io": failed to call webhook: Post '
    )


async def test_a_service_reference_is_resolved(call: Client, tmp_path: Path) -> None:
    name = "hook.default.svc"
    async with serving(tmp_path, {"/inject": inject}, name) as hook:
        service = {"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443, "targetPort": 9443}]}}
        await call("POST", "/api/v1/namespaces/default/services", service)
        addresses = [{"ip": "127.0.0.1"}]
        endpoints = {
            "metadata": {"name": "hook"},
            "subsets": [{"addresses": addresses, "ports": [{"port": hook.port}]}],
        }
        await call("POST", "/api/v1/namespaces/default/endpoints", endpoints)
        reference = {"service": {"namespace": "default", "name": "hook", "path": "/inject"}}
        await mutating(call, {**reference, "caBundle": hook.bundle})
        made = (await call("POST", PODS, pod("p"))).body
    assert len(made["spec"]["containers"]) == 2


async def test_status_updates_are_their_own_resource(call: Client, tmp_path: Path) -> None:
    rules = [
        {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["pods/status"]}
    ]
    async with serving(tmp_path, {"/seen": lambda _: {"allowed": True}}) as hook:
        await validating(call, hook.config("/seen"), rules=rules)
        await call("POST", PODS, pod("p"))
        merge = "application/merge-patch+json"
        await call("PATCH", f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}}, content_type=merge)
        assert hook.requests == []
        await call("PATCH", f"{PODS}/p/status", {"status": {"phase": "Running"}}, content_type=merge)
        (request,) = hook.requests
    assert request["subResource"] == "status"
    assert request["oldObject"]["status"]["phase"] == "Pending"


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """v1 says `colour`, v2 says `paint.colour`."""
    converted = []
    for obj in request["objects"]:
        spec = obj["spec"]
        if request["desiredAPIVersion"].endswith("/v2"):
            spec = {"paint": {"colour": spec["colour"]}}
        else:
            spec = {"colour": spec["paint"]["colour"]}
        converted.append({**obj, "apiVersion": request["desiredAPIVersion"], "spec": spec})
    return {"result": {"status": "Success"}, "convertedObjects": converted}


def two_versions(config: dict[str, Any]) -> dict[str, Any]:
    def version(name: str, *, storage: bool) -> dict[str, Any]:
        schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}}

    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": config}
    return {
        "metadata": {"name": "cars.demo.io"},
        "spec": {
            "group": "demo.io",
            "scope": "Namespaced",
            "names": {"plural": "cars", "kind": "Car"},
            "versions": [version("v1", storage=True), version("v2", storage=False)],
            "conversion": {"strategy": "Webhook", "webhook": webhook},
        },
    }


async def test_conversion_webhook(call: Client, tmp_path: Path) -> None:
    cars = "/apis/demo.io/{}/namespaces/default/cars"
    async with serving(tmp_path, {"/convert": convert}) as hook:
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await call("POST", crds, two_versions(hook.config("/convert")))
        old = {
            "apiVersion": "demo.io/v1",
            "kind": "Car",
            "metadata": {"name": "a"},
            "spec": {"colour": "red"},
        }
        assert (await call("POST", cars.format("v1"), old)).status == 201
        assert hook.requests == []
        new = (await call("GET", cars.format("v2") + "/a")).body
        assert (new["apiVersion"], new["spec"]) == ("demo.io/v2", {"paint": {"colour": "red"}})
        new["spec"]["paint"]["colour"] = "blue"
        put = await call("PUT", cars.format("v2") + "/a", new)
        assert put.status == 200, put.text
        assert put.body["spec"] == {"paint": {"colour": "blue"}}
        assert put.body["metadata"]["generation"] == 2
        stored = (await call("GET", cars.format("v1") + "/a")).body
        assert (stored["apiVersion"], stored["spec"]) == ("demo.io/v1", {"colour": "blue"})
        listed = (await call("GET", cars.format("v2"))).body
        assert [item["spec"] for item in listed["items"]] == [{"paint": {"colour": "blue"}}]
    broken = await call("GET", cars.format("v2") + "/a")
    assert broken.status == 500
    assert "conversion webhook for demo.io/v1, Kind=Car failed" in broken.body["message"]
