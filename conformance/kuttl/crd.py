"""A CustomResourceDefinition in its old shape, apiextensions.k8s.io/v1beta1. Pure.

Kubernetes stopped serving v1beta1 with 1.22, but old suites assert on it. The view is what the API server's
conversion gave: what all versions have in common stands at the top, and columns spell `JSONPath`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

V1: Final = "apiextensions.k8s.io/v1"
V1BETA1: Final = "apiextensions.k8s.io/v1beta1"
_HOISTED: Final = (
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
)
"""Field of the old spec → field of each version."""


def is_old(obj: Mapping[str, Any]) -> bool:
    """Whether an object is a definition in the old shape."""
    return obj.get("apiVersion") == V1BETA1 and obj.get("kind") == "CustomResourceDefinition"


def old_view(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A v1 definition as v1beta1 showed it."""
    spec = dict(definition.get("spec") or {})
    versions = [_version(version) for version in spec.get("versions") or []]
    view = {**spec, "versions": versions}
    if versions:
        view["version"] = versions[0]["name"]
    for old, place in _HOISTED:
        common = [version.get(place) for version in versions]
        if common and common[0] is not None and all(value == common[0] for value in common):
            view[old] = common[0]
            for version in versions:
                del version[place]
    if "conversion" in spec:
        view["conversion"] = _conversion(spec["conversion"])
    return {**definition, "apiVersion": V1BETA1, "spec": view}


def _version(version: Mapping[str, Any]) -> dict[str, Any]:
    copy = dict(version)
    if "additionalPrinterColumns" in copy:
        copy["additionalPrinterColumns"] = [
            {("JSONPath" if key == "jsonPath" else key): value for key, value in column.items()}
            for column in copy["additionalPrinterColumns"]
        ]
    return copy


def _conversion(conversion: Mapping[str, Any]) -> dict[str, Any]:
    copy = {key: value for key, value in conversion.items() if key != "webhook"}
    webhook = conversion.get("webhook") or {}
    if "clientConfig" in webhook:
        copy["webhookClientConfig"] = webhook["clientConfig"]
    if "conversionReviewVersions" in webhook:
        copy["conversionReviewVersions"] = webhook["conversionReviewVersions"]
    return copy
