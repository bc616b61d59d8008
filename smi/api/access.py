"""Models of `access.smi-spec.io` v1alpha1 to v1alpha3 and the v1alpha4 draft."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from smi.api.model import ApiModel, ApiObject, Name, Port


class Rule(ApiModel):
    """A reference to a route object; `matches` names matches of an HTTPRouteGroup (S22)."""

    kind: Name
    name: Name
    matches: list[str] | None = None


class Subject(ApiModel):
    """A source, or a destination from v1alpha3 on."""

    kind: Name
    name: Name
    namespace: str | None = None


class SubjectWithPort(Subject):
    """A destination of v1alpha1 and v1alpha2."""

    port: Port | None = None


class SubjectWithGroup(Subject):
    """A subject of v1alpha4, whose kind may be IdentityBinding of group access.smi-spec.io."""

    group: str | None = None


class SubjectHub(SubjectWithPort, SubjectWithGroup):
    """Everything any version says about a destination."""


class SpecV1alpha2(ApiModel):
    destination: SubjectWithPort
    rules: list[Rule] | None = None
    sources: list[Subject] | None = None


class SpecV1alpha3(ApiModel):
    destination: Subject
    rules: list[Rule] | None = None
    sources: list[Subject] | None = None


class SpecV1alpha4(ApiModel):
    destination: SubjectWithGroup
    rules: list[Rule] | None = None
    sources: list[SubjectWithGroup] | None = None


class SpecHub(ApiModel):
    destination: SubjectHub
    rules: list[Rule] | None = None
    sources: list[SubjectWithGroup] | None = None


class TrafficTargetV1alpha1(ApiObject):
    """access v1alpha1: everything at top level, rules are called `specs`."""

    destination: SubjectWithPort
    specs: list[Rule] | None = None
    sources: list[Subject] | None = None


class TrafficTargetV1alpha2(ApiObject):
    """access v1alpha2: under `spec`, with `destination.port`."""

    spec: SpecV1alpha2


class TrafficTargetV1alpha3(ApiObject):
    """access v1alpha3: ports come from TCPRoute and UDPRoute."""

    spec: SpecV1alpha3


class TrafficTargetV1alpha4(ApiObject):
    """access v1alpha4 (draft): subjects have a group."""

    spec: SpecV1alpha4


class TrafficTargetHub(ApiObject):
    """The hub form that `convert` makes: every field of every version."""

    spec: SpecHub


class LabelSelector(ApiModel):
    """`podLabelSelector`: the draft shows matchLabels only.

    A selector with matchExpressions is refused: to ignore them would select more pods than meant.
    """

    match_labels: dict[str, str] = Field(default_factory=dict, alias="matchLabels")
    match_expressions: list[Any] = Field(default_factory=list, alias="matchExpressions")

    @field_validator("match_expressions")
    @classmethod
    def _none(cls, value: list[Any]) -> list[Any]:
        if value:
            raise ValueError("matchExpressions are not supported, use matchLabels")
        return value


class Schemes(ApiModel):
    """The ways an IdentityBinding names workloads; they are OR'd (R11)."""

    pod_label_selector: LabelSelector | None = Field(default=None, alias="podLabelSelector")
    spiffe_identities: list[Name] | None = Field(default=None, alias="spiffeIdentities")
    service_account: Name | None = Field(default=None, alias="serviceAccount")


class IdentityBindingSpec(ApiModel):
    schemes: Schemes


class IdentityBindingV1alpha4(ApiObject):
    """access v1alpha4 (draft): which identities belong to a workload."""

    spec: IdentityBindingSpec
