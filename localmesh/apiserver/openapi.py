"""OpenAPI v3 documents, one per group and version, and v2 made of them, built when first asked for.

kubectl reads them for three things: which lists merge by which key (`apply`), whether the server checks
fields itself (the fieldValidation parameter), and what to print for `explain`. Types come from the
generated table, descriptions from the `kubernetes` package, patch keys from `patch.RULES`, custom schemas
from their definitions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from aiohttp import web

from localmesh.apiserver import answers
from localmesh.apiserver.discovery import GIT_VERSION
from localmesh.apiserver.jsonvalue import JsonObject, dumps
from localmesh.apiserver.negotiation import CUSTOM_PATCHES, PATCHES
from localmesh.apiserver.openapi_v2 import encode, swagger
from localmesh.apiserver.patch import RULES
from localmesh.apiserver.registry import Registry, Resource
from localmesh.apiserver.types import table

_FOREVER = "Thu, 31 Dec 2099 23:59:59 GMT"
_SCALARS: Mapping[str, JsonObject] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "bytes": {"type": "string", "format": "byte"},
    "datetime": {"type": "string", "format": "date-time"},
    "any": {"type": "object"},
}
_INT_OR_STRING = frozenset({"targetPort", "port", "maxUnavailable", "maxSurge", "minAvailable"})
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""What the answer is called: old clients cannot parse the "@" of what they ask for."""


class OpenApi:
    def __init__(self, registry: Registry, elsewhere: Callable[[], Mapping[str, str]] = dict) -> None:
        """`elsewhere` gives the documents of extension servers: path → serverRelativeURL."""
        self._registry = registry
        self._elsewhere = elsewhere
        self._revision = -1
        self._documents: dict[str, bytes] = {}
        self._hashes: dict[str, str] = {}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        path = request.path.removeprefix("/openapi/").strip("/")
        self._forget_if_stale()
        if path == "v2":
            return await self._v2("protobuf" in (request.headers.get("Accept") or ""))
        if path == "v3":
            others = {path: {"serverRelativeURL": url} for path, url in self._elsewhere().items()}
            return answers.respond({"paths": {**self._index(), **others}})
        group_version = path.removeprefix("v3/")
        if group_version not in self._group_versions():
            return answers.text("404 page not found\n", 404)
        return await self._document(group_version)

    def _forget_if_stale(self) -> None:
        if self._revision != self._registry.revision:
            self._revision = self._registry.revision
            self._documents = {}
            self._hashes = {}

    def _group_versions(self) -> list[str]:
        named = [
            f"apis/{group}/{version}"
            for group in self._registry.groups()
            for version in self._versions(group)
        ]
        return ["api/v1", *named]

    def _versions(self, group: str) -> list[str]:
        return self._registry.versions(group)

    def _index(self) -> JsonObject:
        return {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"}
            for path in self._group_versions()
        }

    def _resources(self, path: str) -> list[Resource]:
        _, _, rest = path.partition("/")
        group, _, version = rest.rpartition("/")
        return [resource for resource in self._registry.in_group(group) if version in resource.versions]

    def _hash(self, path: str) -> str:
        found = self._hashes.get(path)
        if found is None:
            version = path.rpartition("/")[2]
            parts: list[Any] = [GIT_VERSION]
            for resource in self._resources(path):
                parts.append(resource.key)
                if resource.is_custom:
                    parts.append(resource.schema_of(version).schema)
            found = self._hashes[path] = hashlib.sha256(dumps(parts)).hexdigest().upper()
        return found

    async def _v2(self, binary: bool) -> web.Response:
        name = "v2 protobuf" if binary else "v2"
        body = self._documents.get(name)
        if body is None:
            wanted = [(self._resources(path), path.rpartition("/")[2]) for path in self._group_versions()]
            body = await asyncio.to_thread(_v2_document, wanted, binary)
            self._documents[name] = body
        media_type = _V2_PROTOBUF if binary else "application/json"
        return web.Response(body=body, content_type=media_type)

    async def _document(self, path: str) -> web.Response:
        body = self._documents.get(path)
        if body is None:
            resources, version = self._resources(path), path.rpartition("/")[2]
            body = await asyncio.to_thread(lambda: dumps(document(resources, version)))
            self._documents[path] = body
        response = web.Response(body=body, content_type="application/json")
        response.headers["ETag"] = f'"{self._hash(path)}"'
        response.headers["Cache-Control"] = "public"
        response.headers["Expires"] = _FOREVER
        return response


# --- documents -------------------------------------------------------------------------------------


def document(resources: list[Resource], version: str) -> JsonObject:
    """The OpenAPI v3 document of one group and version."""
    schemas: dict[str, JsonObject] = {}
    paths: dict[str, JsonObject] = {}
    for resource in resources:
        name = _root_schema(resource, version, schemas)
        if name is not None:
            paths |= _paths(resource, version, name)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _v2_document(wanted: list[tuple[list[Resource], str]], binary: bool) -> bytes:
    """Of resources and their version, as JSON or in protobuf."""
    documents = [document(resources, version) for resources, version in wanted]
    whole = swagger(documents, {"title": "Kubernetes", "version": GIT_VERSION})
    return encode(whole) if binary else dumps(whole)


