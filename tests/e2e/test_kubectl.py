"""Plain kubectl on the embedded cluster: the verbs and kinds that users start with."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

from tests.e2e.harness import NAMESPACE, Cluster, wait_for
from tests.e2e.policies import EVERYTHING, allow, split, tcp_route

SMI_KINDS = {
    "trafficsplits.split.smi-spec.io": ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"],
    "traffictargets.access.smi-spec.io": ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"],
    "httproutegroups.specs.smi-spec.io": ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"],
    "tcproutes.specs.smi-spec.io": ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"],
    "udproutes.specs.smi-spec.io": ["v1alpha4"],
    "identitybindings.access.smi-spec.io": ["v1alpha4"],
}

MANIFESTS = {
    "configmap": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: k}\ndata: {a: b}",
    "serviceaccount": "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: k}",
    "service": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: k}\nspec: {selector: {app: k}, ports: [{port: 80}]}"
    ),
    "deployment": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: k}\nspec:\n  replicas: 0\n"
        "  selector: {matchLabels: {app: k}}\n  template:\n    metadata: {labels: {app: k}}\n"
        "    spec: {containers: [{name: c, image: sh}]}"
    ),
    "trafficsplit": split({"api-v1": 1}, name="k"),
    "traffictarget": allow(name="k", rules="[{kind: HTTPRouteGroup, name: everything}]"),
    "httproutegroup": EVERYTHING.replace("name: everything,", "name: k,"),
    "tcproute": tcp_route("k", 80),
    "udproute": tcp_route("k", 80).replace("TCPRoute", "UDPRoute"),
    "identitybinding": (
        "apiVersion: access.smi-spec.io/v1alpha4\nkind: IdentityBinding\nmetadata: {name: k}\n"
        "spec: {schemes: {serviceAccount: web}}"
    ),
}


@pytest.mark.parametrize("kind", sorted(MANIFESTS))
def test_apply_get_describe_label_delete(policies: Cluster, kind: str) -> None:
    assert "created" in policies.apply(MANIFESTS[kind])
    assert "unchanged" in policies.apply(MANIFESTS[kind]) or "configured" in policies.apply(MANIFESTS[kind])
    assert "k " in policies.kubectl("get", kind, "-n", NAMESPACE)
    assert "Name:" in policies.kubectl("describe", kind, "k", "-n", NAMESPACE)
    policies.kubectl("label", kind, "k", "-n", NAMESPACE, "tier=gold")
    assert policies.get(kind, "k", "-n", NAMESPACE)["metadata"]["labels"]["tier"] == "gold"
    assert "deleted" in policies.kubectl("delete", kind, "k", "-n", NAMESPACE, "--wait=true")
    assert "NotFound" in policies.kubectl("get", kind, "k", "-n", NAMESPACE, check=False)


@pytest.mark.parametrize("resource", sorted(SMI_KINDS))
def test_every_smi_version_is_served(policies: Cluster, resource: str) -> None:
    plural, _, group = resource.partition(".")
    for version in SMI_KINDS[resource]:
        policies.kubectl("get", f"{plural}.{version}.{group}", "-A")


def test_one_object_in_every_version(policies: Cluster) -> None:
    """An object written in the oldest version reads back exactly, and as the newest (S1)."""
    policies.apply(
        "apiVersion: split.smi-spec.io/v1alpha1\nkind: TrafficSplit\nmetadata: {name: old}\n"
        "spec: {service: api, backends: [{service: api-v1, weight: 500m}, {service: api-v2, weight: '1'}]}"
    )
    old = policies.get("trafficsplits.v1alpha1.split.smi-spec.io", "old", "-n", NAMESPACE)
    assert [b["weight"] for b in old["spec"]["backends"]] == ["500m", "1"]
    new = policies.get("trafficsplits.v1alpha4.split.smi-spec.io", "old", "-n", NAMESPACE)
    weights = [b["weight"] for b in new["spec"]["backends"]]
    assert weights[1] == 2 * weights[0]


def test_admission_names_object_field_and_fix(policies: Cluster) -> None:
    refused = policies.kubectl(
        "apply", "-n", NAMESPACE, "-f", "-", text=split({"api-v1": -1}, name="bad"), check=False
    )
    assert "spec.backends" in refused
    assert "weight" in refused


def test_namespace_life_cycle(policies: Cluster) -> None:
    policies.kubectl("create", "-f", "-", text="apiVersion: v1\nkind: Namespace\nmetadata: {name: passing}")
    wait_for(
        "the default service account",
        lambda: (
            "NotFound"
            not in policies.kubectl("get", "serviceaccount", "default", "-n", "passing", check=False)
        ),
    )
    policies.apply(MANIFESTS["configmap"], namespace="passing")
    policies.kubectl("delete", "namespace", "passing", "--wait=true", "--timeout=20s")
    assert "NotFound" in policies.kubectl("get", "namespace", "passing", check=False)


def test_logs_and_events(policies: Cluster) -> None:
    name = policies.pods("web")[0]["metadata"]["name"]
    assert policies.kubectl("logs", "-n", NAMESPACE, name, "-c", "smi-mesh-proxy")
    policies.kubectl("logs", "-n", NAMESPACE, "deploy/web", "-c", "app", "--tail=1")
    assert "Started" in policies.kubectl("get", "events", "-n", NAMESPACE)
    assert "Started" in policies.kubectl("describe", "pod", name, "-n", NAMESPACE)


def test_get_watch_shows_changes(policies: Cluster) -> None:
    watch = subprocess.Popen(
        ["kubectl", "get", "configmaps", "-n", NAMESPACE, "-w"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "KUBECONFIG": str(policies.kubeconfig), "HOME": str(policies.state)},
    )
    try:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("NAME")
        policies.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: watched}\ndata: {a: b}")
        while not (line := watch.stdout.readline()).startswith("watched "):
            assert line, "kubectl get -w ended"
    finally:
        watch.kill()
        watch.communicate()
        policies.kubectl("delete", "configmap", "watched", "-n", NAMESPACE, "--ignore-not-found")


def test_an_unknown_image_says_how_to_add_it(policies: Cluster) -> None:
    policies.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: odd, annotations: {}}\n"
        "spec: {containers: [{name: c, image: nobody/knows:1}]}"
    )

    def waiting() -> Any:
        statuses = policies.get("pod", "odd", "-n", NAMESPACE)["status"].get("containerStatuses", [])
        return statuses and statuses[0]["state"].get("waiting", {}).get("message") and statuses[0]["state"]

    status = wait_for("the image error", waiting, 10)["waiting"]
    assert status["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert "localmesh-images" in status["message"]
    policies.kubectl("delete", "pod", "odd", "-n", NAMESPACE, "--wait=true", "--grace-period=0")
