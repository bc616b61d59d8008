"""SMI objects of every version: builders for tables, strategies for properties."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from smi.api.convert import SERVED_VERSIONS

Doc = dict[str, Any]

A_FEW = settings(max_examples=settings.default.max_examples // 6)
"""For properties that run once per version or pair of versions, of which there are dozens."""
GROUPS = {kind: group for group, kind in SERVED_VERSIONS}


def smi_object(kind: str, version: str, name: str = "thing", **body: Any) -> Doc:
    """An object of namespace `shop`; `annotations` goes to its metadata, all else to top level."""
    metadata: Doc = {"name": name, "namespace": "shop"}
    if "annotations" in body:
        metadata["annotations"] = body.pop("annotations")
    return {"apiVersion": f"{GROUPS[kind]}/{version}", "kind": kind, "metadata": metadata, **body}


def split(*backends: tuple[str, Any], version: str = "v1alpha4", service: str = "api", **spec: Any) -> Doc:
    listed = [{"service": name, "weight": weight} for name, weight in backends]
    return smi_object("TrafficSplit", version, spec={"service": service, "backends": listed, **spec})


names = st.sampled_from(["a", "b", "api", "api-v1"])
texts = st.sampled_from(["", "x", "/items", ".*", "a b", "é"])


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Doc]:
    return st.fixed_dictionaries({}, optional=fields)


def _metadata() -> st.SearchStrategy[Doc]:
    # The API server never stores an empty annotations map.
    annotations = st.dictionaries(st.sampled_from(["team", "smi-mesh.io/fallback"]), texts, min_size=1)
    return st.fixed_dictionaries(
        {"name": names, "namespace": names},
        optional={"annotations": annotations, "uid": texts, "generation": st.integers(1, 9)},
    )


def _split_body(version: str) -> st.SearchStrategy[Doc]:
    whole = st.integers(0, 1000)
    quantities = whole | whole.map("{}m".format) | st.sampled_from(["1", "0.5", "1e3", "2Ki", "1.50", "100u"])
    weight = quantities if version == "v1alpha1" else whole
    backend = st.fixed_dictionaries({"service": names, "weight": weight})
    spec: dict[str, st.SearchStrategy[Any]] = {"service": names, "backends": st.lists(backend, max_size=3)}
    reference = st.fixed_dictionaries({"kind": st.just("HTTPRouteGroup"), "name": names})
    extra = {} if version in ("v1alpha1", "v1alpha2") else {"matches": st.lists(reference, max_size=2)}
    return st.fixed_dictionaries({"spec": st.fixed_dictionaries(spec, optional=extra)})


def _target_body(version: str) -> st.SearchStrategy[Doc]:
    fields: dict[str, st.SearchStrategy[Any]] = {"kind": st.just("ServiceAccount"), "name": names}
    more: dict[str, st.SearchStrategy[Any]] = {"namespace": names}
    if version == "v1alpha4":
        fields["kind"] = st.sampled_from(["ServiceAccount", "IdentityBinding"])
        more["group"] = st.sampled_from(["access.smi-spec.io", ""])
    port = {"port": st.integers(1, 65535)} if version in ("v1alpha1", "v1alpha2") else {}
    rule = st.fixed_dictionaries(
        {"kind": st.sampled_from(["HTTPRouteGroup", "TCPRoute"]), "name": names},
        optional={"matches": st.lists(names, max_size=2)},
    )
    rules = "specs" if version == "v1alpha1" else "rules"
    body = st.fixed_dictionaries(
        {"destination": st.fixed_dictionaries(fields, optional=more | port)},
        optional={
            rules: st.lists(rule, max_size=2),
            "sources": st.lists(st.fixed_dictionaries(fields, optional=more), max_size=3),
        },
    )
    return body if version == "v1alpha1" else st.fixed_dictionaries({"spec": body})


def _group_body(version: str) -> st.SearchStrategy[Doc]:
    header_map = st.dictionaries(names, texts, max_size=2)
    fields: dict[str, st.SearchStrategy[Any]] = {"pathRegex": texts, "methods": st.lists(names, max_size=2)}
    if version != "v1alpha1":
        fields["headers"] = header_map | st.lists(header_map, max_size=2)
    matches = st.lists(st.fixed_dictionaries({"name": names}, optional=fields), max_size=3)
    if version in ("v1alpha1", "v1alpha2"):
        return optional(matches=matches)
    return optional(matches=matches, spec=optional(matches=matches))


def _route_body(version: str) -> st.SearchStrategy[Doc]:
    if version in ("v1alpha1", "v1alpha2"):
        return st.builds(dict)
    if version == "v1alpha3":
        return optional(spec=st.builds(dict))
    return optional(spec=optional(matches=optional(ports=st.lists(st.integers(1, 65535), max_size=3))))


def _binding_body(version: str) -> st.SearchStrategy[Doc]:
    schemes = optional(
        podLabelSelector=optional(matchLabels=st.dictionaries(names, names, max_size=2)),
        spiffeIdentities=st.lists(
            st.sampled_from(["cluster.local/ns/shop/sa/web", "other.org/x"]), max_size=2
        ),
        serviceAccount=names,
    )
    return st.fixed_dictionaries({"spec": st.fixed_dictionaries({"schemes": schemes})})


_BODIES = {
    "TrafficSplit": _split_body,
    "TrafficTarget": _target_body,
    "IdentityBinding": _binding_body,
    "HTTPRouteGroup": _group_body,
    "TCPRoute": _route_body,
    "UDPRoute": _route_body,
}


@cache  # Hypothesis works out each new strategy anew, for longer than it then takes to draw from it
def objects_of(kind: str, version: str) -> st.SearchStrategy[Doc]:
    """Valid objects of one kind and version, with every optional field now and then."""
    status = st.fixed_dictionaries({}, optional={"status": st.builds(lambda: {"conditions": []})})
    frame = {"apiVersion": f"{GROUPS[kind]}/{version}", "kind": kind}
    return st.builds(
        lambda metadata, body, more: {**frame, "metadata": metadata, **body, **more},
        _metadata(),
        _BODIES[kind](version),
        status,
    )


VERSION_PAIRS = [
    (kind, here, there)
    for (_, kind), versions in SERVED_VERSIONS.items()
    for here in versions
    for there in versions
]
"""(kind, from, to) of every conversion there is."""


@cache
def versions_of(kind: str) -> st.SearchStrategy[str]:
    return st.sampled_from(SERVED_VERSIONS[GROUPS[kind], kind])


KIND_VERSIONS = [(kind, version) for (_, kind), versions in SERVED_VERSIONS.items() for version in versions]
json_objects = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@cache
@st.composite
def damaged_objects(draw: st.DrawFn, kind: str, version: str) -> Doc:
    """Objects with anything at all in one place."""
    obj = draw(objects_of(kind, version))
    place: Any = obj
    while True:
        inner = [
            item for item in (place.values() if isinstance(place, dict) else place) if item and _nests(item)
        ]
        if not inner or draw(st.booleans()):
            break
        place = draw(st.sampled_from(inner))
    fields = [
        "spec",
        "matches",
        "destination",
        "sources",
        "backends",
        "annotations",
        "weight",
        "headers",
        "name",
    ]
    key = (
        draw(st.sampled_from([*place, *fields]))
        if isinstance(place, dict)
        else draw(st.integers(0, len(place) - 1))
    )
    if key not in ("apiVersion", "kind"):
        place[key] = draw(json_objects)
    return obj


def _nests(value: Any) -> bool:
    return isinstance(value, dict | list)
