"""Every version of an SMI object to the hub form and back, exactly (S1, R12).

Works on the objects as the API server hands them over, valid or not: conversion must not judge,
or one bad stored object would keep everybody's lists from being read. The hub form is the newest
version's shape plus every field that any version has (`spec.destination.port`, say). What a
version cannot show travels in one annotation, as JSON, and comes back to its field as soon as the
object is in a version that can show it; an old client that reads and writes back loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from copy import deepcopy
from typing import Any, Final

from smi.api.hub import ACCESS_GROUP, SPECS_GROUP, SPLIT_GROUP
from smi.api.quantity import QuantityError, parse_quantity, whole_weights

KEPT_ANNOTATION: Final = "smi-mesh.io/kept"
"""Holds, as a JSON object, what the object's version cannot show."""

Doc = dict[str, Any]  # Any: a Kubernetes object, of any shape until it is parsed
Kept = MutableMapping[str, Any]

STORAGE_VERSIONS: Final[Mapping[tuple[str, str], str]] = {
    (SPLIT_GROUP, "TrafficSplit"): "v1alpha4",
    (ACCESS_GROUP, "TrafficTarget"): "v1alpha3",
    (ACCESS_GROUP, "IdentityBinding"): "v1alpha4",
    (SPECS_GROUP, "HTTPRouteGroup"): "v1alpha4",
    (SPECS_GROUP, "TCPRoute"): "v1alpha4",
    (SPECS_GROUP, "UDPRoute"): "v1alpha4",
}
_ALL: Final = ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4")
SERVED_VERSIONS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    (SPLIT_GROUP, "TrafficSplit"): _ALL,
    (ACCESS_GROUP, "TrafficTarget"): _ALL,
    (ACCESS_GROUP, "IdentityBinding"): ("v1alpha4",),
    (SPECS_GROUP, "HTTPRouteGroup"): _ALL,
    (SPECS_GROUP, "TCPRoute"): _ALL,
    (SPECS_GROUP, "UDPRoute"): ("v1alpha4",),
}


class ConversionError(ValueError):
    """The object's kind, its version or the wanted version is not one of ours."""


def convert(obj: Mapping[str, Any], to_version: str) -> Doc:
    """The same object in another version of its group, as a new dictionary.

    `to_version` is `v1alpha2` or `split.smi-spec.io/v1alpha2`. Raises ConversionError; the content
    of an object never makes it fail.
    """
    group, kind, version = identify(obj)
    wanted_group, slash, wanted = to_version.rpartition("/")
    if slash and wanted_group != group:
        raise ConversionError(f"{kind} of group {group} cannot become {to_version!r}: the group differs")
    if wanted not in SERVED_VERSIONS[group, kind]:
        raise ConversionError(f"{kind} of group {group} has no version {wanted!r}")
    if wanted == version:
        return deepcopy(dict(obj))
    doc, kept = _lift(obj, kind, version)
    _SHAPES[kind][1](doc, wanted, kept)
    doc["apiVersion"] = f"{group}/{wanted}"
    _attach(doc, kept)
    return doc


def hub_form(obj: Mapping[str, Any]) -> Doc:
    """The object with every field in its place, whatever version it is in; raises ConversionError."""
    _, kind, version = identify(obj)
    return _lift(obj, kind, version)[0]


def identify(obj: Mapping[str, Any]) -> tuple[str, str, str]:
    """(group, kind, version) of an object that is one of ours; raises ConversionError."""
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        raise ConversionError("the object has no apiVersion or no kind")
    group, _, version = api_version.rpartition("/")
    if version not in SERVED_VERSIONS.get((group, kind), ()):
        raise ConversionError(f"{kind} of {api_version} is not an SMI object this mesh knows")
    return group, kind, version


def _lift(obj: Mapping[str, Any], kind: str, version: str) -> tuple[Doc, Kept]:
    doc = deepcopy(dict(obj))
    kept = _detach(doc)
    _SHAPES[kind][0](doc, version, kept)
    return doc, kept


def _detach(doc: Doc) -> Kept:
    """Take the annotation off; one that is not ours to read stays where it is."""
    metadata = doc.get("metadata")
    annotations = _part(metadata, "annotations")
    text = _part(annotations, KEPT_ANNOTATION)
    try:
        kept = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    if not isinstance(kept, dict) or not isinstance(metadata, dict) or not isinstance(annotations, dict):
        return {}
    del annotations[KEPT_ANNOTATION]
    if not annotations:
        del metadata["annotations"]
    return kept


def _attach(doc: Doc, kept: Kept) -> None:
    metadata = doc.setdefault("metadata", {})
    if kept and isinstance(metadata, dict):
        text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        annotations = metadata.get("annotations")
        others = annotations if isinstance(annotations, dict) else {}
        metadata["annotations"] = {**others, KEPT_ANNOTATION: text}


