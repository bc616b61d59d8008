"""The CustomResourceDefinitions of all SMI kinds, as Kubernetes objects.

Structural schemas say what the published CRDs say, with three deliberate differences: TrafficTarget
requires only its destination, so that S22 can answer in the status; `headers` and a top-level
`matches` are open to both shapes users write (S2), so that nothing is pruned into "matches
everything"; the status has conditions (S31). Judgement beyond shape is `smi.lower.validate`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from smi.api.convert import SERVED_VERSIONS, STORAGE_VERSIONS
from smi.api.hub import ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE

CONVERSION_PATH: Final = "/convert"
CONVERSION_PORT: Final = 443

Schema = dict[str, Any]  # Any: JSON Schema, which Kubernetes checks


def crds() -> list[Schema]:
    """One manifest per SMI kind. `caBundle` of the conversion webhook is left to the controller."""
    return [_own(_crd(definition)) for definition in _DEFINITIONS]


def _own(value: Any) -> Any:
    """A copy that shares no part with another, so that YAML needs no anchors."""
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class _Definition:
    group: str
    kind: str
    plural: str
    short: str
    schemas: Mapping[str, Schema]
    """Version → properties beside metadata, with `required` under the empty name."""
    columns: Mapping[str, tuple[Schema, ...]]


def _crd(definition: _Definition) -> Schema:
    group, kind = definition.group, definition.kind
    versions = SERVED_VERSIONS[group, kind]
    spec: Schema = {
        "group": group,
        "scope": "Namespaced",
        "names": {
            "kind": kind,
            "listKind": f"{kind}List",
            "plural": definition.plural,
            "singular": kind.lower(),
            "shortNames": [definition.short],
            "categories": ["smi"],
        },
        "versions": [_version(definition, version) for version in reversed(versions)],
    }
    if len(versions) > 1:
        spec["conversion"] = {
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1"],
                "clientConfig": {
                    "service": {
                        "namespace": SYSTEM_NAMESPACE,
                        "name": CONTROLLER_NAME,
                        "path": CONVERSION_PATH,
                        "port": CONVERSION_PORT,
                    }
                },
            },
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{definition.plural}.{group}",
            "labels": {"app.kubernetes.io/part-of": "smi-mesh"},
        },
        "spec": spec,
    }


def _version(definition: _Definition, version: str) -> Schema:
    schema = dict(definition.schemas[version])
    required = schema.pop("", None)
    body = _object({**schema, "status": _STATUS}, required)
    body["description"] = f"{definition.kind} of {definition.group}/{version}."
    return {
        "name": version,
        "served": True,
        "storage": version == STORAGE_VERSIONS[definition.group, definition.kind],
        "schema": {"openAPIV3Schema": body},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [*definition.columns[version], *_STATUS_COLUMNS],
    }


# --- building blocks --------------------------------------------------------------------------


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _text(description: str, **rest: Any) -> Schema:
    return {"type": "string", "description": description, **rest}


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    return column | {"priority": priority} if priority else column


_OPEN: Final[Schema] = {"x-kubernetes-preserve-unknown-fields": True}
_PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
_STATUS: Final = (
    _object(
        {
            "conditions": {
                **_array(
                    _object(
                        {
                            "type": _text(
                                "Accepted, ResolvedRefs, BackendsResolved, Programmed, Conflicted."
                            ),
                            "status": _text("True, False or Unknown.", enum=["True", "False", "Unknown"]),
                            "observedGeneration": {"type": "integer", "format": "int64"},
                            "lastTransitionTime": _text("When status last changed.", format="date-time"),
                            "reason": _text("One word."),
                            "message": _text("What there is to say."),
                        },
                        ["type", "status"],
                    )
                ),
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
            "observedGeneration": {"type": "integer", "format": "int64"},
        }
    )
    | _OPEN
)
_STATUS_COLUMNS: Final = (
    _column("Accepted", '.status.conditions[?(@.type=="Accepted")].status'),
    _column("Programmed", '.status.conditions[?(@.type=="Programmed")].message', priority=1),
    _column("Age", ".metadata.creationTimestamp", "date"),
)

# --- split ------------------------------------------------------------------------------------


def _split_schema(version: str) -> Schema:
    weight: Schema = {"description": "Share of the calls, relative to the other backends."}
    if version == "v1alpha1":
        weight |= {"x-kubernetes-int-or-string": True}
    else:
        weight |= {"type": "integer", "minimum": 0, "format": "int64"}
    backend = _object(
        {"service": _text("A Service of this namespace.", minLength=1), "weight": weight},
        ["service", "weight"],
    )
    properties: Schema = {
        "service": _text("The root Service: the name that clients use.", minLength=1),
        "backends": _array(backend),
    }
    if version in ("v1alpha3", "v1alpha4"):
        kind = _text("Kind of the route object.", enum=["HTTPRouteGroup"])
        reference = {"kind": kind, "name": _text("Name of the route object.", minLength=1)}
        properties["matches"] = {
            **_array(_object(reference, ["kind", "name"])),
            "description": "Only requests that meet one of these are split; without, all calls are.",
        }
    return {"spec": _object(properties, ["service", "backends"]), "": ["spec"]}


# --- access -----------------------------------------------------------------------------------


def _subject(version: str, destination: bool = False) -> Schema:
    properties: Schema = {
        "kind": _text("ServiceAccount, or IdentityBinding (v1alpha4 draft)."),
        "name": _text("Name of the subject.", minLength=1),
        "namespace": _text("Namespace of the subject; empty = the TrafficTarget's own."),
    }
    if version == "v1alpha4":
        properties["group"] = _text("API group of the kind.")
    if destination and version in ("v1alpha1", "v1alpha2"):
        properties["port"] = {**_PORT, "description": "Port of the pod; without, all ports."}
    return _object(properties, ["kind", "name"])


def _target_schema(version: str) -> Schema:
    kinds = ["HTTPRouteGroup", "TCPRoute", "UDPRoute"]
    rule = _object(
        {
            "kind": _text("Kind of the route object.", enum=kinds),
            "name": _text("Name of the route object.", minLength=1),
            "matches": {
                **_array({"type": "string"}),
                "description": "Names of matches of an HTTPRouteGroup; without, all of them.",
            },
        },
        ["kind", "name"],
    )
    rules = "specs" if version == "v1alpha1" else "rules"
    properties = {
        "destination": _subject(version, destination=True),
        rules: _array(rule),
        "sources": _array(_subject(version)),
    }
    if version == "v1alpha1":
        return {**properties, "": ["destination"]}
    return {"spec": _object(properties, ["destination"]), "": ["spec"]}


_BINDING_SCHEMA: Final[Schema] = {
    "spec": _object(
        {
            "schemes": _object(
                {
                    "podLabelSelector": _object(
                        {
                            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                            # Here so that validation can refuse it: pruned, the rest would select more.
                            "matchExpressions": _array({"type": "object", **_OPEN}),
                        }
                    ),
                    "spiffeIdentities": _array(
                        _text("A SPIFFE id, with or without its scheme.", minLength=1)
                    ),
                    "serviceAccount": _text("A ServiceAccount of this namespace.", minLength=1),
                }
            )
        },
        ["schemes"],
    ),
    "": ["spec"],
}

# --- specs ------------------------------------------------------------------------------------


def _group_schema(version: str) -> Schema:
    properties: Schema = {
        "name": _text("Name of the match, to refer to it."),
        "pathRegex": _text("RE2 pattern, anchored at the start of the path."),
        "methods": _array({"type": "string"}),
    }
    if version != "v1alpha1":
        properties["headers"] = {
            "description": "Header name to RE2 pattern: a map, or a list of maps.",
            **_OPEN,
            # Several Kubernetes releases prune the maps of a list that only its parent leaves open.
            "items": _OPEN,
        }
    matches = _array(_object(properties))
    if version in ("v1alpha1", "v1alpha2"):
        return {"matches": matches}
    return {"spec": _object({"matches": matches}), "matches": matches}


def _route_schema(version: str) -> Schema:
    if version in ("v1alpha1", "v1alpha2"):
        return {}
    if version == "v1alpha3":
        return {"spec": _object({})}
    ports = {**_array(_PORT), "description": "Ports of the pod; none = all ports."}
    return {"spec": _object({"matches": _object({"ports": ports})})}


# --- the kinds --------------------------------------------------------------------------------

_SERVICE: Final = _column("Service", ".spec.service")
_TARGET_COLUMNS: Final[Mapping[str, tuple[Schema, ...]]] = {
    version: (_column("Destination", f"{prefix}.destination.name"),)
    for version, prefix in (
        ("v1alpha1", ""),
        ("v1alpha2", ".spec"),
        ("v1alpha3", ".spec"),
        ("v1alpha4", ".spec"),
    )
}
_PORTS: Final = _column("Ports", ".spec.matches.ports")


def _schemas(group: str, kind: str, build: Callable[[str], Schema]) -> Mapping[str, Schema]:
    return {version: build(version) for version in SERVED_VERSIONS[group, kind]}


_DEFINITIONS: Final = (
    _Definition(
        SPLIT_GROUP,
        "TrafficSplit",
        "trafficsplits",
        "ts",
        _schemas(SPLIT_GROUP, "TrafficSplit", _split_schema),
        dict.fromkeys(SERVED_VERSIONS[SPLIT_GROUP, "TrafficSplit"], (_SERVICE,)),
    ),
    _Definition(
        ACCESS_GROUP,
        "TrafficTarget",
        "traffictargets",
        "tt",
        _schemas(ACCESS_GROUP, "TrafficTarget", _target_schema),
        _TARGET_COLUMNS,
    ),
    _Definition(
        ACCESS_GROUP,
        "IdentityBinding",
        "identitybindings",
        "ib",
        {"v1alpha4": _BINDING_SCHEMA},
        {"v1alpha4": (_column("ServiceAccount", ".spec.schemes.serviceAccount"),)},
    ),
    _Definition(
        SPECS_GROUP,
        "HTTPRouteGroup",
        "httproutegroups",
        "htr",
        _schemas(SPECS_GROUP, "HTTPRouteGroup", _group_schema),
        dict.fromkeys(SERVED_VERSIONS[SPECS_GROUP, "HTTPRouteGroup"], ()),
    ),
    _Definition(
        SPECS_GROUP,
        "TCPRoute",
        "tcproutes",
        "tr",
        _schemas(SPECS_GROUP, "TCPRoute", _route_schema),
        {
            version: (_PORTS,) if version == "v1alpha4" else ()
            for version in SERVED_VERSIONS[SPECS_GROUP, "TCPRoute"]
        },
    ),
    _Definition(
        SPECS_GROUP,
        "UDPRoute",
        "udproutes",
        "ur",
        {"v1alpha4": _route_schema("v1alpha4")},
        {"v1alpha4": (_PORTS,)},
    ),
)
