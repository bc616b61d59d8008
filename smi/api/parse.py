"""A Kubernetes object in any SMI version → its hub value, or findings that say why not (S1-S3).

`parse` never raises for what an object holds. It reads the object twice: with the model of its own
version, so that a finding names the field its author wrote, and then the hub form of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict

from pydantic import ValidationError

from smi.api import access, specs, split
from smi.api.convert import KEPT_ANNOTATION, ConversionError, hub_form, identify
from smi.api.hub import (
    HTTPMatch,
    HTTPRouteGroup,
    IdentityBinding,
    RouteRef,
    SmiObject,
    Subject,
    TCPRoute,
    TrafficSplit,
    TrafficTarget,
    UDPRoute,
    WeightedService,
)
from smi.api.model import ApiObject, ObjectMeta
from smi.findings import Finding, ObjectRef, Reason, Severity

_MAX_FINDINGS: Final = 10


@dataclass(frozen=True, slots=True)
class Parsed:
    """The object reads; `findings` are warnings."""

    value: SmiObject
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The object does not read; at least one finding is an error. It is as if absent (R3)."""

    ref: ObjectRef
    findings: tuple[Finding, ...]


MODELS: Final[Mapping[tuple[str, str], type[ApiObject]]] = {
    ("TrafficSplit", "v1alpha1"): split.TrafficSplitV1alpha1,
    ("TrafficSplit", "v1alpha2"): split.TrafficSplitV1alpha2,
    ("TrafficSplit", "v1alpha3"): split.TrafficSplitV1alpha3,
    ("TrafficSplit", "v1alpha4"): split.TrafficSplitV1alpha4,
    ("TrafficTarget", "v1alpha1"): access.TrafficTargetV1alpha1,
    ("TrafficTarget", "v1alpha2"): access.TrafficTargetV1alpha2,
    ("TrafficTarget", "v1alpha3"): access.TrafficTargetV1alpha3,
    ("TrafficTarget", "v1alpha4"): access.TrafficTargetV1alpha4,
    ("IdentityBinding", "v1alpha4"): access.IdentityBindingV1alpha4,
    ("HTTPRouteGroup", "v1alpha1"): specs.HTTPRouteGroupV1alpha1,
    ("HTTPRouteGroup", "v1alpha2"): specs.HTTPRouteGroupV1alpha2,
    ("HTTPRouteGroup", "v1alpha3"): specs.HTTPRouteGroupV1alpha3,
    ("HTTPRouteGroup", "v1alpha4"): specs.HTTPRouteGroupV1alpha4,
    ("TCPRoute", "v1alpha1"): specs.TCPRouteV1alpha1,
    ("TCPRoute", "v1alpha2"): specs.TCPRouteV1alpha1,
    ("TCPRoute", "v1alpha3"): specs.TCPRouteV1alpha1,
    ("TCPRoute", "v1alpha4"): specs.TCPRouteV1alpha4,
    ("UDPRoute", "v1alpha4"): specs.UDPRouteV1alpha4,
}
"""(kind, version) → model; kinds are unique across the groups."""


def parse(obj: Mapping[str, Any]) -> Parsed | Rejected:
    """Read an SMI object of any served version. Any: it has no shape until this returns."""
    ref = _ref(obj)
    try:
        _, kind, version = identify(obj)
    except ConversionError as error:
        return Rejected(ref, (Finding(ref, Severity.ERROR, Reason.INVALID, str(error), "apiVersion"),))
    try:
        MODELS[kind, version].model_validate(obj)
    except ValidationError as error:
        return Rejected(ref, _complaints(ref, error, ""))
    doc = hub_form(obj)
    try:
        value = _BUILDERS[kind](doc)
    except ValidationError as error:
        return Rejected(ref, _complaints(ref, error, _kept_annotation(obj)))
    return Parsed(value, _top_level_matches(ref, kind, doc))


def _top_level_matches(ref: ObjectRef, kind: str, doc: Mapping[str, Any]) -> tuple[Finding, ...]:
    """S2: what stands at top level in the hub form stands there under v1alpha3 or v1alpha4."""
    if kind != "HTTPRouteGroup" or not doc.get("matches"):
        return ()
    message = "v1alpha3 and later have matches under spec; these at top level are honoured"
    return (Finding(ref, Severity.WARNING, Reason.TOP_LEVEL_MATCHES, message, "matches"),)


def _kept_annotation(obj: Mapping[str, Any]) -> str:
    """The annotation's field path where there is one: the object itself reads, so it is to blame."""
    annotations = obj["metadata"].get("annotations") or {}
    return f"metadata.annotations.{KEPT_ANNOTATION}" if KEPT_ANNOTATION in annotations else ""


def _ref(obj: Mapping[str, Any]) -> ObjectRef:
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    api_version, kind = str(obj.get("apiVersion") or ""), str(obj.get("kind") or "")
    namespace, name = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
    return ObjectRef(api_version.rpartition("/")[0], kind, namespace, name)


