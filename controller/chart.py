"""The Helm chart: install manifests with placeholders for settings, their schema, and monitoring's objects.

Pure but for `main`, which writes it: `python -m controller.chart charts/smi-mesh`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import yaml

from controller import monitoring
from controller.admission.inject import ADMIN_PORT_NAME
from controller.manifests import InstallSettings, Manifest, control_plane
from controller.settings import OBJECT_NAME, QUANTITY, VERSION, Interception, LogLevel
from smi.names import (
    CONTROLLER_NAME,
    MAX_WORKERS,
    MESHED_LABEL,
    METRICS_DIALECTS,
    SYSTEM_NAMESPACE,
    TRACE_FORMS,
    TRACE_PROTOCOLS,
)

Json = dict[str, Any]

_HEADER: Final = "# Written by `make charts` from controller/chart.py; do not edit.\n"
_WIDTH: Final = 1 << 20
"""Templates are not folded: an action may not end up on two lines."""
_SWITCH: Final = "smi-mesh.switch"
_HELPERS: Final = f"""\
{{{{- /* A value that may be `on` or `off`: YAML 1.1 reads these words as true and false. */ -}}}}
{{{{- define "{_SWITCH}" -}}}}
{{{{- if kindIs "bool" . }}}}{{{{ ternary "on" "off" . }}}}{{{{ else }}}}{{{{ . }}}}{{{{ end }}}}
{{{{- end -}}}}
"""
_IN_OUR_NAMESPACE: Final = f"""\
{{{{- if ne .Release.Namespace "{SYSTEM_NAMESPACE}" }}}}
{{{{- fail "the mesh lives in one namespace: add -n {SYSTEM_NAMESPACE} --create-namespace" }}}}
{{{{- end }}}}
"""
_NOTES: Final = """\
smi-mesh {{ .Chart.AppVersion }} is installed. Pods join it with their namespace:

  kubectl label namespace NAME smi-mesh.io/inject=enabled

