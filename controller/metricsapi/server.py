"""The TrafficMetrics API over HTTPS: authenticate, authorise, ask, add up, answer.

Only kube-apiserver's aggregator is let in; whoever it names is held to RBAC once more. Nothing is decided
here about numbers: that is `query`, `directory` and `aggregate`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiohttp import web

from controller.compile.world import World
from controller.kube import KubeError, Object
from controller.metrics import Metrics
from controller.metricsapi import aggregate, documents
from controller.metricsapi.aggregate import Moment
from controller.metricsapi.directory import Directory
from controller.metricsapi.query import Document, Query, Refusal, parse
from controller.metricsapi.resources import GROUP, SPLITS, VERSION
from controller.metricsapi.sources import Gathered, Source
from controller.metricsapi.taporder import MAX_PODS, TapOrder
from controller.metricsapi.trust import Access, Caller, Doorkeeper, FrontDoor
from controller.taps import Tapper, TapReader, TooManyTapsError
from smi.api.metrics import TrafficMetrics
from smi.names import NamespacedName

_log = logging.getLogger(__name__)

_HEARTBEAT: Final = 2.0
_WRITE_SECONDS: Final = 10.0
_UNAUTHORISED: Final = Refusal(401, "Unauthorized", "Unauthorized")


class ObjectsMetadata(Protocol):
    """Metadata of an object, or of a list of them; raises KubeError."""

    async def metadata(self, path: str) -> Object: ...

    async def metadata_list(self, path: str, params: Mapping[str, str]) -> Object: ...


class _RefusedError(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class TrafficApi:
    """Answers requests; its parts are made by the composition root."""

    world: Callable[[], World | None]
    objects: ObjectsMetadata
    source: Source
    front_door: FrontDoor
    doorkeeper: Doorkeeper
    tapper: Tapper
    metrics: Metrics
    clock: Callable[[], float]
    """Unix time."""
    monotonic: Callable[[], float]
    """Seconds."""

    def app(self) -> web.Application:
        """The application; it knows every path by itself."""
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        outcome = "failed"
        response: web.StreamResponse
        try:
            response = await self._answer(request)
            outcome = "answered"
        except _RefusedError as error:
            response = _respond(documents.status(error.refusal), error.refusal.code)
            outcome = error.refusal.reason
        except KubeError as error:
            _log.warning("%s %s: the API server cannot be asked: %s", request.method, request.path, error)
            refusal = Refusal(503, "ServiceUnavailable", f"the API server cannot be asked: {error}")
            response = _respond(documents.status(refusal), refusal.code)
            outcome = refusal.reason
        finally:
            self.metrics.traffic_queries.labels(outcome).inc()
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        caller = self._caller(request)
        asked = parse(request.method, request.rel_url.raw_path, request.query)
        if isinstance(asked, Refusal):
            raise _RefusedError(asked)
        if isinstance(asked, Document):
            return _respond(documents.discovery(asked))
        await self._authorise(caller, asked)
        if asked.tap is not None:
            return await self._tap(request, asked, asked.tap)
        items, gathered = await self._items(asked)
        single = bool(asked.name) and not asked.edges and asked.resource.plural != SPLITS
        if _wants_table(request.headers.get("Accept", "")):
            body = documents.table(items)
        elif single:
            body = documents.as_json(items[0])
        else:
            body = documents.listing(asked, items)
        return _respond(body, warning=_warning(gathered))

    async def _tap(self, request: web.Request, query: Query, order: TapOrder) -> web.StreamResponse:
        """One JSON object a line, as requests end, until the time is over or the client goes away."""
        world, wanted = self._world(), await self._wanted(query)
        pods = Directory.of(world).members(query.resource.kind, wanted)
        if len(pods) > MAX_PODS:
            message = (
                f"{len(pods)} pods are too many to tap, {MAX_PODS} is the most: choose a smaller resource"
            )
            raise _RefusedError(Refusal(400, "BadRequest", message))
        try:
            with self.tapper.tap(
                [str(pod.name) for pod in pods], order.filters, order.seconds, order.rate
            ) as reader:
                return await _stream(request, reader, order.seconds, self.monotonic)
        except TooManyTapsError as error:
            raise _RefusedError(Refusal(429, "TooManyRequests", str(error))) from error

    # --- who may -------------------------------------------------------------------------------------

    def _caller(self, request: web.Request) -> Caller:
        transport = request.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        caller = self.front_door.caller(der, request.headers.items())
        if caller is None:
            raise _RefusedError(_UNAUTHORISED)
        return caller

    async def _authorise(self, caller: Caller, query: Query) -> None:
        name = query.name
        access = Access(
            query.verb,
            GROUP,
            VERSION,
            query.resource.plural,
            query.subresource,
            # As the API server sees it: a Namespace is in itself.
            name if query.resource.plural == "namespaces" else query.namespace,
            name,
        )
        if await self.doorkeeper.may(caller, access):
            return
        what = "/".join(filter(None, (query.resource.plural, query.subresource))) + f".{GROUP}"
        message = f'{what} is forbidden: User "{caller.name}" cannot {query.verb} them here'
        raise _RefusedError(Refusal(403, "Forbidden", message))

    # --- the answer ----------------------------------------------------------------------------------

    async def _items(self, query: Query) -> tuple[list[TrafficMetrics], Gathered]:
        world, wanted = self._world(), await self._wanted(query)
        directory = Directory.of(world)
        if query.resource.plural == SPLITS and wanted is None:
            wanted = frozenset(name for name in directory.splits if query.namespace in ("", name.namespace))
        gathered = await self.source.gather(_asked(directory, query, wanted))
        if gathered.down:
            message = f"none of {gathered.asked} proxies can be asked for its traffic now"
            raise _RefusedError(Refusal(503, "ServiceUnavailable", message))
        moment = Moment(self.clock(), self.source.window_seconds, len(gathered.missing), gathered.asked)
        return _added_up(directory, query, wanted, gathered, moment), gathered

    def _world(self) -> World:
        world = self.world()
        if world is None:
            raise _RefusedError(Refusal(503, "ServiceUnavailable", "the cluster has not been listed yet"))
        return world

    async def _wanted(self, query: Query) -> frozenset[NamespacedName] | None:
        """The objects a query is about, from the API server's own mouth; None: whatever there is.

        Raises for an object that does not exist and for a selector that is none.
        """
        resource = query.resource
        try:
            if query.name:
                await self.objects.metadata(resource.path(query.namespace, query.name))
                return frozenset({NamespacedName(query.namespace, query.name)})
            if query.selector:
                path = resource.path(query.namespace)
                found = await self.objects.metadata_list(path, {"labelSelector": query.selector})
                return frozenset(_names(found))
        except KubeError as error:
            if error.absent:
                message = f'{resource.plural}.{resource.group} "{query.name}" not found'.replace(". ", " ")
                raise _RefusedError(Refusal(404, "NotFound", message)) from error
            if error.status == 400:
                raise _RefusedError(Refusal(400, "BadRequest", str(error))) from error
            raise
        return None


async def _stream(
    request: web.Request, reader: TapReader, seconds: float, monotonic: Callable[[], float]
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}
    )
    response.enable_chunked_encoding()
    await response.prepare(request)
    until = monotonic() + seconds
    told = 0
    try:
        while monotonic() < until:
            # An empty line now and then finds out whether anybody still listens.
            lines: list[Mapping[str, Any]] = list(await reader.take(min(_HEARTBEAT, until - monotonic())))
            lines += [{"note": note} for note in reader.notes]
            reader.notes.clear()
            if reader.dropped > told:
                lines.append({"dropped": reader.dropped - told})
                told = reader.dropped
            text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines) or "\n"
            async with asyncio.timeout(_WRITE_SECONDS):
                await response.write(text.encode())
        await response.write_eof()
    except (ConnectionError, TimeoutError):
        pass  # the client went away, or does not read: there is nobody to tell
    return response


def _names(found: Object) -> Collection[NamespacedName]:
    metas = [item.get("metadata") or {} for item in found.get("items") or ()]
    return {NamespacedName(str(meta.get("namespace") or ""), str(meta["name"])) for meta in metas}


def _asked(directory: Directory, query: Query, wanted: frozenset[NamespacedName] | None) -> Sequence[Any]:
    """The pods whose proxies know something of the answer."""
    if query.edges or query.resource.plural == SPLITS:
        return directory.meshed() if wanted is None or wanted else ()
    pods = directory.members(query.resource.kind, wanted)
    if query.namespace:
        return [pod for pod in pods if pod.name.namespace == query.namespace]
    return pods


def _added_up(
    directory: Directory,
    query: Query,
    wanted: frozenset[NamespacedName] | None,
    gathered: Gathered,
    moment: Moment,
) -> list[TrafficMetrics]:
    resource, name = query.resource, NamespacedName(query.namespace, query.name)
    if resource.plural == SPLITS:
        if query.edges:
            return aggregate.split_edges(directory, resource, name, gathered.samples, moment)
        return aggregate.split_summaries(directory, resource, gathered.samples, moment, wanted or frozenset())
    if query.edges:
        return aggregate.edges(directory, resource, name, gathered.samples, moment)
    if query.name:
        return [aggregate.summary(directory, resource, name, gathered.samples, moment)]

    def included(owner: NamespacedName) -> bool:
        return query.namespace in ("", owner.namespace) and (wanted is None or owner in wanted)

    return aggregate.summaries(directory, resource, gathered.samples, moment, included)


def _wants_table(accept: str) -> bool:
    first = accept.partition(",")[0].replace(" ", "")
    return "as=Table" in first and "g=meta.k8s.io" in first and "v=v1;" in f"{first};"


def _warning(gathered: Gathered) -> str:
    if not gathered.missing:
        return ""
    shown = ", ".join(str(name) for name in gathered.missing[:3])
    more = "…" if len(gathered.missing) > 3 else ""
    return f"{len(gathered.missing)} of {gathered.asked} proxies did not answer: {shown}{more}"


def _respond(body: documents.Json, status: int = 200, warning: str = "") -> web.Response:
    headers = {"Cache-Control": "no-cache, private"}
    if warning:
        headers["Warning"] = f'299 - "{warning}"'
    return web.json_response(body, status=status, headers=headers)
