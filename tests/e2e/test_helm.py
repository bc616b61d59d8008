"""A real Helm: it takes the chart, renders what the installer would apply, and installs a mesh that works."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.manifests import InstallSettings, render
from controller.settings import read_settings
from smi.names import SYSTEM_NAMESPACE
from tests.e2e.harness import NAMESPACE, Cluster, start_cluster, wait_for

CHART = Path(__file__).parents[2] / "charts" / "smi-mesh"
IN_SYSTEM = ("-n", SYSTEM_NAMESPACE)
HELM = shutil.which(str(Path(sys.executable).parent / "helm")) or shutil.which("helm")

pytestmark = pytest.mark.skipif(
    HELM is None, reason="no Helm: `.ci/helm-binary` puts one beside the interpreter"
)


def helm(*arguments: str, kubeconfig: Path | None = None, fails: bool = False) -> str:
    """Run Helm, in an environment of its own; what it says."""
    home = Path("/nonexistent") if kubeconfig is None else kubeconfig.parent
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE", "XDG_"))
    }
    done = subprocess.run(
        [str(HELM), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**environ, "HOME": str(home), "KUBECONFIG": str(kubeconfig or "/dev/null")},
    )
    assert (done.returncode != 0) is fails, f"helm {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if fails else "")


def template(*arguments: str) -> list[Any]:
    said = helm(
        "template",
        "smi-mesh",
        str(CHART),
        *IN_SYSTEM,
        "--include-crds",
        "--kube-version",
        "1.30.0",
        *arguments,
    )
    return [one for one in yaml.safe_load_all(said) if one]


def named(objects: list[Any]) -> dict[tuple[str, str], Any]:
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects)
    return found


def installed(settings: InstallSettings) -> dict[tuple[str, str], Any]:
    """What the installer applies; the namespace is Helm's own matter."""
    return named([one for one in render(settings) if one["kind"] != "Namespace"])


def test_helm_finds_no_fault_with_the_chart() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


