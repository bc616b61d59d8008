"""The Helm chart made of the install manifests; a real Helm is asked in tests/e2e/test_helm.py."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import dataplane.settings
from controller.admission.inject import Sidecar, inject
from controller.chart import MONITORING_VALUES, SCHEMAS, chart, main, schema, values
from controller.compile.read import from_kubernetes
from controller.manifests import InstallSettings, control_plane
from controller.settings import SettingsError, Tracing, read_settings
from smi import names

CHART = Path(__file__).parents[2] / "charts" / "smi-mesh"
SETTINGS = [one.name for one in fields(InstallSettings)]
SAMPLES = (
    "", "on", "off", "true", "0", "1", "2", "64", "65", "3600", "3601", "0.5", "1e3", "-1", "1.5.2", "inf",
    "json", "clf", "json 5%", "clf failures 10%", "json 0%", "json loud", "JSON", "debug", "warning", "loud",
    "istio", "istio,smi", "istio, linkerd", "istio,", "nosuch", "http://prometheus:9090", "https://p/x",
    "ftp://p", "http://u@p", "http://", "10m", "64Mi", "1.5", "2Gi", "64MB", "x y", "a'b", "{{ .x }}",
    "Always", "Never", "explicit", "ebpf", "permissive", "audit", "enforce", "strict", "full", "spec",
    "1%", "0%", "100%", "101%", "0.25%", "1.2345%", "w3c", "b3,w3c", "b3-multi", "jaeger", "otlp", "zipkin",
    "100.5%", "my-token", "My_Token", "allow", "deny", "example.org",
    "registry.example:5000/smi/proxy:1.2@sha256:ab", "10.0.0.9",
)  # fmt: skip


def test_the_chart_is_up_to_date() -> None:
    """Run `make charts` if this fails."""
    there = {str(path.relative_to(CHART)): path.read_text() for path in CHART.rglob("*") if path.is_file()}
    assert there == chart()


def test_writing_the_chart(tmp_path: Path) -> None:
    main([str(tmp_path)])
    assert (tmp_path / "templates" / "deployment.yaml").read_text() == chart()["templates/deployment.yaml"]


def test_every_value_of_the_chart_is_used() -> None:
    files = chart()
    templates = "".join(text for name, text in files.items() if name.startswith("templates/"))
    for name in yaml.safe_load(files["values.yaml"]):
        assert re.search(rf"{{{{.*\.Values\.{name}\b.*}}}}", templates), name


def test_objects_of_other_operators_are_made_only_for_who_asks() -> None:
    files = chart()
    for value in (name for name, (default, _) in MONITORING_VALUES.items() if default == "off"):
        (text,) = [text for text in files.values() if f'switch" .Values.{value})' in text]
        head, condition, *_, end = text.rstrip("\n").split("\n")
        wanted = f'{{{{- if eq (include "smi-mesh.switch" .Values.{value}) "on" }}}}'
        assert (head[:1], condition, end) == ("#", wanted, "{{- end }}")


# --- values, schema and what the controller understands are one ---------------------------------------------


def test_the_defaults_meet_the_schema() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    jsonschema.validate(values(), schema(), jsonschema.Draft7Validator)
    assert json.loads(chart()["values.schema.json"]) == schema()
    assert yaml.safe_load(chart()["values.yaml"]) == values()
    with pytest.raises(jsonschema.ValidationError, match="Additional properties"):
        jsonschema.validate({"proxyWorker": 2}, schema())


def accepted(name: str, value: object) -> bool:
    return bool(jsonschema.Draft7Validator(SCHEMAS[name]).is_valid(value))


def environment(settings: InstallSettings) -> dict[str, str]:
    deployment = next(one for one in control_plane(settings) if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def variables(name: str) -> list[str]:
    """The controller's environment variables that a setting ends in."""
    given = environment(InstallSettings(**{name: "MARK"}))
    return [variable for variable, value in given.items() if value == "MARK"]


