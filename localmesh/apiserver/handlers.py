"""HTTP to verbs: authenticate, authorise, find the resource, read options and body, answer in the wanted
shape.

One handler for every path, because the paths are data (custom resources come and go). What an object's life
looks like is `rest`'s business; questions that store nothing are in `reviews`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from localmesh.apiserver import answers, discovery, patch, paths
from localmesh.apiserver import scale as scales
from localmesh.apiserver.aggregation import Aggregation
from localmesh.apiserver.apply import apply_patch
from localmesh.apiserver.authn import authenticate, impersonated
from localmesh.apiserver.call import Call, DeleteOptions, Target, User
from localmesh.apiserver.errors import (
    ApiError,
    bad_request,
    internal,
    method_not_allowed,
    no_such_resource,
    unsupported_media_type,
)
from localmesh.apiserver.eviction import evict
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.negotiation import (
    APPLY_PATCH,
    CUSTOM_PATCHES,
    JSON,
    JSON_PATCH,
    MERGE_PATCH,
    PATCHES,
    STRATEGIC_PATCH,
    Shape,
    choose_shape,
    media_type_of,
    read_json,
    read_object,
    read_yaml,
    repeated_fields,
    wants_aggregated_discovery,
)
from localmesh.apiserver.openapi import OpenApi
from localmesh.apiserver.options import deletes_dry, is_true, read_call, read_delete, read_list, read_watch
from localmesh.apiserver.paths import ResourcePath
from localmesh.apiserver.podstreams import STREAMING, PodStreams
from localmesh.apiserver.rbac import Attributes, Authorizer
from localmesh.apiserver.remotes import Remote
from localmesh.apiserver.rest import Mutation, Rest
from localmesh.apiserver.reviews import Reviews
from localmesh.apiserver.serviceproxy import PROXIED, ServiceProxy
from localmesh.apiserver.shapes import shape_of
from localmesh.apiserver.streaming import serve_watch
from localmesh.apiserver.tokens import TokenAuthority

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
"""Bytes of a request body, as upstream."""
_HEALTH = ("/healthz", "/livez", "/readyz")


@dataclass(slots=True)
class Handlers:
    """Answers every request; the parts are set once by the server,
    `pod_streams` when there is a node.
    """

    rest: Rest
    authorizer: Authorizer
    tokens: TokenAuthority
    reviews: Reviews
    openapi: OpenApi
    aggregation: Aggregation
    service_proxy: ServiceProxy
    address: Callable[[], str]
    pod_streams: PodStreams | None = None
    streaming: set[asyncio.Task[Any]] = field(default_factory=set)
    """Requests that last as long as their clients like: logs that are followed, exec, port-forward."""

    def end_streams(self) -> None:
        """Let these clients go; the server stops."""
        for task in self.streaming:
            task.cancel()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        warnings: list[str] = []
        try:
            return await self._handle(request, warnings)
        except ApiError as problem:
            return answers.error(problem, warnings)
        except web.HTTPRequestEntityTooLarge:
            return answers.error(ApiError(413, "RequestEntityTooLarge", f"limit is {MAX_BODY}"), warnings)
        except Exception as problem:
            log.exception("%s %s failed", request.method, request.path)
            return answers.error(internal(f"{type(problem).__name__}: {problem}"), warnings)

    async def _handle(self, request: web.BaseRequest, warnings: list[str]) -> web.StreamResponse:
        user = self._user(request)
        asked = paths.parse(request.rel_url.raw_path)
        if asked is None:
            return await self._other(request, user)
        remote = self.aggregation.at(asked.group, asked.version)
        if remote is not None:
            self.authorizer.require(user, _attributes(request, asked))
            return await self.aggregation.forward(request, user, remote)
        resource = self.rest.registry.at(asked.group, asked.version, asked.plural)
        if resource is None:
            self.authorizer.require(user, Attributes(request.method.lower(), path=request.path))
            return answers.text("404 page not found\n", 404)
        target = Target(resource, asked.version, asked.namespace, asked.name, asked.subresource)
        proxied = asked.subresource == "proxy" and resource.key in PROXIED and bool(asked.namespace)
        if (asked.rest and not proxied) or (asked.namespace and not resource.namespaced):
            raise no_such_resource()
        watching = is_true(request.query, "watch") and not proxied
        verb = paths.verb_of(request.method, named=bool(asked.name), watching=watching)
        self._authorize(user, target, verb, request)
        if proxied:
            return await self.service_proxy.handle(request, resource.key, asked.namespace, asked.name)
        call = read_call(user, request.query, request.headers.get("User-Agent", ""))
        call.warnings = warnings
        if target.subresource and target.subresource not in ("status", "finalize"):
            return await self._subresource(request, target, verb, call)
        if target.subresource and not resource.has(target.subresource, target.version):
            raise no_such_resource()
        return await self._verb(request, target, verb, call)

    # --- who may -----------------------------------------------------------------------------------

    def _user(self, request: web.BaseRequest) -> User:
        transport = request.transport
        peer = transport.get_extra_info("peercert") if transport is not None else None
        user = authenticate(peer, request.headers.get("Authorization"), self.tokens)
        other = impersonated(request.headers)
        if other is None:
            return user
        self.authorizer.require(user, Attributes("impersonate", resource="users", name=other.name))
        for group in other.groups:
            self.authorizer.require(user, Attributes("impersonate", resource="groups", name=group))
        return other

    def _authorize(self, user: User, target: Target, verb: str, request: web.BaseRequest) -> None:
        name = target.name
        if not name and verb in ("list", "watch", "deletecollection"):
            fields = request.query.get("fieldSelector", "")
            name = fields.removeprefix("metadata.name=") if fields.startswith("metadata.name=") else ""
        resource = target.resource
        namespace = target.name if resource.key == "namespaces" else target.namespace
        self.authorizer.require(
            user, Attributes(verb, resource.group, resource.plural, target.subresource, name, namespace)
        )

    # --- the verbs ---------------------------------------------------------------------------------

    async def _verb(
        self, request: web.BaseRequest, target: Target, verb: str, call: Call
    ) -> web.StreamResponse:
        if not verb or (not target.subresource and verb not in target.resource.verbs):
            raise method_not_allowed()
        shape = choose_shape(request.headers.get("Accept"))
        schema_warning = (
            target.resource.schema_of(target.version).warning if target.resource.is_custom else ""
        )
        if schema_warning:
            call.warn(schema_warning)
        match verb:
            case "list":
                self._needs_scope(target)
                page = await self.rest.page(target, read_list(target, request.query))
                view = answers.list_view(target, page, shape, request.query)
                return answers.respond(view, 200, shape, call.warnings)
            case "watch":
                target = Target(target.resource, target.version, target.namespace)
                query = read_watch(target, request.query)
                return await serve_watch(request, self.rest, target, query, shape)
            case "get":
                return self._answer(request, target, await self.rest.get(target), 200, shape, call)
            case "create":
                self._needs_namespace(target)
                if target.resource.key in self.reviews.kinds:
                    body = await self._body(request)
                    answer = await self.reviews.create(target, body, call.user)
                    return answers.respond(answer, 201, shape)
                body = await self._body(request)
                await _note_repeated(request, call)
                obj = await self.rest.create(target, body, call)
                return self._answer(request, target, obj, 201, shape, call)
            case "update":
                body = await self._body(request)
                await _note_repeated(request, call)
                obj = await self.rest.update(target, body, call)
                return self._answer(request, target, obj, 200, shape, call)
            case "patch":
                return await self._patch(request, target, shape, call)
            case "delete":
                options = await self._delete_options(request, call)
                return self._answer(
                    request, target, await self.rest.delete(target, options, call), 200, shape, call
                )
            case _:
                options = await self._delete_options(request, call)
                page = await self.rest.delete_collection(
                    target, read_list(target, request.query), options, call
                )
                return answers.respond(answers.list_view(target, page, shape, request.query), 200, shape)

    def _answer(
        self, request: web.BaseRequest, target: Target, obj: JsonObject, status: int, shape: Shape, call: Call
    ) -> web.Response:
        view = answers.object_view(target, obj, shape, request.query)
        return answers.respond(view, status, shape, call.warnings)

    async def _delete_options(self, request: web.BaseRequest, call: Call) -> DeleteOptions:
        body = await self._body(request) if request.can_read_body else None
        call.dry_run = deletes_dry(request.query, body)
        return read_delete(request.query, body)

    async def _patch(
        self, request: web.BaseRequest, target: Target, shape: Shape, call: Call
    ) -> web.StreamResponse:
        if media_type_of(request.headers.get("Content-Type")) == APPLY_PATCH:
            config = read_yaml(await request.read())
            obj, created = await apply_patch(self.rest, target, config, call)
            return self._answer(request, target, obj, 201 if created else 200, shape, call)
        mutation = await self._mutation(request, target)
        await _note_repeated(request, call)
        obj = await self.rest.mutate(target, mutation, call)
        return self._answer(request, target, obj, 200, shape, call)

    async def _mutation(self, request: web.BaseRequest, target: Target) -> Mutation:
        """The patch in the body as a function on objects."""
        media_type = media_type_of(request.headers.get("Content-Type"))
        accepted = CUSTOM_PATCHES if target.resource.is_custom else PATCHES
        if media_type not in accepted:
            raise unsupported_media_type(accepted)
        body = await request.read()
        document = read_yaml(body) if media_type == APPLY_PATCH else read_json(body)
        kinds = shape_of(target.resource, target.version)

        def mutation(current: JsonObject) -> JsonObject:
            match media_type:
                case _ if media_type == JSON_PATCH:
                    result = patch.json_patch(current, document)
                case _ if media_type == MERGE_PATCH:
                    result = patch.merge(current, document)
                case _:
                    result = patch.strategic(current, document, kinds)
            if not isinstance(result, dict):
                raise bad_request("a patch must leave an object")
            return result

        assert media_type in (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
        return mutation

    async def _body(self, request: web.BaseRequest) -> JsonObject:
        return read_object(await request.read(), request.headers.get("Content-Type"))

    def _needs_namespace(self, target: Target) -> None:
        if target.resource.namespaced and not target.namespace:
            raise method_not_allowed()

    def _needs_scope(self, target: Target) -> None:
        if target.namespace and not target.resource.namespaced:
            raise no_such_resource()

    # --- subresources with a life of their own -------------------------------------------------------

    async def _subresource(
        self, request: web.BaseRequest, target: Target, verb: str, call: Call
    ) -> web.StreamResponse:
        key, name = target.resource.key, target.subresource
        if name == "scale" and target.resource.has("scale", target.version):
            return await self._scale(request, target, verb, call)
        if key == "pods" and (name in STREAMING or name == "log"):
            return await self._stream(request, target, verb)
        if (key, name, verb) == ("pods", "eviction", "create"):
            return await self._evict(request, target, call)
        if (key, name, verb) == ("pods", "binding", "create"):
            return await self._bind(request, target, call)
        if (key, name, verb) == ("serviceaccounts", "token", "create"):
            answer = await self.reviews.token_request(target, await self._body(request))
            return answers.respond(answer, 201)
        if key == "pods" and name == "ephemeralcontainers":
            raise ApiError(501, "NotImplemented", "ephemeral containers are not supported by localmesh")
        raise no_such_resource()

    async def _scale(
        self, request: web.BaseRequest, target: Target, verb: str, call: Call
    ) -> web.StreamResponse:
        whole = Target(target.resource, target.version, target.namespace, target.name)
        call.through = "scale"
        if verb == "get":
            return answers.respond(scales.read(target, await self.rest.get(whole)))
        if verb == "update":
            wanted = await self._body(request)
            obj = await self.rest.mutate(whole, lambda obj: scales.write(target, obj, wanted), call)
        elif verb == "patch":
            mutation = await self._mutation(request, target)
            obj = await self.rest.mutate(
                whole, lambda obj: scales.write(target, obj, mutation(scales.read(target, obj))), call
            )
        else:
            raise method_not_allowed()
        return answers.respond(scales.read(target, obj), 200, None, call.warnings)

    async def _evict(self, request: web.BaseRequest, target: Target, call: Call) -> web.StreamResponse:
        pod = Target(target.resource, target.version, target.namespace, target.name)
        await evict(self.rest, pod, await self._body(request), call)
        return answers.respond(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
        )

    async def _bind(self, request: web.BaseRequest, target: Target, call: Call) -> web.StreamResponse:
        node = ((await self._body(request)).get("target") or {}).get("name")
        pod = Target(target.resource, target.version, target.namespace, target.name)

        def assign(current: JsonObject) -> JsonObject:
            current.setdefault("spec", {})["nodeName"] = node
            return current

        await self.rest.mutate(pod, assign, call)
        return answers.respond(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
        )

    async def _stream(self, request: web.BaseRequest, target: Target, verb: str) -> web.StreamResponse:
        if verb != "get" and (verb != "create" or target.subresource == "log"):
            raise method_not_allowed()
        pod = await self.rest.get(Target(target.resource, target.version, target.namespace, target.name))
        if self.pod_streams is None:
            raise ApiError(501, "NotImplemented", f"no node serves pods/{target.subresource}")
        task = asyncio.current_task()
        assert task is not None
        self.streaming.add(task)
        try:
            if target.subresource == "log":
                return await self.pod_streams.log(request, pod)
            return await self.pod_streams.connect(request, pod, target.subresource)
        finally:
            self.streaming.discard(task)

    # --- everything that is no resource ----------------------------------------------------------------

    async def _other(self, request: web.BaseRequest, user: User) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        self.authorizer.require(user, Attributes(request.method.lower(), path=path))
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        if path in _HEALTH or path.startswith(tuple(f"{health}/" for health in _HEALTH)):
            return answers.text("ok")
        if path == "/version":
            return answers.respond(discovery.version_info())
        if path == "/openid/v1/jwks":
            return answers.respond(self.tokens.jwks())
        remote = self._remote_of_document(path)
        if remote is not None:
            return await self.aggregation.forward(request, user, remote)
        if path.startswith("/openapi/"):
            return await self.openapi.handle(request)
        return self._discover(request, path)

    def _remote_of_document(self, path: str) -> Remote | None:
        """Whose discovery or OpenAPI document of a group and version this path is, if not ours."""
        match path.strip("/").split("/"):
            case ["apis", group, version]:
                return self.aggregation.at(group, version)
            case ["openapi", "v3", "apis", group, version]:
                return self.aggregation.at(group, version)
        return None

    def _discover(self, request: web.BaseRequest, path: str) -> web.Response:
        registry = self.rest.registry
        document: JsonObject | None = None
        match path.strip("/").split("/"):
            case ["api" | "apis" as root]:
                version = wants_aggregated_discovery(request.headers.get("Accept"))
                if version:
                    found = discovery.aggregated(registry, version, core=root == "api")
                    if root == "apis":
                        found["items"] = self.aggregation.into_aggregated(found["items"])
                    response = answers.respond(found)
                    response.headers["Content-Type"] = (
                        f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                    )
                    return response
                if root == "api":
                    document = discovery.core_versions(self.address())
                else:
                    document = discovery.group_list(registry)
                    document["groups"] = self.aggregation.into_group_list(document["groups"])
            case ["api", version]:
                document = discovery.resource_list(registry, "", version)
            case ["apis", group]:
                groups = self.aggregation.into_group_list(discovery.group_list(registry)["groups"])
                document = discovery.group_of(groups, group)
            case ["apis", group, version]:
                document = discovery.resource_list(registry, group, version)
            case [""]:
                document = {
                    "paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/version"]
                }
        if document is None:
            return answers.text("404 page not found\n", 404)
        return answers.respond(document)


async def _note_repeated(request: web.BaseRequest, call: Call) -> None:
    """Let validation know which fields of a body that could be read come more than once."""
    media_type = media_type_of(request.headers.get("Content-Type"))
    if call.validation != "Ignore" and media_type in (JSON, MERGE_PATCH, STRATEGIC_PATCH):
        call.repeated = repeated_fields(await request.read())


def _attributes(request: web.BaseRequest, asked: ResourcePath) -> Attributes:
    """What to authorise for a resource whose kind is known to an extension server alone."""
    watching = is_true(request.query, "watch")
    verb = paths.verb_of(request.method, named=bool(asked.name), watching=watching)
    return Attributes(verb, asked.group, asked.plural, asked.subresource, asked.name, asked.namespace)
