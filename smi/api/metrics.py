"""Models of `metrics.smi-spec.io` v1alpha1 (S30): what the TrafficMetrics API answers with.

The controller builds these and serialises them with `model_dump(by_alias=True, exclude_none=True)`;
`kubectl traffic` reads them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from smi.api.model import ApiModel


class Direction(StrEnum):
    TO = "to"
    FROM = "from"


class Side(StrEnum):
    CLIENT = "client"
    SERVER = "server"


class ObjectReference(ApiModel):
    """A Kubernetes object; for an edge any part may be missing, which widens it."""

    api_version: str | None = Field(default=None, alias="apiVersion")
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


class Edge(ApiModel):
    """Which traffic of the resource: to or from whom, seen where."""

    direction: Direction
    side: Side
    resource: ObjectReference | None = None


class Backend(ApiModel):
    """A trafficsplits item's backend: the split's root, the backend's name and weight."""

    apex: str
    name: str
    weight: int


class Metric(ApiModel):
    """One number; latencies are quantities in `seconds`, counts have no unit."""

    name: str
    unit: str | None = None
    value: str | int


class Metadata(ApiModel):
    """What the generic clients of Kubernetes look for in any object."""

    name: str
    namespace: str | None = None
    creation_timestamp: str | None = Field(default=None, alias="creationTimestamp")
    annotations: dict[str, str] | None = None


class TrafficMetrics(ApiModel):
    """Latency percentiles and request counts of one resource over one window."""

    api_version: Literal["metrics.smi-spec.io/v1alpha1"] = Field(
        default="metrics.smi-spec.io/v1alpha1", alias="apiVersion"
    )
    kind: Literal["TrafficMetrics"] = "TrafficMetrics"
    metadata: Metadata
    resource: ObjectReference
    edge: Edge
    backend: Backend | None = None
    timestamp: str
    """RFC 3339."""
    window: str
    """A Go duration such as `30s`."""
    metrics: list[Metric]


class Selector(ApiModel):
    """The label selector of a list, as far as it demands equality (spec: `matchLabels`)."""

    match_labels: dict[str, str] = Field(alias="matchLabels")


class TrafficMetricsList(ApiModel):
    """The metrics of all resources of one kind, or of all edges of one resource."""

    api_version: Literal["metrics.smi-spec.io/v1alpha1"] = Field(
        default="metrics.smi-spec.io/v1alpha1", alias="apiVersion"
    )
    kind: Literal["TrafficMetricsList"] = "TrafficMetricsList"
    metadata: dict[str, str] = Field(default_factory=dict)
    resource: ObjectReference
    selector: Selector | None = None
    items: list[TrafficMetrics]
