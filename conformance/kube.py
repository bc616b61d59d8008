"""A small typed Kubernetes client: what the suite and the command need of the API, and nothing else.

It reads a kubeconfig (client certificates or a token), finds resources by discovery, applies
objects with GET → POST or merge PATCH, and waits by watching. It holds no state but a discovery cache.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import yaml

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

MERGE_PATCH: Final = "application/merge-patch+json"
REQUEST_SECONDS: Final = 15.0
MAX_EVENT: Final = 8 * 1024 * 1024
"""Bytes of one watch event."""


class KubeError(Exception):
    """The API refused or could not be reached. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


class KubeconfigError(ValueError):
    """A kubeconfig that cannot be used; the text names the file and the field."""


class Change(StrEnum):
    """What applying an object did, in kubectl's words."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as discovery tells it."""

    group_version: str
    """`v1` or `<group>/<version>`."""
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """URL path of the collection, or of one object."""
        prefix = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{prefix}{scope}/{self.plural}" + (f"/{name}" if name else "")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One kubeconfig context: where the API is and how to prove who one is."""

    server: str
    certificate_authority: str | None
    """PEM."""
    client_certificate: str | None
    client_key: str | None
    token: str | None

    @classmethod
    def read(cls, path: Path, context_name: str | None = None) -> Self:
        """Read a context of a kubeconfig (default: the current one); raises KubeconfigError."""
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise KubeconfigError(f"kubeconfig {path}: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise KubeconfigError(f"kubeconfig {path}: not YAML: {error}") from None
        try:
            name = context_name or document["current-context"]
            context = _named(document["contexts"], name)["context"]
            cluster = _named(document["clusters"], context["cluster"])["cluster"]
            user = _named(document["users"], context["user"])["user"]
            server = str(cluster["server"])
        except (KeyError, TypeError) as error:
            raise KubeconfigError(f"kubeconfig {path}: {error} is missing") from None
        return cls(
            server=server.rstrip("/"),
            certificate_authority=_material(cluster, "certificate-authority", path),
            client_certificate=_material(user, "client-certificate", path),
            client_key=_material(user, "client-key", path),
            token=user.get("token"),
        )

    def tls(self) -> ssl.SSLContext:
        """The client's TLS settings. Key material touches disk only for the length of this call."""
        context = ssl.create_default_context(cadata=self.certificate_authority)
        if self.client_certificate and self.client_key:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as chain:  # mode 0600
                chain.write(self.client_certificate + "\n" + self.client_key)
                chain.flush()
                context.load_cert_chain(chain.name)
        return context


def _named(items: list[Any], name: str) -> Any:
    found = [item for item in items if item["name"] == name]
    if not found:
        raise KeyError(name)
    return found[0]


def _material(holder: Mapping[str, Any], field: str, kubeconfig: Path) -> str | None:
    data = holder.get(f"{field}-data")
    if data:
        try:
            return str(base64.b64decode(data, validate=True), "utf-8")
        except ValueError:
            raise KubeconfigError(f"kubeconfig {kubeconfig}: {field}-data is not base64 text") from None
    file = holder.get(field)
    if not file:
        return None
    try:
        return Path(kubeconfig.parent, str(file)).read_text(encoding="utf-8")
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {kubeconfig}: {field} {file}: {error.strerror}") from None


class Kube:
    """The API of one cluster. Use `connect`; every method raises KubeError."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server
        self._kinds: dict[tuple[str, str], Resource] = {}

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path, context: str | None = None) -> AsyncIterator[Self]:
        """A client for a context of the kubeconfig (default: the current one); raises KubeconfigError."""
        credentials = Credentials.read(kubeconfig, context)
        headers = {"authorization": f"Bearer {credentials.token}"} if credentials.token else {}
        tls = credentials.tls() if credentials.server.startswith("https:") else True
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(
            connector=connector, headers=headers, trust_env=False, read_bufsize=MAX_EVENT
        ) as session:
            yield cls(session, credentials.server)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """One exchange; returns the JSON answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"accept": "application/json"} | ({"content-type": content_type} if data else {})
        try:
            async with self._session.request(
                method,
                self._server + path,
                data=data,
                params=query,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as response:
                text = await response.text()
                return _answer(response.status, text)
        except TimeoutError:
            raise KubeError(0, "Timeout", f"{method} {path}: no answer in {REQUEST_SECONDS:g} s") from None
        except aiohttp.ClientError as error:
            raise KubeError(0, "Unreachable", f"{method} {self._server}{path}: {error}") from None

    async def resource(self, api_version: str, kind: str) -> Resource:
        """The resource that serves `kind`; asks discovery, and asks again when the kind is new."""
        known = self._kinds.get((api_version, kind))
        if known is not None:
            return known
        prefix = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
        try:
            listing = await self.request("GET", prefix)
        except KubeError as error:
            if error.status != 404:
                raise
            listing = {"resources": []}
        for entry in listing.get("resources", []):
            if "/" not in entry["name"]:
                self._kinds[api_version, entry["kind"]] = Resource(
                    api_version, entry["name"], bool(entry["namespaced"])
                )
        if (api_version, kind) not in self._kinds:
            raise KubeError(404, "NotFound", f"the cluster does not serve {kind} in {api_version}")
        return self._kinds[api_version, kind]

    async def apply(self, obj: Object, namespace: str | None = None) -> tuple[Change, Object]:
        """Make the cluster hold `obj`: create it, or merge it into what is there. Lists are replaced."""
        resource = await self.resource(obj["apiVersion"], obj["kind"])
        name = obj["metadata"]["name"]
        space = obj["metadata"].get("namespace") or namespace
        path = resource.path(space, name)
        existing = await self.find(path)
        if existing is None:
            return Change.CREATED, await self.request("POST", resource.path(space), body=obj)
        merged = await self.request("PATCH", path, body=obj, content_type=MERGE_PATCH)
        same = merged["metadata"]["resourceVersion"] == existing["metadata"]["resourceVersion"]
        return (Change.UNCHANGED if same else Change.CONFIGURED), merged

    async def find(self, path: str) -> Object | None:
        """The object at `path`, or None when there is none."""
        try:
            found: Object = await self.request("GET", path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def objects(
        self, api_version: str, kind: str, namespace: str | None = None, labels: str = ""
    ) -> list[Object]:
        """All objects of a kind, in one namespace or in all; `labels` is a label selector."""
        resource = await self.resource(api_version, kind)
        query = {"labelSelector": labels} if labels else None
        answer = await self.request("GET", resource.path(namespace), query=query)
        items: list[Object] = answer["items"]
        return items

    async def wait(
        self,
        path: str,
        until: Callable[[Object], bool],
        seconds: float,
        what: str,
    ) -> Object:
        """Watch the object at `path` until `until` holds for it, and return it.

        Raises TimeoutError naming `what` after `seconds`. The object need not exist yet.
        """
        try:
            async with asyncio.timeout(seconds):
                async for obj in self.follow(path):
                    if obj is not None and until(obj):
                        return obj
        except TimeoutError:
            raise TimeoutError(f"{what}: not within {seconds:g} s") from None
        raise AssertionError("unreachable: following an object does not end by itself")

    async def wait_gone(self, path: str, seconds: float) -> None:
        """Watch until there is nothing at `path`; raises TimeoutError after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                async for obj in self.follow(path):
                    if obj is None:
                        return
        except TimeoutError:
            raise TimeoutError(f"{path} is still there after {seconds:g} s") from None

    async def follow(self, path: str) -> AsyncIterator[Object | None]:
        """Every state of one object from now on, the present one first; None = it does not exist."""
        collection, _, name = path.rpartition("/")
        while True:
            listing = await self.request("GET", collection, query={"fieldSelector": f"metadata.name={name}"})
            yield listing["items"][0] if listing["items"] else None
            version = listing["metadata"]["resourceVersion"]
            async for event, obj in self._watch(collection, name, version):
                if event in ("ADDED", "MODIFIED"):
                    yield obj
                elif event == "DELETED":
                    yield None

    async def _watch(self, collection: str, name: str, version: str) -> AsyncIterator[tuple[str, Object]]:
        """Events until the server ends the stream or says that `version` is too old."""
        query = {"watch": "1", "fieldSelector": f"metadata.name={name}", "resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS)
        try:
            async with self._session.get(self._server + collection, params=query, timeout=timeout) as stream:
                if stream.status != 200:
                    _answer(stream.status, await stream.text())
                async for line in stream.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        return
                    yield event["type"], event["object"]
        except aiohttp.ClientError as error:
            raise KubeError(0, "Unreachable", f"watch {collection}: {error}") from None

    async def logs(
        self, namespace: str, pod: str, container: str, *, follow: bool, tail: int | None
    ) -> AsyncIterator[bytes]:
        """The log of one container, piece by piece."""
        query = {"container": container, "follow": "true" if follow else "false"}
        if tail is not None:
            query["tailLines"] = str(tail)
        url = f"{self._server}/api/v1/namespaces/{namespace}/pods/{pod}/log"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS)
        try:
            async with self._session.get(url, params=query, timeout=timeout) as stream:
                if stream.status != 200:
                    _answer(stream.status, await stream.text())
                async for piece in stream.content.iter_any():
                    yield piece
        except aiohttp.ClientError as error:
            raise KubeError(0, "Unreachable", f"log of {namespace}/{pod}: {error}") from None


def _answer(status: int, text: str) -> Any:
    try:
        document = json.loads(text)
    except ValueError:
        document = {}
    if status >= 400:
        message = document.get("message") or text.strip()[:500] or f"HTTP {status}"
        raise KubeError(status, str(document.get("reason") or ""), message)
    return document


def condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The status condition of type `kind`, or None."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry.get("type") == kind), None)


def is_current(obj: Mapping[str, Any], kind: str) -> bool:
    """Whether condition `kind` is True and speaks about the object's present generation."""
    found = condition(obj, kind)
    if found is None or found.get("status") != "True":
        return False
    seen = found.get("observedGeneration", (obj.get("status") or {}).get("observedGeneration"))
    return bool(seen == obj["metadata"].get("generation"))
