"""Watches over HTTP: events as newline-separated JSON frames in a chunked response."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from localmesh.apiserver import answers, tables
from localmesh.apiserver.call import Target
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.jsonvalue import JsonObject, dumps
from localmesh.apiserver.negotiation import Shape
from localmesh.apiserver.rest import Rest
from localmesh.apiserver.watch import INITIAL_EVENTS_END, Event, Watcher, WatchQuery


class Frames:
    """Turns events into bytes for one client."""

    def __init__(self, rest: Rest, target: Target, shape: Shape, query: answers.Query) -> None:
        self._rest = rest
        self._target = target
        self._shape = shape
        self._query = query
        self._header = True

    async def encode(self, events: Sequence[Event]) -> bytes:
        return b"".join([await self._frame(event) for event in events])

    async def _frame(self, event: Event) -> bytes:
        if event.type == "ERROR":
            return b'{"type":"ERROR","object":' + dumps(event.status) + b"}\n"
        if event.type == "BOOKMARK" or event.item is None:
            return b'{"type":"BOOKMARK","object":' + dumps(self._bookmark(event)) + b"}\n"
        plain = not self._shape.view and self._rest.stored_shape(self._target)
        if plain and event.item.text:
            body = event.item.text
        else:
            body = dumps(self._view(await self._rest.present(self._target, event.item)))
        return b'{"type":"' + event.type.encode() + b'","object":' + body + b"}\n"

    def _view(self, obj: JsonObject) -> JsonObject:
        if self._shape.view == "Table":
            header, self._header = self._header, False
            return answers.table_row(self._target, obj, self._shape, self._query, header=header)
        return answers.object_view(self._target, obj, self._shape, self._query)

    def _bookmark(self, event: Event) -> JsonObject:
        resource = self._target.resource
        meta: JsonObject = {"resourceVersion": str(event.revision)}
        if event.complete:
            meta["annotations"] = {INITIAL_EVENTS_END: "true"}
        obj = {
            "kind": resource.kind,
            "apiVersion": resource.api_version(self._target.version),
            "metadata": {**meta, "creationTimestamp": None},
        }
        if self._shape.view == "Table":
            header, self._header = self._header, False
            row = {"cells": [], "object": tables.partial(obj, self._shape.version)}
            printer = tables.printer_of(resource, self._target.version)
            table = tables.render(printer, [], meta, header=header, version=self._shape.version)
            return {**table, "rows": [row]}
        if self._shape.view == "PartialObjectMetadata":
            return tables.partial(obj, self._shape.version)
        return obj


async def serve_watch(
    request: web.BaseRequest, rest: Rest, target: Target, query: WatchQuery, shape: Shape
) -> web.StreamResponse:
    """Stream until the watch is over or the client goes away."""
    response = web.StreamResponse()
    response.headers["Content-Type"] = "application/json"
    response.headers["Cache-Control"] = "no-cache, private"
    response.enable_chunked_encoding()
    await response.prepare(request)
    frames = Frames(rest, target, shape, request.query)
    watcher = Watcher(rest.store, rest.registry, target, query)
    try:
        try:
            async for events in watcher.events():
                await response.write(await frames.encode(events))
        except ApiError as problem:  # a conversion failed; the status line is long gone
            await response.write(await frames.encode([Event("ERROR", status=problem.body())]))
        await response.write_eof()
    except (ConnectionResetError, ConnectionAbortedError):
        pass  # the client went away; there is nobody to tell
    return response