def _root_schema(resource: Resource, version: str, schemas: dict[str, JsonObject]) -> str | None:
    """Add the schemas a resource needs; the name of its own, None for kinds without a known type."""
    kind = {"group": resource.group, "version": version, "kind": resource.kind}
    if resource.is_custom:
        name = ".".join((*reversed(resource.group.split(".")), version, resource.kind))
        schemas[name] = _custom(resource, version) | {"x-kubernetes-group-version-kind": [kind]}
        _add("V1ObjectMeta", schemas)
    else:
        type_name = table().of_kind(resource.api_version(version), resource.kind)
        if type_name is None:
            return None
        _add(type_name, schemas)
        name = _schema_name(type_name)
        schemas[name] = schemas[name] | {"x-kubernetes-group-version-kind": [kind]}
    if "list" in resource.verbs:
        schemas[f"{name}List"] = {
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}},
            },
            "x-kubernetes-group-version-kind": [{**kind, "kind": resource.list_kind}],
        }
    return name


_TYPE_NAME = re.compile(r"(?P<prefix>\w*?)(?P<version>V\d+)(?P<name>[A-Z]\w*)")


def _schema_name(type_name: str) -> str:
    """`V1PodSpec` → `io.k8s.v1.PodSpec`: clients print the last part."""
    match = _TYPE_NAME.fullmatch(type_name)
    if match is None:
        return f"io.k8s.{type_name}"
    parts = ("io.k8s", match["prefix"].lower(), match["version"].lower(), match["name"])
    return ".".join(part for part in parts if part)


def _add(type_name: str, schemas: dict[str, JsonObject]) -> None:
    waiting = [type_name]
    while waiting:
        current = waiting.pop()
        name = _schema_name(current)
        if name in schemas:
            continue
        schema, needed = _object_schema(current)
        schemas[name] = schema
        waiting += needed


def _object_schema(type_name: str) -> tuple[JsonObject, list[str]]:
    summary, described = _descriptions(type_name)
    properties: dict[str, JsonObject] = {}
    needed: list[str] = []
    required = []
    for name, field in table().types[type_name].items():
        if field.type == "any" and name in _INT_OR_STRING:
            schema: JsonObject = {"type": "string", "format": "int-or-string"}
        else:
            schema = _type_schema(field.type, needed)
        if "$ref" in schema:
            schema = {"allOf": [schema], "default": {}}
        if name in described:
            schema = {"description": described[name], **schema}
        properties[name] = schema | _merge_keys(type_name, name)
        if field.required:
            required.append(name)
    result: JsonObject = {"type": "object", "properties": properties}
    if summary:
        result["description"] = summary
    if required:
        result["required"] = required
    return result, needed


def _type_schema(text: str, needed: list[str]) -> JsonObject:
    if text.startswith("[]"):
        return {"type": "array", "items": _type_schema(text[2:], needed)}
    if text.startswith("{}"):
        return {"type": "object", "additionalProperties": _type_schema(text[2:], needed)}
    if text in _SCALARS:
        return dict(_SCALARS[text])
    needed.append(text)
    return {"$ref": f"#/components/schemas/{_schema_name(text)}"}


def _merge_keys(type_name: str, field: str) -> JsonObject:
    rule = RULES.get(type_name, {}).get(field)
    if rule is None:
        return {}
    strategy = [name for name, given in (("merge", rule.merges), ("retainKeys", rule.retain_keys)) if given]
    result: JsonObject = {"x-kubernetes-patch-strategy": ",".join(strategy)}
    if rule.keys:
        result["x-kubernetes-patch-merge-key"] = rule.keys[0]
    return result


@cache
def _descriptions(type_name: str) -> tuple[str, Mapping[str, str]]:
    """What the `kubernetes` package says about a type and its fields."""
    model = getattr(import_module("kubernetes.client.models"), type_name, None)
    if model is None:
        return "", {}
    summary = re.split(r"\n\s*Attributes:", model.__doc__ or "")[0].strip()
    described = {}
    for attribute, json_name in model.attribute_map.items():
        field = model.model_fields.get(attribute) or model.model_fields.get(f"var_{attribute}")
        if field is not None and field.description:
            described[json_name] = field.description
    return summary, described


def _custom(resource: Resource, version: str) -> JsonObject:
    schema = dict(resource.schema_of(version).schema)
    properties = dict(schema.get("properties") or {})
    meta = {"allOf": [{"$ref": f"#/components/schemas/{_schema_name('V1ObjectMeta')}"}]}
    described = {
        "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
        "kind": {"type": "string", "description": "The resource this object represents."},
        "metadata": {"description": "Standard object's metadata.", **meta},
    }
    return {"type": "object", **schema, "properties": {**properties, **described}}


_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def _paths(resource: Resource, version: str, name: str) -> dict[str, JsonObject]:
    root = f"/apis/{resource.group}/{version}" if resource.group else f"/api/{version}"
    base = (
        f"{root}/namespaces/{{namespace}}/{resource.plural}"
        if resource.namespaced
        else f"{root}/{resource.plural}"
    )
    kind = {"group": resource.group, "version": version, "kind": resource.kind}
    answer = {"200": {"description": "OK", "content": _content(name)}}

    def operation(action: str, *, writes: bool = False) -> JsonObject:
        result: JsonObject = {
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
            "responses": answer,
        }
        return {**result, "parameters": _PARAMETERS} if writes else result

    collection = {"get": operation("list"), "post": operation("post", writes=True)}
    item = {
        "get": operation("get"),
        "put": operation("put", writes=True),
        "patch": {**operation("patch", writes=True), "requestBody": {"content": _patch_content(resource)}},
        "delete": operation("delete", writes=True),
    }
    if "list" not in resource.verbs:
        return {base: {"post": operation("post", writes=True)}}
    return {base: collection, f"{base}/{{name}}": item}


def _patch_content(resource: Resource) -> JsonObject:
    """The patch types taken; clients look here before they send a strategic merge."""
    accepted = CUSTOM_PATCHES if resource.is_custom else PATCHES
    return {media_type: {"schema": {"type": "object"}} for media_type in accepted}


def _content(name: str) -> JsonObject:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
