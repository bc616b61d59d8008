"""pods/NAME/proxy and services/NAME/proxy: HTTP to what runs in the cluster, through this server.

NAME is `[scheme:]name[:port]`, as upstream. What kubectl proxy and dashboards use.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import yarl
from aiohttp import web

from localmesh.apiserver.endpoints import ready_endpoint
from localmesh.apiserver.errors import ApiError, bad_request, not_found
from localmesh.apiserver.jsonvalue import JsonObject, child
from localmesh.apiserver.relay import relay
from localmesh.apiserver.store import Key, Store
from localmesh.streams.duplex import asked_upgrade
from localmesh.streams.tunnel import Destination, UnreachableError, end_to_end, tunnel

PROXIED = frozenset({"pods", "services"})
CONNECT_SECONDS = 10.0
_NOT_PASSED = frozenset({"authorization", "host"})


@dataclass(frozen=True, slots=True)
class ProxyName:
    """What a proxy request calls its target. `port` is a number, a name, or "" for the only one."""

    scheme: str
    name: str
    port: str

    @classmethod
    def parse(cls, text: str) -> ProxyName:
        """Raises ApiError 400."""
        parts = text.split(":")
        scheme, name, port = ("", *parts, "")[:3] if len(parts) < 3 else parts[:3]
        if len(parts) > 3 or not name or scheme not in ("", "http", "https"):
            raise bad_request(f'invalid proxy request "{text}": expected [http:|https:]name[:port]')
        return cls(scheme or "http", name, port)


def below_proxy(raw_path: str) -> str | None:
    """The still encoded path behind `/proxy`, None when the request does not even have its slash.

    `raw_path` is /api/v1/namespaces/NAMESPACE/RESOURCE/NAME/proxy[/…].
    """
    parts = raw_path.split("/", 8)
    return "/" + parts[8] if len(parts) > 8 else None


class ServiceProxy:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._session: aiohttp.ClientSession | None = None
        self._trusting: ssl.SSLContext | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def handle(
        self, request: web.BaseRequest, resource: str, namespace: str, text: str
    ) -> web.StreamResponse:
        """Pass the request on. Raises ApiError 400, 404, and 503 when nobody answers."""
        name = ProxyName.parse(text)
        path = below_proxy(request.rel_url.raw_path)
        if path is None and request.method in ("GET", "HEAD"):
            query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
            return web.Response(status=301, headers={"Location": f"{request.rel_url.raw_path}/{query}"})
        locate = self._pod if resource == "pods" else self._service
        host, port = locate(namespace, name)
        tls = self._context() if name.scheme == "https" else None
        to = Destination(host, port, tls)
        target = (path or "/") + (
            f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        )
        if not asked_upgrade(request.headers):
            return await self._forward(request, name, to, target)
        try:
            return await tunnel(request, to, target, _passed(request))
        except UnreachableError as error:
            raise _unreachable(error) from error

    # --- where ----------------------------------------------------------------------------------------

    def _pod(self, namespace: str, name: ProxyName) -> tuple[str, int]:
        item = self._store.get("pods", Key(namespace, name.name))
        if item is None:
            raise not_found("pods", "", name.name)
        declared = [
            port
            for one in child(item.value, "spec").get("containers") or []
            for port in one.get("ports") or []
        ]
        address = child(item.value, "status").get("podIP")
        if not address:
            raise ApiError(503, "ServiceUnavailable", f'pod "{name.name}" has no address yet')
        if not name.port:
            return address, int(
                declared[0]["containerPort"]
            ) if declared else 443 if name.scheme == "https" else 80
        for port in declared:
            if port.get("name") == name.port:
                return address, int(port["containerPort"])
        return address, _number(name)

    def _service(self, namespace: str, name: ProxyName) -> tuple[str, int]:
        item = self._store.get("services", Key(namespace, name.name))
        if item is None:
            raise not_found("services", "", name.name)
        ports: list[JsonObject] = child(item.value, "spec").get("ports") or []
        if name.port.isdecimal():
            number = _number(name)
        else:
            row = next((one for one in ports if (one.get("name") or "") == name.port), None)
            if row is None and not name.port and len(ports) == 1:
                row = ports[0]
            if row is None:
                choices = [one.get("name") or one.get("port") for one in ports]
                raise bad_request(
                    f'service "{name.name}" has no port "{name.port}", choose one of: {choices}'
                )
            number = int(row["port"])
        found = ready_endpoint(self._store, namespace, name.name, number)
        if isinstance(found, str):
            raise ApiError(503, "ServiceUnavailable", found)
        if child(item.value, "spec").get("type") == "ExternalName" or not self._may_reach(found[0]):
            raise bad_request(f'service "{name.name}" leads to {found[0]}, which is not proxied to')
        return found

    def _may_reach(self, address: str) -> bool:
        """Nobody gets at this machine's own loopback by writing Endpoints; pods may live there, though."""
        place = ipaddress.ip_address(address)
        if not (place.is_loopback or place.is_link_local):
            return True
        return any(child(item.value, "status").get("podIP") == address for item in self._store.items("pods"))

    # --- there and back -------------------------------------------------------------------------------

    async def _forward(
        self, request: web.BaseRequest, name: ProxyName, to: Destination, target: str
    ) -> web.StreamResponse:
        url = yarl.URL(f"{name.scheme}://{to.authority}{target}", encoded=True)
        try:
            answer = await self._client().request(
                request.method,
                url,
                headers=_passed(request),
                data=request.content if request.body_exists else None,
                ssl=to.tls or True,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from error
        async with answer:
            headers = [
                (field, _moved(value, request, url) if field.lower() == "location" else value)
                for field, value in end_to_end(answer.headers.items())
            ]
            return await relay(request, answer, headers)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15),
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            )
        return self._session

    def _context(self) -> ssl.SSLContext:
        if self._trusting is None:
            self._trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._trusting.check_hostname = False
            self._trusting.verify_mode = (
                ssl.CERT_NONE
            )  # as upstream: pods have no certificates to be known by
        return self._trusting


def _unreachable(error: Exception) -> ApiError:
    message = f"error trying to reach service: {error or type(error).__name__}"
    return ApiError(503, "ServiceUnavailable", message)


def _number(name: ProxyName) -> int:
    if not name.port.isdecimal() or not 0 < int(name.port) <= 65535:
        raise bad_request(f'"{name.port}" is no port of "{name.name}"')
    return int(name.port)


def _passed(request: web.BaseRequest) -> list[tuple[str, str]]:
    """The client's fields, without what proves who it is to this server: pods must not learn that."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return [
        *(
            (name, value)
            for name, value in end_to_end(request.headers.items())
            if name.lower() not in _NOT_PASSED
            and not name.lower().startswith(("impersonate-", "x-forwarded-"))
        ),
        ("X-Forwarded-Uri", request.rel_url.raw_path),
        ("X-Forwarded-Host", request.headers.get("Host", "")),
        ("X-Forwarded-Proto", "https"),
        *((("X-Forwarded-For", str(peer[0])),) if peer else ()),
    ]


def _moved(location: str, request: web.BaseRequest, url: yarl.URL) -> str:
    """A redirect of the target's, as seen from outside: its own paths lie below /proxy."""
    to = urlsplit(location)
    if to.netloc and to.netloc != url.raw_authority:
        return location
    if not to.netloc and not to.path.startswith("/"):
        return location
    prefix = "/".join(request.rel_url.raw_path.split("/", 8)[:8])
    query = f"?{to.query}" if to.query else ""
    return f"{prefix}{to.path or '/'}{query}"