def _complaints(ref: ObjectRef, error: ValidationError, within: str) -> tuple[Finding, ...]:
    findings = []
    for item in error.errors(include_url=False, include_context=False)[:_MAX_FINDINGS]:
        field = within or _dotted(item["loc"])
        reason = Reason.INVALID_WEIGHT if item["loc"][-1:] == ("weight",) else Reason.INVALID
        findings.append(
            Finding(ref, Severity.ERROR, reason, _message(item["type"], item["msg"], field), field)
        )
    return tuple(findings)


def _message(kind: str, text: str, field: str) -> str:
    """pydantic's words, made to stand without the field's path."""
    leaf = field.rpartition(".")[2] or "the object"
    if kind == "missing":
        return f"{leaf} is required"
    if kind == "value_error":
        return text.removeprefix("Value error, ")
    return f"{leaf}: {text[:1].lower()}{text[1:]}"


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


# --- hub form → hub value ---------------------------------------------------------------------


class _Meta(TypedDict):
    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    annotations: Mapping[str, str]


def _meta(metadata: ObjectMeta) -> _Meta:
    return _Meta(
        namespace=metadata.namespace or "",
        name=metadata.name,
        uid=metadata.uid or "",
        generation=metadata.generation or 0,
        created=metadata.creation_timestamp or "",
        annotations=dict(metadata.annotations or {}),
    )


def _traffic_split(doc: Mapping[str, Any]) -> TrafficSplit:
    model = split.TrafficSplitV1alpha4.model_validate(doc)
    spec = model.spec
    backends = tuple(WeightedService(backend.service, backend.weight) for backend in spec.backends)
    # An empty list is what a client writes that has no matches: no filter.
    matches = tuple(RouteRef(ref.kind, ref.name) for ref in spec.matches) if spec.matches else None
    return TrafficSplit(**_meta(model.metadata), service=spec.service, backends=backends, matches=matches)


def _traffic_target(doc: Mapping[str, Any]) -> TrafficTarget:
    model = access.TrafficTargetHub.model_validate(doc)
    meta, spec = _meta(model.metadata), model.spec
    return TrafficTarget(
        **meta,
        destination=_subject(spec.destination, meta["namespace"]),
        rules=tuple(
            RouteRef(rule.kind, rule.name, tuple(rule.matches) if rule.matches else None)
            for rule in spec.rules or ()
        ),
        sources=tuple(_subject(source, meta["namespace"]) for source in spec.sources or ()),
        port=spec.destination.port,
    )


def _subject(subject: access.Subject, namespace: str) -> Subject:
    """An empty namespace means the TrafficTarget's own (S23, R11)."""
    return Subject(subject.kind, subject.namespace or namespace, subject.name)


def _identity_binding(doc: Mapping[str, Any]) -> IdentityBinding:
    model = access.IdentityBindingV1alpha4.model_validate(doc)
    schemes = model.spec.schemes
    selector = schemes.pod_label_selector
    return IdentityBinding(
        **_meta(model.metadata),
        pod_labels=None if selector is None else tuple(sorted(selector.match_labels.items())),
        spiffe_identities=tuple(schemes.spiffe_identities or ()),
        service_account=schemes.service_account,
    )


def _route_group(doc: Mapping[str, Any]) -> HTTPRouteGroup:
    model = specs.HTTPRouteGroupV1alpha4.model_validate(doc)
    own = (model.spec.matches if model.spec else None) or []
    top = model.matches or []
    matches = tuple(
        HTTPMatch(
            match.name,
            match.path_regex or None,
            tuple(match.methods or ()),
            tuple(sorted(match.headers)),
        )
        for match in (*own, *top)
    )
    return HTTPRouteGroup(**_meta(model.metadata), matches=matches)


def _tcp_route(doc: Mapping[str, Any]) -> TCPRoute:
    model = specs.TCPRouteV1alpha4.model_validate(doc)
    return TCPRoute(**_meta(model.metadata), ports=_ports(model.spec))


def _udp_route(doc: Mapping[str, Any]) -> UDPRoute:
    model = specs.UDPRouteV1alpha4.model_validate(doc)
    return UDPRoute(**_meta(model.metadata), ports=_ports(model.spec))


def _ports(spec: specs.PortRouteSpec | None) -> tuple[int, ...]:
    matches = spec.matches if spec else None
    return tuple((matches.ports if matches else None) or ())


_BUILDERS: Final[Mapping[str, Callable[[Mapping[str, Any]], SmiObject]]] = {
    "TrafficSplit": _traffic_split,
    "TrafficTarget": _traffic_target,
    "IdentityBinding": _identity_binding,
    "HTTPRouteGroup": _route_group,
    "TCPRoute": _tcp_route,
    "UDPRoute": _udp_route,
}
