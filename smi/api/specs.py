"""Models of `specs.smi-spec.io` v1alpha1 to v1alpha4: HTTPRouteGroup, TCPRoute, UDPRoute."""

from __future__ import annotations

from pydantic import Field

from smi.api.model import ApiModel, ApiObject, HeaderFilters, Port


class MatchV1alpha1(ApiModel):
    """A match by path and method."""

    name: str = ""
    path_regex: str | None = Field(default=None, alias="pathRegex")
    methods: list[str] | None = None


class Match(MatchV1alpha1):
    """A match by path, method and header filters (v1alpha2 and later)."""

    headers: HeaderFilters = Field(default_factory=list)


class HTTPRouteGroupSpec(ApiModel):
    matches: list[Match] | None = None


class HTTPRouteGroupV1alpha1(ApiObject):
    """specs v1alpha1: matches at top level, no header filters."""

    matches: list[MatchV1alpha1] | None = None


class HTTPRouteGroupV1alpha2(ApiObject):
    """specs v1alpha2: matches at top level."""

    matches: list[Match] | None = None


class HTTPRouteGroupV1alpha3(ApiObject):
    """specs v1alpha3: matches under `spec`; top-level ones are honoured (S2)."""

    spec: HTTPRouteGroupSpec | None = None
    matches: list[Match] | None = None


class HTTPRouteGroupV1alpha4(HTTPRouteGroupV1alpha3):
    """specs v1alpha4: as v1alpha3."""


class PortMatches(ApiModel):
    ports: list[Port] | None = None


class PortRouteSpec(ApiModel):
    matches: PortMatches | None = None


class TCPRouteV1alpha1(ApiObject):
    """specs v1alpha1 to v1alpha3: any TCP traffic, nothing to say."""


class TCPRouteV1alpha4(ApiObject):
    """specs v1alpha4: TCP traffic to a list of ports; none = all (S24)."""

    spec: PortRouteSpec | None = None


class UDPRouteV1alpha4(ApiObject):
    """specs v1alpha4: UDP traffic to a list of ports; none = all (S24)."""

    spec: PortRouteSpec | None = None