CHOICES: dict[str, tuple[dict[str, str], InstallSettings]] = {
    "defaults": ({}, InstallSettings()),
    "everything": (
        {
            "controllerImage": "registry.example:5000/c:1",
            "proxyImage": "registry.example:5000/p:1",
            "pullPolicy": "Always",
            "interception": "explicit",
            "udp": "off",
            "controllerAddress": "10.96.0.7",
            "trustDomain": "example.org",
            "clusterDomain": "example.internal",
            "leafSeconds": "2592000",
            "logLevel": "debug",
            "proxyLogLevel": "warning",
            "metrics": r"istio\,linkerd\,osm\,smi",
            "proxyWorkers": "4",
            "proxyAccessLog": "json failures 5%",
            "proxyUdpIdleSeconds": "60",
            "proxyCpuRequest": "100m",
            "proxyMemoryRequest": "128Mi",
            "proxyMemoryLimit": "1Gi",
            "controllerCpuRequest": "200m",
            "controllerMemoryRequest": "256Mi",
            "controllerMemoryLimit": "2Gi",
            "quietSeconds": "0.05",
            "holdoffSeconds": "0.5",
            "prometheus": "http://prometheus.monitoring:9090",
            "tracing": "http://collector.monitoring:4318",
            "tracingProtocol": "zipkin",
            "traceSampling": "5%",
            "traceContext": r"w3c\,b3",
            "tracingSecret": "collector",
            "mode": "audit",
            "mtls": "permissive",
            "regex": "full",
            "sameServiceAccount": "allow",
        },
        InstallSettings(
            controller_image="registry.example:5000/c:1",
            proxy_image="registry.example:5000/p:1",
            pull_policy="Always",
            interception="explicit",
            udp="off",
            controller_address="10.96.0.7",
            trust_domain="example.org",
            cluster_domain="example.internal",
            leaf_seconds="2592000",
            log_level="debug",
            proxy_log_level="warning",
            metrics="istio,linkerd,osm,smi",
            proxy_workers="4",
            proxy_access_log="json failures 5%",
            proxy_udp_idle_seconds="60",
            proxy_cpu_request="100m",
            proxy_memory_request="128Mi",
            proxy_memory_limit="1Gi",
            controller_cpu_request="200m",
            controller_memory_request="256Mi",
            controller_memory_limit="2Gi",
            quiet_seconds="0.05",
            holdoff_seconds="0.5",
            prometheus="http://prometheus.monitoring:9090",
            tracing="http://collector.monitoring:4318",
            tracing_protocol="zipkin",
            trace_sampling="5%",
            trace_context="w3c,b3",
            tracing_secret="collector",
            mode="audit",
            mtls="permissive",
            regex="full",
            same_service_account="allow",
        ),
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_chart_is_what_the_installer_applies(choice: str) -> None:
    values, settings = CHOICES[choice]
    usual = InstallSettings()
    other = [one.name for one in fields(usual) if getattr(settings, one.name) != getattr(usual, one.name)]
    assert len(other) == len(values), "each of them is another than the default"
    said = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    assert named(template(*said)) == installed(settings)


SWITCHES = {"prometheusRule": "PrometheusRule", "podMonitors": "PodMonitor", "grafanaDashboards": "ConfigMap"}


@pytest.mark.parametrize("chosen", list(itertools.product((False, True), repeat=3)))
def test_monitoring_objects_come_as_they_are_asked_for(chosen: tuple[bool, ...], tmp_path: Path) -> None:
    """Every combination, by a file in which `on` and `off` are YAML's booleans."""
    values = tmp_path / "values.yaml"
    lines = [f"{name}: {'on' if on else 'off'}" for name, on in zip(SWITCHES, chosen, strict=True)]
    values.write_text(
        "\n".join(
            [
                *lines,
                "monitoringLabels: {release: monitoring}",
                "udp: off",
                "leafSeconds: 2592000",
                "traceSampling: off",
            ]
        )
    )
    found = named(template("-f", str(values)))
    more = {key: one for key, one in found.items() if key not in installed(InstallSettings())}
    assert {kind for kind, _ in more} == {
        kind for kind, on in zip(SWITCHES.values(), chosen, strict=True) if on
    }
    for one in more.values():
        assert one["metadata"]["labels"]["release"] == "monitoring"
        assert one["metadata"]["namespace"] == SYSTEM_NAMESPACE
    rest = {key: one for key, one in found.items() if key not in more}
    # In this form Helm writes large numbers of a file.
    assert read_settings({"SMI_MESH_LEAF_SECONDS": "2.592e+06"}).leaf_seconds == 2592000
    assert rest == installed(
        replace(InstallSettings(), udp="off", leaf_seconds="2.592e+06", trace_sampling="off")
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "proxyWorker=2"), "proxyWorker"),
        (("--set", "proxyWorkers=0"), "proxyWorkers"),
        (("--set", "mode=lenient"), "mode"),
        (("--set", "udp=maybe"), "udp"),
        (("-n", "default"), f"-n {SYSTEM_NAMESPACE} --create-namespace"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], said: str) -> None:
    line = ("template", "x", str(CHART), *IN_SYSTEM, "--kube-version", "1.30.0")
    assert said in helm(*line, *arguments, fails=True)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster without a mesh."""
    cluster = start_cluster(tmp_path, "--no-mesh")
    try:
        yield cluster
    except BaseException:
        print(cluster.diagnosis())  # noqa: T201 - shown by pytest with the failure
        raise
    finally:
        subprocess.run(
            [*cluster.command, "local", "down", "--state-dir", str(tmp_path)], check=True, timeout=60
        )


def test_the_life_of_a_release(bare: Cluster) -> None:
    """install, upgrade with other values, uninstall; pods get what the values say."""
    mode = bare.local("status")["mode"]
    values = [] if mode == "netns" else ["--set", "interception=explicit"]
    change = ["smi-mesh", str(CHART), *IN_SYSTEM, "--wait", "--timeout", "60s"]
    said = helm("install", *change, "--create-namespace", *values, kubeconfig=bare.kubeconfig)
    assert "STATUS: deployed" in said
    values += ["--set", "proxyWorkers=2,proxyAccessLog=json"]
    if mode != "netns":  # there is no DNS for sidecars
        address = bare.get("service", "smi-mesh-controller", *IN_SYSTEM)["spec"]["clusterIP"]
        values += ["--set", f"controllerAddress={address}"]
    helm("upgrade", *change, *values, kubeconfig=bare.kubeconfig)
    wait_for("one controller", lambda: len(bare.get("pods", *IN_SYSTEM)["items"]) == 1)
    bare.deploy_sample()
    pod = bare.pods("web")[0]
    sidecar = pod["spec"]["initContainers"][-1]
    env = {one["name"]: one.get("value") for one in sidecar["env"]}
    assert (env["SMI_MESH_WORKERS"], env["SMI_MESH_ACCESS_LOG"]) == ("2", "json")
    assert bare.call("web", url="http://api-v1:8080/")["statuses"] == {"403": 1}
    wait_for(
        "a line of the access log",
        lambda: (
            '"status": 403' in bare.kubectl("logs", "-n", NAMESPACE, "deploy/web", "-c", "smi-mesh-proxy")
        ),
    )
    helm("uninstall", "smi-mesh", *IN_SYSTEM, "--wait", "--timeout", "60s", kubeconfig=bare.kubeconfig)
    wait_for("the controller's end", lambda: not bare.get("pods", *IN_SYSTEM)["items"])
    assert not bare.get("mutatingwebhookconfigurations", "-A")["items"]
    assert bare.get("crds")["items"], "Helm leaves definitions, and with them what users wrote"
