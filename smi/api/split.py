"""Models of `split.smi-spec.io` v1alpha1 to v1alpha4: TrafficSplit."""

from __future__ import annotations

from smi.api.model import ApiModel, ApiObject, Name, Quantity, Weight


class BackendV1alpha1(ApiModel):
    """A backend whose weight is a resource quantity."""

    service: Name
    weight: Quantity


class Backend(ApiModel):
    """A backend whose weight is a whole number (v1alpha2 and later)."""

    service: Name
    weight: Weight


class RouteReference(ApiModel):
    """An HTTPRouteGroup whose matches filter the split (v1alpha3 and later)."""

    kind: Name
    name: Name


class SpecV1alpha1(ApiModel):
    service: Name
    backends: list[BackendV1alpha1]


class SpecV1alpha2(ApiModel):
    service: Name
    backends: list[Backend]


class SpecV1alpha3(ApiModel):
    service: Name
    backends: list[Backend]
    matches: list[RouteReference] | None = None


class TrafficSplitV1alpha1(ApiObject):
    """split v1alpha1: weights are quantities."""

    spec: SpecV1alpha1


class TrafficSplitV1alpha2(ApiObject):
    """split v1alpha2: weights are whole numbers."""

    spec: SpecV1alpha2


class TrafficSplitV1alpha3(ApiObject):
    """split v1alpha3: `matches` for A/B tests."""

    spec: SpecV1alpha3


class TrafficSplitV1alpha4(ApiObject):
    """split v1alpha4: as v1alpha3."""

    spec: SpecV1alpha3