and get their sidecars when they are made anew (kubectl -n NAME rollout restart deployment).
From then on they are called only by whom a TrafficTarget names{{ if ne .Values.mode "enforce" }}
(once `mode` is `enforce`){{ end }}.
"""

# --- values and their schema --------------------------------------------------------------------------------

_ON_OR_OFF: Final[Json] = {"enum": ["on", "off", True, False]}
# A string as well: --set makes numbers of whole ones only.
_SECONDS: Final[Json] = {"type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$", "minimum": 0}
_IMAGE: Final[Json] = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"}
_DOMAIN: Final[Json] = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}
_AMOUNT: Final[Json] = {"type": ["integer", "string"], "pattern": f"^{QUANTITY}$", "minimum": 1}
# More than 0 in RE2's syntax, which Helm's validator has.
_PERCENT: Final = r"(100|[1-9][0-9]?(\.[0-9]{1,3})?|0\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9]))%"
_DIALECT: Final = f"({'|'.join(METRICS_DIALECTS)})"


_FORM: Final = f"({'|'.join(TRACE_FORMS)})"
_URL: Final[Json] = {"type": "string", "pattern": r"^(https?://[^\s'@]+)?$"}


def _one_of(*values: str) -> Json:
    return {"enum": list(values)}


def _count(most: int) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": most}


SCHEMAS: Final[Mapping[str, Json]] = {
    "controller_image": _IMAGE,
    "proxy_image": _IMAGE,
    "pull_policy": _one_of("Always", "IfNotPresent", "Never"),
    "interception": _one_of(*Interception),
    "udp": _ON_OR_OFF,
    "controller_address": {"type": "string", "pattern": "^[A-Za-z0-9.:-]+$"},
    "trust_domain": _DOMAIN,
    "cluster_domain": _DOMAIN,
    "leaf_seconds": {"type": "integer", "minimum": 2},
    "log_level": _one_of(*LogLevel),
    "proxy_log_level": _one_of(*LogLevel),
    "metrics": {"type": "string", "pattern": rf"^{_DIALECT}( *, *{_DIALECT})*$"},
    "proxy_workers": _count(MAX_WORKERS),
    "proxy_access_log": {
        "anyOf": [
            {"const": False},
            {
                "type": "string",
                "pattern": rf"^(off)?$|^(json|clf)( (failures|{_PERCENT}))*$",
            },
        ]
    },
    "proxy_udp_idle_seconds": _count(3600),
    "proxy_cpu_request": _AMOUNT,
    "proxy_memory_request": _AMOUNT,
    "proxy_memory_limit": _AMOUNT,
    "controller_cpu_request": _AMOUNT,
    "controller_memory_request": _AMOUNT,
    "controller_memory_limit": _AMOUNT,
    "quiet_seconds": _SECONDS,
    "holdoff_seconds": _SECONDS,
    "tracing": _URL,
    "tracing_protocol": _one_of(*TRACE_PROTOCOLS),
    "trace_sampling": {
        "anyOf": [
            {"const": False},
            {"type": "string", "pattern": r"^(off|(100|[0-9]{1,2}(\.[0-9]{1,3})?)%)$"},
        ]
    },
    "trace_context": {"type": "string", "pattern": rf"^{_FORM}( *, *{_FORM})*$"},
    "tracing_secret": {"type": "string", "pattern": f"^({OBJECT_NAME})?$"},
    "prometheus": _URL,
    "mode": _one_of("enforce", "permissive", "audit"),
    "mtls": _one_of("strict", "permissive"),
    "regex": _one_of("spec", "full"),
    "same_service_account": _one_of("deny", "allow"),
}
"""Setting → JSON schema of its value: what the controller would refuse, Helm refuses before."""
_SWITCHES: Final = tuple(name for name in SCHEMAS if name in ("udp", "proxy_access_log", "trace_sampling"))

MONITORING_VALUES: Final[Mapping[str, tuple[object, Json]]] = {
    "prometheusRule": ("off", _ON_OR_OFF),
    "podMonitors": ("off", _ON_OR_OFF),
    "grafanaDashboards": ("off", _ON_OR_OFF),
    "monitoringLabels": ({}, {"type": "object", "additionalProperties": {"type": "string"}}),
}
"""Value → (default, schema) of what makes objects of other operators: `on` or `off`, and their labels."""


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _placeholder(name: str) -> str:
    value = f".Values.{_camel(name)}"
    return f'{{{{ include "{_SWITCH}" {value} }}}}' if name in _SWITCHES else f"{{{{ {value} }}}}"


def _default(name: str) -> object:
    """Numbers are written as such."""
    text = getattr(InstallSettings(), name)
    kinds = SCHEMAS[name].get("type")
    if kinds in (None, "string") or not text.replace(".", "").isdecimal():
        return text
    return float(text) if "." in text else int(text)


def values() -> Json:
    """What the chart may be told, with the defaults."""
    own = {_camel(one.name): _default(one.name) for one in fields(InstallSettings)}
    return own | {name: default for name, (default, _) in MONITORING_VALUES.items()}


def schema() -> Json:
    """JSON schema (draft 7, which Helm uses) of `values`: a misspelt value is refused, not ignored."""
    own = {_camel(one.name): SCHEMAS[one.name] for one in fields(InstallSettings)}
    monitored = {name: about for name, (_, about) in MONITORING_VALUES.items()}
    # What Helm itself, or a chart that has this one as a part of it, may put there.
    others: Json = {"global": {"type": "object"}}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the smi-mesh chart",
        "type": "object",
        "properties": own | monitored | others,
        "additionalProperties": False,
    }


# --- the files ----------------------------------------------------------------------------------------------


def chart() -> dict[str, str]:
    """Path inside the chart → text."""
    from smi.api.crds import crds  # needs pydantic, which only this function pays for

    placeholders = InstallSettings(**{one.name: _placeholder(one.name) for one in fields(InstallSettings)})
    about: Manifest = {
        "apiVersion": "v2",
        "name": "smi-mesh",
        "description": "A service mesh that implements the Service Mesh Interface (SMI) v0.6",
        "type": "application",
        "version": VERSION,
        "appVersion": VERSION,
        "kubeVersion": ">=1.29.0-0",  # native sidecar containers
    }
    files = {
        "Chart.yaml": _HEADER + _yaml(about),
        "values.yaml": _HEADER + _yaml(values()),
        "values.schema.json": json.dumps(schema(), indent=1) + "\n",
        "crds/crds.yaml": _HEADER + "---\n".join(_yaml(crd) for crd in crds()),
        "templates/_helpers.tpl": _HELPERS,
        "templates/NOTES.txt": _NOTES,
        "templates/namespace.yaml": _HEADER + _IN_OUR_NAMESPACE,
    }
    for manifest in control_plane(placeholders):
        path = f"templates/{manifest['kind'].lower()}.yaml"
        text = _yaml(manifest)
        files[path] = f"{files[path]}---\n{text}" if path in files else _HEADER + text
    return files | _monitoring()


def _yaml(value: Manifest) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, width=_WIDTH)
    return text


def _monitoring() -> dict[str, str]:
    """Rules and dashboards as files of the chart, and templates that make objects for who wants them."""
    files = {"rules/smi-mesh.yaml": _HEADER + yaml.safe_dump(monitoring.rules(), sort_keys=False, width=110)}
    for name, dashboard in monitoring.dashboards().items():
        files[f"dashboards/{name}.json"] = json.dumps(dashboard, indent=1) + "\n"
    # Rules and legends have braces of their own: they are read as files, never as templates.
    rule = _object("monitoring.coreos.com/v1", "PrometheusRule", "smi-mesh")
    files["templates/prometheusrule.yaml"] = _template(
        "prometheusRule", f'{rule}spec:\n{{{{ .Files.Get "rules/smi-mesh.yaml" | indent 2 }}}}\n'
    )
    boards = _object("v1", "ConfigMap", "smi-mesh-dashboards", {"grafana_dashboard": "1"})
    files["templates/dashboards.yaml"] = _template(
        "grafanaDashboards",  # the label is what Grafana's own chart looks for
        f'{boards}data:\n{{{{ (.Files.Glob "dashboards/*.json").AsConfig | indent 2 }}}}\n',
    )
    monitors = (_object(*_POD_MONITOR, name) + _yaml({"spec": spec}) for name, spec in _pod_monitors())
    files["templates/podmonitors.yaml"] = _template("podMonitors", "---\n".join(monitors))
    return files


_POD_MONITOR: Final = ("monitoring.coreos.com/v1", "PodMonitor")


def _pod_monitors() -> tuple[tuple[str, Json], ...]:
    """Every sidecar, by the label and the port that the injector gives it; and the controller."""
    sidecars = {
        "namespaceSelector": {"any": True},
        "selector": {"matchLabels": {MESHED_LABEL: "true"}},
        "podMetricsEndpoints": [{"port": ADMIN_PORT_NAME, "path": "/metrics"}],
    }
    controller = {
        "selector": {"matchLabels": {"app.kubernetes.io/name": CONTROLLER_NAME}},
        "podMetricsEndpoints": [{"port": "http-admin", "path": "/metrics"}],
    }
    return ("smi-mesh-sidecars", sidecars), (CONTROLLER_NAME, controller)


def _object(api_version: str, kind: str, name: str, labels: Mapping[str, str] | None = None) -> str:
    """The head of an object, with the labels that the user's operators look for."""
    own = {"app.kubernetes.io/name": "smi-mesh", "app.kubernetes.io/part-of": "smi-mesh", **(labels or {})}
    text = _yaml(
        {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE, "labels": own},
        }
    )
    return f"{text}{{{{- with .Values.monitoringLabels }}}}\n{{{{ toYaml . | indent 4 }}}}\n{{{{- end }}}}\n"


def _template(value: str, text: str) -> str:
    """A template for what is made if `value` is `on`."""
    return f'{_HEADER}{{{{- if eq (include "{_SWITCH}" .Values.{value}) "on" }}}}\n{text}{{{{- end }}}}\n'


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the chart to a folder."""
    parser = argparse.ArgumentParser(description="Write the Helm chart of smi-mesh.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    for name, text in chart().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
