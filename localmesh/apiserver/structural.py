"""Structural schemas of custom resources: prune, default, validate. (Filled in below.)"""

from __future__ import annotations

from dataclasses import dataclass

from localmesh.apiserver.jsonvalue import JsonObject


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a custom resource keeps what the scale subresource shows."""

    spec_replicas: tuple[str, ...]
    status_replicas: tuple[str, ...]
    label_selector: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class CustomVersion:
    """One version of a custom resource."""

    name: str
    schema: JsonObject
    status: bool
    scale: ScalePaths | None
    columns: tuple[JsonObject, ...]
    selectable: frozenset[str]
    warning: str = ""
