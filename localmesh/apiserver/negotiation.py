"""Content negotiation: which shape a client wants back, and how to read what it sends.

Answers are JSON (or YAML); protobuf answers are not offered, which every known client accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from localmesh.apiserver import protobuf
from localmesh.apiserver.errors import bad_request, not_acceptable, unsupported_media_type
from localmesh.apiserver.jsonvalue import JsonObject, loads

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
OFFERED = (JSON, YAML, PROTOBUF)
READ = (JSON, YAML, PROTOBUF)
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
CUSTOM_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)

View = Literal["", "Table", "PartialObjectMetadata"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How to answer: the encoding, and a transformation asked for with `as=`."""

    media_type: str = JSON
    view: View = ""
    group: str = ""
    version: str = ""
    kind: str = ""
    """The literal `as=` value, echoed for aggregated discovery."""


def parse_accept(header: str | None) -> list[tuple[str, dict[str, str]]]:
    """Media ranges in the client's order with their parameters (quality values are ignored,
    as upstream does).
    """
    ranges = []
    for part in (header or "*/*").split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        pairs = (piece.partition("=") for piece in parameters)
        ranges.append((media_type.lower(), {name: value for name, _, value in pairs}))
    return ranges


def choose_shape(header: str | None) -> Shape:
    """The first range we can answer; raises ApiError 406."""
    for media_type, parameters in parse_accept(header):
        if media_type not in (JSON, YAML, "*/*", "application/*"):
            continue
        encoding = YAML if media_type == YAML else JSON
        kind = parameters.get("as", "")
        if not kind:
            return Shape(encoding)
        view: View | None = None
        if parameters.get("g") == "meta.k8s.io":
            if kind == "Table" and parameters.get("v") in ("v1", "v1beta1"):
                view = "Table"
            elif kind in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                view = "PartialObjectMetadata"
        if view is not None:
            return Shape(encoding, view, parameters["g"], parameters.get("v", "v1"), kind)
    raise not_acceptable(OFFERED)


def wants_aggregated_discovery(header: str | None) -> str | None:
    """The version (`v2`, `v2beta1`) of aggregated discovery the client prefers, None for the legacy form."""
    for media_type, parameters in parse_accept(header):
        if media_type == JSON:
            if parameters.get("as") == "APIGroupDiscoveryList" and parameters.get("v") in ("v2", "v2beta1"):
                return parameters["v"]
            if not parameters.get("as"):
                return None
    return None


def media_type_of(content_type: str | None) -> str:
    return (content_type or JSON).partition(";")[0].strip().lower()


def read_object(body: bytes, content_type: str | None) -> JsonObject:
    """The request's object; raises ApiError 400 for what cannot be parsed and 415 for other media types."""
    media_type = media_type_of(content_type)
    if media_type == JSON:
        value = read_json(body)
    elif media_type in (YAML, "application/x-yaml", "text/yaml"):
        value = read_yaml(body)
    elif media_type == PROTOBUF:
        value = protobuf.decode(body)
    else:
        raise unsupported_media_type(READ)
    if not isinstance(value, dict):
        raise bad_request("the body of the request must be an object")
    return value


def read_json(body: bytes) -> Any:
    try:
        return loads(body)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from error


class _Repeating(dict[str, Any]):
    """An object some of whose fields come more than once."""

    __slots__ = ("repeated",)
    repeated: list[str]


def repeated_fields(body: bytes) -> list[str]:
    """Paths of the fields that come more than once in an object of valid JSON; the last of each counts."""
    found = False

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        found = True
        result = _Repeating(value)
        names = [name for name, _ in pairs]
        result.repeated = [name for name in value if names.count(name) > 1]
        return result

    value = json.loads(body, object_pairs_hook=collect)
    return list(_repeated(value, "")) if found else []


def _repeated(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        inside = f"{path}." if path else ""
        if isinstance(value, _Repeating):
            yield from (inside + name for name in value.repeated)
        for name, item in value.items():
            yield from _repeated(item, inside + name)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _repeated(item, f"{path}[{position}]")


def read_yaml(body: bytes) -> Any:
    try:
        return yaml.load(body, Loader=_JsonYaml)  # noqa: S506 - a SafeLoader without timestamps
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise bad_request(f"error converting YAML to JSON: {error}") from error


class _JsonYaml(yaml.SafeLoader):
    """YAML as Kubernetes reads it: what looks like a date stays text."""


_JsonYaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