# --- one pair of functions per kind: version → hub form, hub form → version -------------------


def _raise_split(doc: Doc, version: str, kept: Kept) -> None:
    spec = doc.get("spec")
    if not isinstance(spec, dict):
        return
    if version == "v1alpha1":
        _quantities_to_weights(spec, kept)
    elif "weights" in kept and _weights(spec) != _part(kept["weights"], "whole"):
        del kept["weights"]  # edited since: what was written in v1alpha1 is no longer true
    if version in ("v1alpha1", "v1alpha2") and "matches" not in spec and "matches" in kept:
        spec["matches"] = kept.pop("matches")


def _lower_split(doc: Doc, version: str, kept: Kept) -> None:
    spec = doc.get("spec")
    if not isinstance(spec, dict):
        return
    if version == "v1alpha1" and "weights" in kept:
        written = _part(kept.pop("weights"), "written")
        backends = spec.get("backends")
        if isinstance(written, list) and isinstance(backends, list) and len(written) == len(backends):
            for backend, weight in zip(backends, written, strict=True):
                if isinstance(backend, dict):
                    backend["weight"] = weight
    if version in ("v1alpha1", "v1alpha2") and "matches" in spec:
        kept["matches"] = spec.pop("matches")


def _weights(spec: Doc) -> list[Any] | None:
    backends = spec.get("backends")
    if not isinstance(backends, list) or not all(isinstance(backend, dict) for backend in backends):
        return None
    return [backend.get("weight") for backend in backends]


def _quantities_to_weights(spec: Doc, kept: Kept) -> None:
    kept.pop("weights", None)
    written = _weights(spec)
    if not written:
        return
    try:
        whole = list(whole_weights([parse_quantity(weight) for weight in written]))
    except QuantityError:
        return  # not ours to judge: `parse` names the field
    for backend, weight in zip(spec["backends"], whole, strict=True):
        backend["weight"] = weight
    if [*map(repr, whole)] != [*map(repr, written)]:
        kept["weights"] = {"whole": whole, "written": written}


def _raise_target(doc: Doc, version: str, kept: Kept) -> None:
    if version == "v1alpha1":
        _into_spec(doc, kept, {"destination": "destination", "specs": "rules", "sources": "sources"})
    spec = doc.get("spec")
    if not isinstance(spec, dict):
        return
    destination = spec.get("destination")
    if (
        version in ("v1alpha3", "v1alpha4")
        and isinstance(destination, dict)
        and "port" not in destination
        and "destinationPort" in kept
    ):
        destination["port"] = kept.pop("destinationPort")
    if version != "v1alpha4" and "groups" in kept:
        groups = kept.pop("groups")
        _give_back([destination], _part(groups, "destination"), _SUBJECT, "group")
        _give_back(spec.get("sources"), _part(groups, "sources"), _SUBJECT, "group")


def _lower_target(doc: Doc, version: str, kept: Kept) -> None:
    spec = doc.get("spec")
    if isinstance(spec, dict):
        destination = spec.get("destination")
        if version in ("v1alpha3", "v1alpha4") and isinstance(destination, dict) and "port" in destination:
            kept["destinationPort"] = destination.pop("port")
        if version != "v1alpha4":
            groups = {
                "destination": _take_out([destination], _SUBJECT, "group"),
                "sources": _take_out(spec.get("sources"), _SUBJECT, "group"),
            }
            if any(groups.values()):
                kept["groups"] = groups
    if version == "v1alpha1":
        _out_of_spec(doc, kept, {"destination": "destination", "rules": "specs", "sources": "sources"})


def _raise_group(doc: Doc, version: str, kept: Kept) -> None:
    if version in ("v1alpha1", "v1alpha2"):
        _into_spec(doc, kept, {"matches": "matches"})
        _split_matches(doc, kept)
    if version == "v1alpha1" and "headers" in kept:
        headers = kept.pop("headers")
        _give_back(_all_matches(doc), headers, _MATCH, "headers")


def _lower_group(doc: Doc, version: str, kept: Kept) -> None:
    if version == "v1alpha1":
        headers = _take_out(_all_matches(doc), _MATCH, "headers")
        if headers:
            kept["headers"] = headers
    if version in ("v1alpha1", "v1alpha2"):
        _join_matches(doc, kept)
        _out_of_spec(doc, kept, {"matches": "matches"})


def _all_matches(doc: Doc) -> list[Any]:
    spec = doc.get("spec")
    places = (spec.get("matches") if isinstance(spec, dict) else None, doc.get("matches"))
    return [match for place in places if isinstance(place, list) for match in place]


