"""API aggregation: groups that another server in the cluster serves, behind this server's address.

An APIService names that server's Service. Requests for its group and version are authenticated and
authorised here and passed on with a front-proxy certificate; what it serves is asked for every few seconds,
merged into discovery, and its answer decides condition Available.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import aiohttp
import yarl
from aiohttp import web

from localmesh.apiserver import answers, discovery
from localmesh.apiserver import remotes as remote_services
from localmesh.apiserver.api import Api
from localmesh.apiserver.call import User
from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.frontproxy import FrontProxy, forwarded, returned
from localmesh.apiserver.jsonvalue import JsonObject, loads
from localmesh.apiserver.metadata import now_text
from localmesh.apiserver.registry import Registry, version_priority
from localmesh.apiserver.relay import relay
from localmesh.apiserver.remotes import Remote, Verdict
from localmesh.apiserver.store import Change, Store
from localmesh.streams.duplex import asked_upgrade
from localmesh.streams.tunnel import Destination, UnreachableError, tunnel

log = logging.getLogger(__name__)

PROBE_SECONDS = 5.0
"""Time a probe may take, as upstream."""
PERIOD_SECONDS = 10.0
"""A server whose APIService and endpoints do not change is asked again this often."""
HOLD_OFF_SECONDS = 0.05
CONNECT_SECONDS = 10.0
MAX_DISCOVERY = 4 * 1024 * 1024
CHUNK = 64 * 1024
MAX_CONTEXTS = 64
IN_PROCESS = User("system:kube-aggregator", groups=("system:masters",))
_FOLLOWED = frozenset({remote_services.KEY, "services", "endpoints", "endpointslices.discovery.k8s.io"})
_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


@dataclass(slots=True)
class Seen:
    """What the last probe of one APIService found."""

    verdict: Verdict = remote_services.NOT_ASKED
    resources: list[JsonObject] = field(default_factory=list)
    """Rows of its APIResourceList; the last ones known when it is away."""
    openapi: str = ""
    """`serverRelativeURL` of its OpenAPI v3 document, "" if it has none."""


class Aggregation:
    """Follows APIServices in the store; `run` keeps their conditions true."""

    def __init__(self, store: Store, api: Api, registry: Registry, front_proxy: FrontProxy) -> None:
        self._store = store
        self._api = api
        self._registry = registry
        self._front_proxy = front_proxy
        self._remotes: dict[tuple[str, str], Remote] = {}
        self._seen: dict[str, Seen] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None
        self._changed = asyncio.Event()
        store.on_change(self._note)

    # --- looking up ----------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the APIServices of earlier runs."""
        found = (remote_services.remote_of(item.value) for item in self._store.items(remote_services.KEY))
        self._remotes = {(one.group, one.version): one for one in found if one is not None}
        names = {one.name for one in self._remotes.values()}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def at(self, group: str, version: str) -> Remote | None:
        """Who serves this group and version, None if nobody else does."""
        return self._remotes.get((group, version))

    def __iter__(self) -> Iterator[Remote]:
        """By priority: the group's, then the version's."""
        return iter(
            sorted(self._remotes.values(), key=lambda one: (-one.group_priority, one.group, _order(one)))
        )

    def openapi_documents(self) -> dict[str, str]:
        """OpenAPI v3 documents of servers that have one: path → serverRelativeURL."""
        found = ((f"apis/{one.group}/{one.version}", self._of(one).openapi) for one in self)
        return {path: url for path, url in found if url}

    def _of(self, remote: Remote) -> Seen:
        return self._seen.setdefault(remote.name, Seen())

    # --- discovery -----------------------------------------------------------------------------------

    def into_group_list(self, groups: list[JsonObject]) -> list[JsonObject]:
        """APIGroups with the aggregated versions among them."""
        named = {group["name"]: dict(group) for group in groups}
        for remote in self:
            known = named.setdefault(remote.group, {"name": remote.group, "versions": []})
            entry = {"groupVersion": f"{remote.group}/{remote.version}", "version": remote.version}
            if entry not in known["versions"]:
                known["versions"] = [*known["versions"], entry]
            known["preferredVersion"] = known["versions"][0]
        return list(named.values())

    def into_aggregated(self, items: list[JsonObject]) -> list[JsonObject]:
        """Items of an APIGroupDiscoveryList with the aggregated ones among them."""
        named = {item["metadata"].get("name", ""): dict(item) for item in items}
        for remote in self:
            known = named.setdefault(remote.group, {"metadata": {"name": remote.group}, "versions": []})
            seen = self._of(remote)
            entry = {
                "version": remote.version,
                "resources": discovery.aggregated_rows(remote.group, remote.version, seen.resources),
                "freshness": "Current" if seen.verdict.available else "Stale",
            }
            others = [one for one in known["versions"] if one["version"] != remote.version]
            known["versions"] = [*others, entry]
        return list(named.values())

    # --- passing on ----------------------------------------------------------------------------------

    async def forward(self, request: web.BaseRequest, user: User, remote: Remote) -> web.StreamResponse:
        """The server's own answer, streamed as it comes; 503 in plain text when it cannot be had."""
        seen = self._of(remote)
        place = remote_services.locate(self._store, remote)
        if not seen.verdict.available or isinstance(place, Verdict):
            return answers.text("service unavailable\n", 503)
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        headers = forwarded(request.headers.items(), user, peer[0] if peer else "")
        if asked_upgrade(request.headers):
            to = Destination(*place, self._context(remote), remote.server_name)
            try:
                return await tunnel(request, to, request.rel_url.raw_path_qs, headers)
            except UnreachableError as error:
                self._changed.set()
                return answers.text(f"error trying to reach service: {error}\n", 503)
        try:
            answer = await self._client().request(
                request.method,
                _url(place, request.rel_url.raw_path_qs),
                headers=headers,
                data=request.content if request.body_exists else None,
                ssl=self._context(remote),
                server_hostname=remote.server_name,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            )
        except (aiohttp.ClientError, OSError) as error:
            self._changed.set()  # ask at once whether it is gone
            return answers.text(f"error trying to reach service: {error}\n", 503)
        async with answer:
            return await relay(request, answer, returned(answer.headers))

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(
                connector=connector, trust_env=False, auto_decompress=False, skip_auto_headers=("Accept",)
            )
        return self._session

    def _context(self, remote: Remote) -> ssl.SSLContext:
        """Raises ssl.SSLError for a caBundle that cannot be used."""
        key = (remote.bundle, remote.verify)
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= MAX_CONTEXTS:
                self._contexts.clear()
            context = self._front_proxy.context(remote.bundle or None, verify=remote.verify)
            self._contexts[key] = context
        return context

    # --- keeping conditions true ---------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: local APIServices, probes and conditions, on changes and every ten seconds."""
        while True:
            self._changed.clear()
            try:
                await self._keep_local()
            except ApiError as error:
                log.warning("the APIServices of this server's own groups are not up to date: %s", error)
            await asyncio.gather(*(self._judge(remote) for remote in tuple(self)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self._changed.wait()
            await asyncio.sleep(HOLD_OFF_SECONDS)

    def _note(self, resource: str, change: Change) -> None:
        if resource == _DEFINITIONS:
            self._changed.set()
        if resource not in _FOLLOWED:
            return
        if resource == remote_services.KEY:
            before, after = change.before, change.item.value
            if before is None or change.kind == "DELETED" or before.value.get("spec") != after.get("spec"):
                self.load()
                self._changed.set()
            return
        meta = change.item.value["metadata"]
        service = (meta.get("labels") or {}).get("kubernetes.io/service-name") or meta["name"]
        concerned = (meta["namespace"], service)
        if any((one.namespace, one.service) == concerned for one in self._remotes.values()):
            self._changed.set()

    async def _keep_local(self) -> None:
        """An APIService for every group and version served here, and none for what no longer is."""
        served = [("", "v1")]
        served += [(name, version) for name in self._registry.groups() for version in self._versions(name)]
        wanted = {
            f"{version}.{group}": remote_services.local_service(group, version, position)
            for position, (group, version) in _numbered(served)
        }
        for name, obj in wanted.items():
            if self._api.peek(remote_services.KEY, None, name) is None:
                await self._api.create(remote_services.KEY, None, obj)
        for item in self._store.items(remote_services.KEY):
            if item.value["spec"].get("service"):
                continue
            labels = item.value["metadata"].get("labels") or {}
            if item.key.name not in wanted and remote_services.AUTOMANAGED in labels:
                await self._api.delete(remote_services.KEY, None, item.key.name)
            else:
                await self._write(item.key.name, remote_services.LOCAL)

    def _versions(self, group: str) -> list[str]:
        return [one for one in self._registry.versions(group) if self.at(group, one) is None]

    async def _judge(self, remote: Remote) -> None:
        seen = self._of(remote)
        seen.verdict = await self._probe(remote, seen)
        await self._write(remote.name, seen.verdict)

    async def _write(self, name: str, verdict: Verdict) -> None:
        current = self._api.peek(remote_services.KEY, None, name)
        status = remote_services.with_condition(current, verdict, now_text()) if current else None
        if status is None:
            return
        try:
            await self._api.patch(remote_services.KEY, None, name, {"status": status}, "status")
        except ApiError as error:
            if error.code != 404:
                log.warning("condition Available of APIService %s is not written: %s", name, error)

    async def _probe(self, remote: Remote, seen: Seen) -> Verdict:
        place = remote_services.locate(self._store, remote)
        if isinstance(place, Verdict):
            return place
        path = f"/apis/{remote.group}/{remote.version}"
        try:
            document = await self._fetch(remote, place, path)
            seen.resources = [row for row in document.get("resources") or () if isinstance(row, dict)]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            message = f"failing or missing response from {_url(place, path)}: {error or type(error).__name__}"
            return Verdict(False, "FailedDiscoveryCheck", message)
        seen.openapi = await self._find_openapi(remote, place)
        return remote_services.PASSED

    async def _find_openapi(self, remote: Remote, place: tuple[str, int]) -> str:
        try:
            index = await self._fetch(remote, place, "/openapi/v3")
        except (aiohttp.ClientError, OSError, ValueError):
            return ""  # it need not have any
        paths = index.get("paths")
        entry = paths.get(f"apis/{remote.group}/{remote.version}") if isinstance(paths, dict) else None
        url = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        return url if isinstance(url, str) and url.startswith("/openapi/v3/") else ""

    async def _fetch(self, remote: Remote, place: tuple[str, int], path: str) -> JsonObject:
        """A JSON document of the server. Raises aiohttp.ClientError, OSError, ValueError."""
        headers = forwarded([("Accept", "application/json")], IN_PROCESS, "")
        async with self._client().get(
            _url(place, path),
            headers=headers,
            ssl=self._context(remote),
            server_hostname=remote.server_name,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS),
        ) as answer:
            text = b""
            async for chunk in answer.content.iter_chunked(CHUNK):
                text += chunk
                if len(text) > MAX_DISCOVERY:
                    raise ValueError(f"the answer is longer than {MAX_DISCOVERY} bytes")
            if answer.status != 200:
                raise ValueError(f"bad status: {answer.status}")
        document = loads(text)
        if not isinstance(document, dict):
            raise ValueError("the answer is not a JSON object")
        return document


def _url(place: tuple[str, int], path: str) -> yarl.URL:
    host = f"[{place[0]}]" if ":" in place[0] else place[0]
    return yarl.URL(f"https://{host}:{place[1]}{path}", encoded=True)


def _order(remote: Remote) -> tuple[int, tuple[int, int, int, str]]:
    return -remote.version_priority, version_priority(remote.version)


def _numbered(served: Iterable[tuple[str, str]]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Each (group, version) with its place among the versions of its group."""
    counts: dict[str, int] = {}
    for group, version in served:
        position = counts[group] = counts.get(group, -1) + 1
        yield position, (group, version)
