"""pods/exec, attach, portforward and log: requests read and judged, then handed to the node's streams.

Everything that can be refused is refused before the connection is upgraded, as a Status.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web
from multidict import MultiMapping

from localmesh.apiserver.errors import ApiError, Cause, bad_request, forbidden_field, invalid, invalid_value
from localmesh.apiserver.jsonvalue import JsonObject
from localmesh.apiserver.options import is_true
from localmesh.streams import portforward, remotecommand
from localmesh.streams.channels import dialect_named
from localmesh.streams.contract import ClientGoneError, Console, LogOptions, Node, Place, Wanted
from localmesh.streams.duplex import asked_upgrade
from localmesh.streams.outcome import Outcome

log = logging.getLogger(__name__)

Logs = Callable[[Place, LogOptions], Awaitable[AsyncIterator[bytes]]]
"""The log of a container in pieces; raises ApiError."""

STREAMING = frozenset({"exec", "attach", "portforward"})
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True, slots=True)
class PodStreams:
    """What a node offers of its pods."""

    node: Node
    logs: Logs

    async def log(self, request: web.BaseRequest, pod: JsonObject) -> web.StreamResponse:
        place = _place(pod, request.query.get("container", ""))
        chunks = await self.logs(place, read_log_options(request.query, place.pod, datetime.now(UTC)))
        response = web.StreamResponse(
            headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for chunk in chunks:
                await response.write(chunk)
            await response.write_eof()
        except (ConnectionResetError, ConnectionAbortedError):
            pass  # the reader went away
        return response

    async def connect(
        self, request: web.BaseRequest, pod: JsonObject, subresource: str
    ) -> web.StreamResponse:
        """Serve exec, attach or portforward to the end. Raises ApiError before anything is upgraded."""
        try:
            if subresource == "portforward":
                return await self._port_forward(request, pod)
            return await self._command(request, pod, subresource)
        except web.HTTPBadRequest as refusal:  # aiohttp's, of a WebSocket handshake
            raise bad_request(refusal.text or "not a WebSocket handshake") from refusal

    async def _command(
        self, request: web.BaseRequest, pod: JsonObject, subresource: str
    ) -> web.StreamResponse:
        query = request.query
        place, wanted = _place(pod, query.get("container", "")), read_wanted(query)
        _require_host(pod)
        argv = query.getall("command", [])
        if subresource == "exec" and not argv:
            raise bad_request("you must specify at least one command for the container")
        try:
            self.node.require_running(place)
        except LookupError as error:
            raise ApiError(404, "NotFound", str(error.args[0])) from error

        async def run(console: Console) -> Outcome:
            try:
                if subresource == "exec":
                    return await self.node.execute_in(place, argv, wanted, console)
                return await self.node.attach_to(place, wanted, console)
            except* (ClientGoneError, ConnectionError):
                raise
            except* Exception as problem:
                log.exception("%s of %s failed", subresource, place)
                cause = _first(problem)
                failure = f"{type(cause).__name__}: {cause}"
            return Outcome(error=failure)

        match _upgrade_of(request):
            case "websocket":
                offered = request.headers.getall("Sec-WebSocket-Protocol", [])
                dialect = remotecommand.choose_dialect(offered)
                if dialect is None:
                    raise bad_request(f"unable to negotiate protocol: client supports {offered}")
                return await remotecommand.serve_websocket(request, wanted, run, dialect)
            case _:
                version = _spdy_version(request, remotecommand.SPDY_VERSIONS)
                return await remotecommand.serve_spdy(request, wanted, run, version)

    async def _port_forward(self, request: web.BaseRequest, pod: JsonObject) -> web.StreamResponse:
        meta = pod["metadata"]
        _require_host(pod)
        phase = (pod.get("status") or {}).get("phase") or "Pending"
        if phase != "Running":
            raise bad_request(f"unable to forward port because pod is not running. Current status={phase}")
        shown = f"{meta['name']}, uid {meta['uid']}"

        def dial(port: int) -> portforward.Connecting:
            return self.node.dial(meta["namespace"], meta["name"], port)

        if _upgrade_of(request) == "spdy/3.1":
            _spdy_version(request, (portforward.PROTOCOL,))
            return await portforward.serve_spdy(request, shown, dial)
        offered = request.headers.getall("Sec-WebSocket-Protocol", [])
        names = [name.strip() for line in offered for name in line.split(",")]
        tunnel = next((name for name in portforward.TUNNELS if name in names), None)
        if tunnel is not None:
            return await portforward.serve_tunnel(request, shown, dial, tunnel)
        name = next((one for one in portforward.DIALECTS if one in names), None)
        if name is None and any(names):
            raise bad_request(f"unable to negotiate protocol: client supports {names}")
        try:
            ports = portforward.parse_ports(request.query.getall("ports", []))
        except ValueError as error:
            raise bad_request(str(error)) from error
        dialect = dialect_named(name or portforward.DIALECTS[0])
        return await portforward.serve_channels(request, shown, ports, dial, dialect)


def _first(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


def _upgrade_of(request: web.BaseRequest) -> str:
    """`websocket` or `spdy/3.1`. Raises ApiError 400 for anything else."""
    wanted = asked_upgrade(request.headers)
    if wanted not in ("websocket", "spdy/3.1"):
        raise bad_request("Upgrade request required")
    if wanted == "websocket" and request.method != "GET":
        raise bad_request("a WebSocket is opened with GET (RFC 6455, 4.1)")
    return wanted


def _spdy_version(request: web.BaseRequest, known: tuple[str, ...]) -> str:
    offered = request.headers.getall(remotecommand.VERSION_HEADER, [])
    version = remotecommand.choose_version(offered, known)
    if version is None:
        text = f"unable to negotiate protocol: client supports {offered}, server accepts {list(known)}"
        raise ApiError(403, "Forbidden", text)
    return version


def _require_host(pod: JsonObject) -> None:
    if not pod["spec"].get("nodeName"):
        raise bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")


def read_wanted(query: Mapping[str, str]) -> Wanted:
    """Which streams PodExecOptions and PodAttachOptions ask for. Raises ApiError 400 for none at all."""
    stdin, stdout, stderr, tty = (is_true(query, name) for name in ("stdin", "stdout", "stderr", "tty"))
    if not (stdin or stdout or stderr):
        raise bad_request("you must specify at least 1 of stdin, stdout, stderr")
    return Wanted(stdin, stdout, stderr and not tty, tty)


def _place(pod: JsonObject, container: str) -> Place:
    """The container a request is about: the one it names, the only one, or the annotated one."""
    meta, spec = pod["metadata"], pod["spec"]
    kinds = ("containers", "initContainers", "ephemeralContainers")
    names = {kind: [str(one["name"]) for one in spec.get(kind) or ()] for kind in kinds}
    if container and any(container in some for some in names.values()):
        return Place(meta["namespace"], meta["name"], container)
    if container:
        raise bad_request(f"container {container} is not valid for pod {meta['name']}")
    if len(names["containers"]) == 1:
        return Place(meta["namespace"], meta["name"], names["containers"][0])
    default = (meta.get("annotations") or {}).get(DEFAULT_CONTAINER)
    if default in names["containers"]:
        return Place(meta["namespace"], meta["name"], str(default))
    choices = f"[{' '.join(names['containers'])}]"
    if names["initContainers"]:
        choices += f" or one of the init containers: [{' '.join(names['initContainers'])}]"
    raise bad_request(f"a container name must be specified for pod {meta['name']}, choose one of: {choices}")


def read_log_options(query: MultiMapping[str], name: str, now: datetime) -> LogOptions:
    """PodLogOptions of a query about pod `name`. Raises ApiError 422, a cause for each wrong field."""
    causes: list[Cause] = []

    def number(name: str, least: int, rule: str) -> int | None:
        text = query.get(name, "")
        if not text:
            return None
        if not text.removeprefix("-").isdecimal():
            raise bad_request(f'{name}: "{text}" is not a whole number')
        if int(text) < least:
            causes.append(invalid_value(name, text, rule))
        return int(text)

    tail = number("tailLines", 0, "must be greater than or equal to 0")
    limit = number("limitBytes", 1, "must be greater than 0")
    seconds = number("sinceSeconds", 1, "must be greater than 0")
    since = _moment(query.get("sinceTime", ""))
    if seconds is not None and since is not None:
        why = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(forbidden_field("", why))
    output = query.get("stream") or "All"
    if output not in ("All", "Stdout", "Stderr"):
        shown = '"All", "Stderr", "Stdout"'
        message = f'Unsupported value: "{output}": supported values: {shown}'
        causes.append(Cause("FieldValueNotSupported", "stream", message))
    elif output != "All" and tail is not None:
        why = "`tailLines` and specific `stream` are mutually exclusive for now"
        causes.append(forbidden_field("", why))
    if causes:
        raise invalid("PodLogOptions", "", name, causes)
    if seconds is not None:
        since = now - timedelta(seconds=min(seconds, MAX_SINCE_S))
    return LogOptions(
        follow=is_true(query, "follow"),
        previous=is_true(query, "previous"),
        timestamps=is_true(query, "timestamps"),
        tail=tail,
        since=since,
        limit_bytes=limit,
        output="Stdout" if output == "Stdout" else "Stderr" if output == "Stderr" else "All",
    )


MAX_SINCE_S = 100 * 365 * 86400


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_request(f'sinceTime: "{text}" is not an RFC 3339 time') from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