def as_helm_writes_it(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def candidates() -> Iterator[object]:
    yield from SAMPLES
    yield from (True, False, 0, 1, 2, 64, 65, 3600, 3601, 0.5, -1, 1e9)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_schema_lets_through_is_understood(name: str) -> None:
    """Helm refuses what the controller would refuse, at the time somebody is there to read it."""
    let_through = [value for value in candidates() if accepted(name, value)]
    assert let_through, "no sample is of this kind"
    assert len(let_through) < len(list(candidates())), "the schema says nothing"
    for value in let_through:
        text = as_helm_writes_it(value)
        for variable in variables(name):
            read_settings({variable: text, "POD_IP": "10.0.0.1"})  # raises what it does not understand
        (config,) = [
            one for one in control_plane(InstallSettings(**{name: text})) if one["kind"] == "ConfigMap"
        ]
        assert not from_kubernetes("ConfigMap", config).findings, value


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_controller_refuses_helm_refuses(name: str) -> None:
    for variable in variables(name):
        for value in candidates():
            try:
                read_settings({variable: as_helm_writes_it(value), "POD_IP": "10.0.0.1"})
            except SettingsError:
                assert not accepted(name, value), (variable, value)


class Asked(dict[str, str]):
    """An environment that notes what is looked up in it."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)


NOT_IN_THE_CHART = {
    "POD_IP": "of the pod itself",
    "SMI_MESH_BIND": "follows from the interception",
    "SMI_MESH_DISCOVERY_PORT": "the Service and every sidecar know it",
    "SMI_MESH_IDENTITY_PORT": "the Service and every sidecar know it",
    "SMI_MESH_ADMIN_PORT": "the probes know it",
    "SMI_MESH_WEBHOOK_PORT": "the Service knows it",
    "SMI_MESH_TRAFFIC_PORT": "the Service knows it",
    "SMI_MESH_DRAIN_SECONDS": "belongs to the Deployment's grace period, which is fixed",
}


def test_every_variable_of_the_controller_is_set_by_the_chart() -> None:
    asked = Asked({})
    read_settings(asked)
    assert asked.names - environment(InstallSettings()).keys() == NOT_IN_THE_CHART.keys()
    assert environment(InstallSettings()).keys() <= asked.names


MESH_WIDE = {
    "MODE_ANNOTATION": "mode",
    "MTLS_ANNOTATION": "mtls",
    "REGEX_ANNOTATION": "regex",
    "UDP_IDLE_ANNOTATION": "proxy_udp_idle_seconds",
    "WORKERS_ANNOTATION": "proxy_workers",
    "METRICS_ANNOTATION": "metrics",
    "ACCESS_LOG_ANNOTATION": "proxy_access_log",
    "TRACE_SAMPLING_ANNOTATION": "trace_sampling",
}
ONE_BY_ONE = {
    "FALLBACK_ANNOTATION": "what to do without a backend is the split's own matter (S7)",
    "EXCLUDE_INBOUND_ANNOTATION": "a hole in every policy: it is made pod by pod",
    "EXCLUDE_OUTBOUND_ANNOTATION": "a hole in every policy: it is made pod by pod",
    "RATE_LIMIT_ANNOTATION": "every Service has another capacity",
    "CONNECTION_RATE_LIMIT_ANNOTATION": "every Service has another capacity",
    "CIRCUIT_BREAKER_ANNOTATION": "every Service has another capacity",
    "OUTLIER_DETECTION_ANNOTATION": "every Service has other failures",
    "SCRAPE_ANNOTATION": "the injector's own mark",
    "WITHDRAW_ANNOTATION": "belongs to the pod's grace period, which is the app's",
}


def test_every_annotation_has_a_setting_for_the_whole_mesh_or_a_reason_why_not() -> None:
    known = {name for name in vars(names) if name.endswith("_ANNOTATION")}
    assert known == MESH_WIDE.keys() | ONE_BY_ONE.keys()
    assert set(MESH_WIDE.values()) <= set(SETTINGS)


NOT_INJECTED = {
    **dict.fromkeys(
        ("SMI_MESH_OUTBOUND_PORT", "SMI_MESH_INBOUND_PORT", "SMI_MESH_MESH_PORT", "SMI_MESH_ADMIN_PORT"),
        "peers, probes and redirects know them; tests choose others",
    ),
    **dict.fromkeys(
        ("SMI_MESH_DISCOVERY_PORT", "SMI_MESH_IDENTITY_PORT"), "the controller's Service has them"
    ),
    "SMI_MESH_DRAIN_SECONDS": "belongs to the pod's grace period, which is the app's",
}


def test_every_variable_of_the_sidecar_comes_from_pod_or_mesh() -> None:
    read = set(re.findall(r'"((?:SMI_MESH|POD)_[A-Z_]+)"', Path(dataplane.settings.__file__).read_text()))
    wishes = {
        names.WORKERS_ANNOTATION: "2",
        names.ACCESS_LOG_ANNOTATION: "json",
        names.UDP_IDLE_ANNOTATION: "7",
    }
    app = {"name": "app", "readinessProbe": {"tcpSocket": {"port": 80}}}
    pod = {"metadata": {"annotations": wishes}, "spec": {"containers": [app]}}
    tracing = Tracing("http://collector:4318", secret="token")
    sidecar = Sidecar(
        "i", "Always", "c", "cluster.local", "cluster.local", "-----BEGIN CERTIFICATE-----", tracing=tracing
    )
    patch = inject(pod, "shop", sidecar)
    assert isinstance(patch, list)
    (containers,) = [step["value"] for step in patch if step["path"] == "/spec/initContainers"]
    given = {one["name"] for one in containers[-1]["env"]}
    assert given <= read
    assert read - given == NOT_INJECTED.keys()


def test_every_value_is_documented() -> None:
    page = (CHART.parents[1] / "docs" / "installing.md").read_text()
    assert [name for name in values() if f"`{name}`" not in page] == []
