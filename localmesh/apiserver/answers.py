"""Objects, lists, tables and errors as HTTP response bodies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml
from aiohttp import web

from localmesh.apiserver import tables
from localmesh.apiserver.call import ListPage, Target
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.jsonvalue import JsonObject, dumps
from localmesh.apiserver.negotiation import YAML, Shape

Query = Mapping[str, str]


def respond(
    value: JsonObject, status: int = 200, shape: Shape | None = None, warnings: Sequence[str] = ()
) -> web.Response:
    """Compact JSON with a trailing newline, byte for byte as upstream writes it;
    YAML where it was asked for.
    """
    if shape is not None and shape.media_type == YAML:
        body, content_type = yaml.safe_dump(value, sort_keys=False).encode(), YAML
    else:
        body, content_type = dumps(value) + b"\n", "application/json"
    response = web.Response(body=body, status=status)
    response.headers["Content-Type"] = content_type
    response.headers["Cache-Control"] = "no-cache, private"
    for warning in warnings:
        response.headers.add("Warning", warning_header(warning))
    return response


def warning_header(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{"".join(char if char.isprintable() else " " for char in escaped)}"'


def error(problem: ApiError, warnings: Sequence[str] = ()) -> web.Response:
    response = respond(problem.body(), problem.code, None, warnings)
    retry = (problem.details or {}).get("retryAfterSeconds")
    if retry:
        response.headers["Retry-After"] = str(retry)
    return response


def text(body: str, status: int = 200) -> web.Response:
    return web.Response(text=body, status=status)


def object_view(target: Target, obj: JsonObject, shape: Shape, query: Query) -> JsonObject:
    """One object as the client wants to see it. A Status is shown as it is."""
    if obj.get("kind") == "Status":
        return obj
    if shape.view == "Table":
        return _table(
            target, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")}, shape, query
        )
    if shape.view == "PartialObjectMetadata":
        return tables.partial(obj, shape.version)
    return obj


def list_view(target: Target, page: ListPage, shape: Shape, query: Query) -> JsonObject:
    resource = target.resource
    meta: JsonObject = {"resourceVersion": str(page.revision)}
    if page.continue_token or resource.is_custom:
        meta["continue"] = page.continue_token
    if page.remaining is not None:
        meta["remainingItemCount"] = page.remaining
    if shape.view == "Table":
        meta = {key: value for key, value in meta.items() if value != ""}
        return _table(target, page.items, meta, shape, query)
    if shape.view == "PartialObjectMetadata":
        return {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"meta.k8s.io/{shape.version}",
            "metadata": meta,
            "items": [tables.partial(item, shape.version) for item in page.items],
        }
    return {
        "kind": resource.list_kind,
        "apiVersion": resource.api_version(target.version),
        "metadata": meta,
        "items": page.items,
    }


def _table(
    target: Target,
    objects: Sequence[JsonObject],
    meta: JsonObject,
    shape: Shape,
    query: Query,
    *,
    header: bool = True,
) -> JsonObject:
    printer = tables.printer_of(target.resource, target.version)
    include = query.get("includeObject") or "Metadata"
    return tables.render(printer, objects, meta, include=include, header=header, version=shape.version)


def table_row(target: Target, obj: JsonObject, shape: Shape, query: Query, *, header: bool) -> JsonObject:
    """A Table of one object, as watches send them; only the first carries the column definitions."""
    meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
    return _table(target, [obj], meta, shape, query, header=header)