def _join_matches(doc: Doc, kept: Kept) -> None:
    """S2: matches at top level of a v1alpha3/4 object become the last ones of the one list."""
    top, spec = doc.get("matches"), doc.get("spec", {})
    own = spec.get("matches", []) if isinstance(spec, dict) else None
    if not isinstance(top, list) or not isinstance(own, list):
        return
    beside = "nothing" if "spec" not in doc else "matches" if "matches" in spec else "spec"
    kept["topLevel"] = {"count": len(top), "beside": beside}
    doc["spec"] = {**spec, "matches": [*own, *top]}
    del doc["matches"]


def _split_matches(doc: Doc, kept: Kept) -> None:
    """Undo `_join_matches`, unless a client has taken matches away since."""
    top_level = kept.pop("topLevel", None)
    count, beside = _part(top_level, "count"), _part(top_level, "beside")
    spec = doc.get("spec")
    matches = _part(spec, "matches")
    if not isinstance(spec, dict) or not isinstance(matches, list):
        return
    if not isinstance(count, int) or not 0 <= count <= len(matches):
        return
    cut = len(matches) - count
    doc["matches"] = matches[cut:]
    spec["matches"] = matches[:cut]
    if cut == 0 and beside in ("spec", "nothing"):
        del spec["matches"]
    if not spec and beside == "nothing":
        del doc["spec"]


def _raise_tcp_route(doc: Doc, version: str, kept: Kept) -> None:
    if version in ("v1alpha1", "v1alpha2"):
        _into_spec(doc, kept, {})
    spec = doc.get("spec")
    if version != "v1alpha4" and isinstance(spec, dict) and "matches" not in spec and "ports" in kept:
        spec["matches"] = kept.pop("ports")


def _lower_tcp_route(doc: Doc, version: str, kept: Kept) -> None:
    spec = doc.get("spec")
    if version != "v1alpha4" and isinstance(spec, dict) and "matches" in spec:
        kept["ports"] = spec.pop("matches")
    if version in ("v1alpha1", "v1alpha2"):
        _out_of_spec(doc, kept, {})


def _unchanged(doc: Doc, version: str, kept: Kept) -> None:
    """Kinds with one version."""


_Reshape = Callable[[Doc, str, Kept], None]
_SHAPES: Final[Mapping[str, tuple[_Reshape, _Reshape]]] = {
    "TrafficSplit": (_raise_split, _lower_split),
    "TrafficTarget": (_raise_target, _lower_target),
    "IdentityBinding": (_unchanged, _unchanged),
    "HTTPRouteGroup": (_raise_group, _lower_group),
    "TCPRoute": (_raise_tcp_route, _lower_tcp_route),
    "UDPRoute": (_unchanged, _unchanged),
}

# --- moves that several kinds make ------------------------------------------------------------

_SUBJECT: Final = ("kind", "namespace", "name")
_MATCH: Final = ("name",)


def _into_spec(doc: Doc, kept: Kept, names: Mapping[str, str]) -> None:
    """Move top-level fields under `spec`. A `spec` that is not an object is left alone."""
    spec = doc.get("spec", {})
    if not isinstance(spec, dict):
        return
    found = {new: doc.pop(old) for old, new in names.items() if old in doc}
    if not kept.pop("noSpec", False) or found:
        doc["spec"] = {**spec, **found}


def _out_of_spec(doc: Doc, kept: Kept, names: Mapping[str, str]) -> None:
    """Move fields of `spec` to top level; what is left of `spec` stays."""
    if "spec" not in doc:
        kept["noSpec"] = True
        return
    spec = doc["spec"]
    if not isinstance(spec, dict):
        return
    for old, new in names.items():
        if old in spec:
            doc[new] = spec.pop(old)
    if not spec:
        del doc["spec"]


def _take_out(items: object, key: tuple[str, ...], field: str) -> list[Any]:
    """Remove `field` from each item; the list tells by item (known by its `key` fields) what it was.

    Empty when no item had the field.
    """
    if not isinstance(items, list) or not any(isinstance(item, dict) and field in item for item in items):
        return []
    taken = []
    for item in items:
        known_by = _known_by(item, key)
        taken.append([known_by, item.pop(field)] if isinstance(item, dict) and field in item else [known_by])
    return taken


def _give_back(items: object, taken: object, key: tuple[str, ...], field: str) -> None:
    """Undo `_take_out` for those items that still exist, whatever their order."""
    if not isinstance(items, list) or not isinstance(taken, list):
        return
    left = [entry for entry in taken if isinstance(entry, list) and entry]
    for item in items:
        known_by = _known_by(item, key)
        for entry in left:
            if entry[0] == known_by:
                left.remove(entry)
                if len(entry) == 2 and isinstance(item, dict) and field not in item:
                    item[field] = entry[1]
                break


def _known_by(item: object, key: tuple[str, ...]) -> list[Any]:
    return [item.get(name) for name in key] if isinstance(item, dict) else []


def _part(value: object, name: str) -> Any:
    """`value[name]`, or None where there is no such thing."""
    return value.get(name) if isinstance(value, dict) else None
