"""Golden pods: what the injector makes of them, and which it leaves alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.admission.inject import Refused, Sidecar, Skipped, inject
from controller.settings import Tracing
from tests.controller.admission.pods import apply, crowded, minimal

GOLDEN = Path(__file__).parent / "golden"
SIDECAR = Sidecar(
    image="smi-mesh/proxy:0.1.0",
    pull_policy="IfNotPresent",
    controller="smi-mesh-controller.smi-mesh-system.svc",
    trust_domain="cluster.local",
    cluster_domain="cluster.local",
    trust_bundle="-----BEGIN CERTIFICATE-----\nTEST\n-----END CERTIFICATE-----\n",
)
EXPLICIT = replace(SIDECAR, explicit=True)


def injected(pod: dict[str, Any], sidecar: Sidecar = SIDECAR) -> dict[str, Any]:
    patch = inject(pod, "shop", sidecar)
    assert isinstance(patch, list)
    return apply(pod, patch)


@pytest.mark.parametrize("sidecar", [SIDECAR, EXPLICIT], ids=["iptables", "explicit"])
@pytest.mark.parametrize("pod", [minimal(), crowded()], ids=["minimal", "crowded"])
def test_golden(pod: dict[str, Any], sidecar: Sidecar) -> None:
    """`UPDATE_GOLDEN=1` writes the files anew; look at the difference."""
    name = f"{pod['metadata'].get('name', 'minimal')}-{'explicit' if sidecar.explicit else 'iptables'}.json"
    text = json.dumps(injected(pod, sidecar), indent=2) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("sidecar", [SIDECAR, EXPLICIT], ids=["iptables", "explicit"])
@pytest.mark.parametrize("pod", [minimal(), crowded()], ids=["minimal", "crowded"])
def test_a_real_api_server_would_take_it(pod: dict[str, Any], sidecar: Sidecar) -> None:
    """The rules of core/v1 validation that an injector breaks most easily."""
    spec = injected(pod, sidecar)["spec"]
    containers = [*spec["initContainers"], *spec["containers"]]
    names = [one["name"] for one in containers]
    assert len(names) == len(set(names))
    volumes = {one["name"] for one in spec["volumes"]}
    for one in containers:
        variables = [variable["name"] for variable in one.get("env", ())]
        assert len(variables) == len(set(variables))
        assert all(mount["name"] in volumes for mount in one.get("volumeMounts", ()))
        assert all(len(port["name"]) <= 15 for port in one.get("ports", ()))
        context = one.get("securityContext", {})
        if context.get("runAsUser") == 0:
            assert context["runAsNonRoot"] is False, "the pod's own runAsNonRoot would stop it"
    for init in spec["initContainers"]:
        if "readinessProbe" in init or "startupProbe" in init:
            assert init.get("restartPolicy") == "Always", "only sidecars among init containers have probes"


def test_the_sidecar_is_up_before_the_apps_own_init_containers() -> None:
    names = [one["name"] for one in injected(crowded())["spec"]["initContainers"]]
    assert names == ["smi-mesh-init", "smi-mesh-proxy", "migrate"]


def test_without_redirect_apps_are_pointed_at_the_sidecar() -> None:
    spec = injected(crowded(), EXPLICIT)["spec"]
    assert [one["name"] for one in spec["initContainers"]] == ["smi-mesh-proxy", "migrate"]
    helper = {one["name"]: one.get("value") for one in spec["containers"][1]["env"]}
    assert helper["HTTP_PROXY"] == helper["http_proxy"] == "http://$(POD_IP):15001"
    app = [one["name"] for one in spec["containers"][0]["env"]]
    assert app.index("POD_IP") < app.index("http_proxy"), "$(POD_IP) must be defined before it is used"
    own = next(one for one in spec["containers"][0]["env"] if one["name"] == "HTTP_PROXY")
    assert own["value"] == "http://corporate:3128"


def test_injecting_twice_changes_nothing() -> None:
    assert isinstance(inject(injected(crowded()), "shop", SIDECAR), Skipped)


def with_spec(**spec: Any) -> dict[str, Any]:
    pod = minimal()
    pod["spec"].update(spec)
    return pod


def with_metadata(**metadata: Any) -> dict[str, Any]:
    pod = minimal()
    pod["metadata"].update(metadata)
    return pod


@pytest.mark.parametrize(
    ("pod", "namespace", "why"),
    [
        (with_spec(hostNetwork=True), "shop", "network"),
        (with_spec(os={"name": "windows"}), "shop", "Windows"),
        (with_metadata(labels={"smi-mesh.io/inject": "disabled"}), "shop", "disabled"),
        (with_metadata(annotations={"kubernetes.io/config.mirror": "x"}), "shop", "static"),
        (minimal(), "smi-mesh-system", "never meshed"),
        (minimal(), "kube-system", "never meshed"),
    ],
)
def test_who_is_left_alone(pod: dict[str, Any], namespace: str, why: str) -> None:
    outcome = inject(pod, namespace, SIDECAR)
    assert isinstance(outcome, Skipped)
    assert why in outcome.reason


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        (with_metadata(annotations={"smi-mesh.io/exclude-inbound-ports": "80,http"}), "'http'"),
        (with_metadata(annotations={"smi-mesh.io/exclude-outbound-ports": "70000"}), "exclude-outbound"),
        (with_spec(securityContext={"runAsGroup": 1337}), "1337"),
        (with_spec(containers=[{"name": "app", "securityContext": {"runAsGroup": 1337}}]), "container app"),
        (with_spec(volumes=[{"name": "smi-mesh-token", "emptyDir": {}}]), "volume"),
    ],
)
def test_what_cannot_be_meshed_says_what_to_change(pod: dict[str, Any], why: str) -> None:
    outcome = inject(pod, "shop", SIDECAR)
    assert isinstance(outcome, Refused)
    assert why in outcome.message


def test_the_pod_is_not_changed_in_place() -> None:
    pod = crowded()
    inject(pod, "shop", EXPLICIT)
    assert pod == crowded()


def test_udp_is_intercepted_unless_switched_off() -> None:
    def proxy(sidecar: Sidecar, **annotations: str) -> dict[str, Any]:
        pod = minimal()
        pod["metadata"].setdefault("annotations", {}).update(annotations)
        return next(
            one for one in injected(pod, sidecar)["spec"]["initContainers"] if one["name"] == "smi-mesh-proxy"
        )

    on, off = proxy(SIDECAR), proxy(replace(SIDECAR, udp=False))
    assert {"name": "SMI_MESH_UDP", "value": "on"} in on["env"]
    assert on["securityContext"]["capabilities"] == {"add": ["NET_RAW"], "drop": ["ALL"]}
    assert on["securityContext"]["runAsGroup"] == 1337
    for without in (off, proxy(EXPLICIT)):
        assert {"name": "SMI_MESH_UDP", "value": "off"} in without["env"]
        assert without["securityContext"]["runAsUser"] == 1337
        assert without["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    idle = proxy(SIDECAR, **{"smi-mesh.io/udp-idle-seconds": "5"})
    assert {"name": "SMI_MESH_UDP_IDLE_SECONDS", "value": "5"} in idle["env"]


@pytest.mark.parametrize("seconds", ["0", "3601", "soon", "1.5"])
def test_an_idle_time_that_cannot_be_is_refused(seconds: str) -> None:
    pod = minimal()
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/udp-idle-seconds"] = seconds
    refused = inject(pod, "shop", SIDECAR)
    assert isinstance(refused, Refused)
    assert "smi-mesh.io/udp-idle-seconds" in refused.message


def test_workers_are_asked_for_by_annotation() -> None:
    pod = minimal()
    assert "SMI_MESH_WORKERS" not in _env(injected(pod, SIDECAR))
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/workers"] = "2"
    assert _env(injected(pod, SIDECAR))["SMI_MESH_WORKERS"] == "2"


@pytest.mark.parametrize("workers", ["0", "65", "some", "1.5"])
def test_workers_that_cannot_be_are_refused(workers: str) -> None:
    pod = minimal()
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/workers"] = workers
    refused = inject(pod, "shop", SIDECAR)
    assert isinstance(refused, Refused)
    assert "smi-mesh.io/workers" in refused.message


MESH_WIDE = replace(
    SIDECAR,
    workers="4",
    access_log="json failures",
    udp_idle="60",
    metrics="osm,smi",
    resources=replace(SIDECAR.resources, memory_limit="1Gi"),
)


def test_what_the_mesh_is_set_to_holds_for_pods_that_say_nothing() -> None:
    env = _env(injected(minimal(), MESH_WIDE))
    assert (env["SMI_MESH_WORKERS"], env["SMI_MESH_ACCESS_LOG"]) == ("4", "json failures")
    assert (env["SMI_MESH_UDP_IDLE_SECONDS"], env["SMI_MESH_METRICS"]) == ("60", "osm,smi")
    for container in injected(minimal(), MESH_WIDE)["spec"]["initContainers"]:
        assert container["resources"]["limits"] == {"memory": "1Gi"}


def test_a_pods_own_words_go_before_the_meshs() -> None:
    pod = minimal()
    pod["metadata"].setdefault("annotations", {}).update(
        {
            "smi-mesh.io/workers": "1",
            "smi-mesh.io/access-log": "off",
            "smi-mesh.io/udp-idle-seconds": "5",
            "smi-mesh.io/metrics": "linkerd",
        }
    )
    env = _env(injected(pod, MESH_WIDE))
    assert (env["SMI_MESH_WORKERS"], env["SMI_MESH_ACCESS_LOG"]) == ("1", "off")
    assert (env["SMI_MESH_UDP_IDLE_SECONDS"], env["SMI_MESH_METRICS"]) == ("5", "linkerd")


def test_the_access_log_is_asked_for_by_annotation() -> None:
    pod = minimal()
    assert "SMI_MESH_ACCESS_LOG" not in _env(injected(pod, SIDECAR))
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/access-log"] = "json failures 5%"
    assert _env(injected(pod, SIDECAR))["SMI_MESH_ACCESS_LOG"] == "json failures 5%"


def test_an_access_log_that_cannot_be_is_refused() -> None:
    pod = minimal()
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/access-log"] = "xml"
    refused = inject(pod, "shop", SIDECAR)
    assert isinstance(refused, Refused)
    assert "annotation smi-mesh.io/access-log: expected off, or json or clf" in refused.message


TRACED = replace(SIDECAR, tracing=Tracing("http://collector.o11y:4318", secret="collector-token"))


def test_without_a_collector_there_is_no_tracing() -> None:
    pod = minimal()
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/trace-sampling"] = "100%"
    assert not [name for name in _env(injected(pod, SIDECAR)) if "TRAC" in name]


def test_tracing_is_told_the_sidecar_with_the_pods_own_share() -> None:
    pod = minimal()
    env = _env(injected(pod, TRACED))
    assert env["SMI_MESH_TRACING"] == "http://collector.o11y:4318"
    assert (env["SMI_MESH_TRACING_PROTOCOL"], env["SMI_MESH_TRACE_CONTEXT"]) == ("otlp", "w3c")
    assert env["SMI_MESH_TRACE_SAMPLING"] == "1%"
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/trace-sampling"] = "0.5%"
    assert _env(injected(pod, TRACED))["SMI_MESH_TRACE_SAMPLING"] == "0.5%"
    pod["metadata"]["annotations"]["smi-mesh.io/trace-sampling"] = "off"
    assert "SMI_MESH_TRACING" not in _env(injected(pod, TRACED))


def test_what_the_collector_asks_for_comes_from_a_secret_and_only_to_the_proxy() -> None:
    init, proxy = injected(minimal(), TRACED)["spec"]["initContainers"]
    given = {one["name"]: one.get("valueFrom") for one in proxy["env"]}
    for name, key in (("SMI_MESH_TRACING_HEADERS", "headers"), ("SMI_MESH_TRACING_CA", "ca.crt")):
        assert given[name] == {"secretKeyRef": {"name": "collector-token", "key": key, "optional": True}}
    assert not [one["name"] for one in init["env"] if "TRAC" in one["name"]]


@pytest.mark.parametrize("share", ["1", "101%", "-1%", "some"])
def test_a_share_of_traces_that_cannot_be_is_refused(share: str) -> None:
    pod = minimal()
    pod["metadata"].setdefault("annotations", {})["smi-mesh.io/trace-sampling"] = share
    refused = inject(pod, "shop", SIDECAR)
    assert isinstance(refused, Refused)
    assert "annotation smi-mesh.io/trace-sampling: expected off or a share" in refused.message


def _env(pod: dict[str, Any]) -> dict[str, Any]:
    proxy = next(one for one in pod["spec"]["initContainers"] if one["name"] == "smi-mesh-proxy")
    return {variable["name"]: variable.get("value") for variable in proxy["env"]}


def test_a_sidecar_is_found_by_annotations_and_knows_its_workload() -> None:
    pod = minimal()
    pod["metadata"]["labels"] = {"app": "api", "version": "v1", "pod-template-hash": "7d9f"}
    pod["metadata"]["ownerReferences"] = [
        {"kind": "Other", "name": "x"},
        {"kind": "ReplicaSet", "name": "api-v1-7d9f", "controller": True},
    ]
    result = injected(pod)
    annotations = result["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == "15020"
    assert annotations["prometheus.io/path"] == "/metrics"
    assert _env(result)["SMI_MESH_WORKLOAD"] == "Deployment/api-v1/api/v1"
    assert _env(result)["SMI_MESH_METRICS"] == "istio,smi"


def test_how_an_app_is_scraped_stays_its_own_matter() -> None:
    pod = minimal()
    pod["metadata"]["annotations"] = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    annotations = injected(pod)["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "8080"
    assert "prometheus.io/path" not in annotations
    assert annotations["smi-mesh.io/scrape"] == "15020"
    pod["metadata"]["annotations"]["smi-mesh.io/scrape"] = "no"
    assert injected(pod)["metadata"]["annotations"]["smi-mesh.io/scrape"] == "no"


def test_a_pod_chooses_the_dialects_of_its_metrics() -> None:
    pod = minimal()
    pod["metadata"]["annotations"] = {"smi-mesh.io/metrics": " linkerd, osm,linkerd"}
    assert _env(injected(pod))["SMI_MESH_METRICS"] == "linkerd,osm"
    pod["metadata"]["annotations"] = {"smi-mesh.io/metrics": "klingon"}
    refused = inject(pod, "shop", SIDECAR)
    assert isinstance(refused, Refused)
    assert "annotation smi-mesh.io/metrics: 'klingon' is no dialect" in refused.message
