"""Stands in for the controller: speaks the signing and discovery protocols, decides nothing.

A sidecar's token names its pod, and `Controller.pods` says what that pod is told. So the sidecars
that are measured are the shipped processes, fed over the shipped protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.authority import Authority
from smi.names import CONTROLLER_NAME, DEFAULT_TRUST_DOMAIN, SYSTEM_NAMESPACE, ServiceIdentity, pod_dns_san
from smi.policy.codec import encode_cluster, encode_destination, encode_inbound
from smi.policy.snapshot import Destination, Endpoint, Inbound

NAMESPACE: Final = "shop"


def spiffe(account: str) -> str:
    return ServiceIdentity(DEFAULT_TRUST_DOMAIN, NAMESPACE, account).uri


@dataclass(slots=True)
class Pod:
    """What one sidecar is told. Its account has its name."""

    name: str
    inbound: Inbound
    destinations: dict[str, Destination] = field(default_factory=dict)
    """By subscription key; every other key is outside the mesh."""
    clusters: dict[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    orders: tuple[Mapping[str, Any], ...] = ()
    """Messages that follow its first config: taps."""
    told: int = 0
    """Requests that it has told of since."""

    def answer(self, keys: Iterable[str]) -> dict[str, Any]:
        """The resources for these keys."""
        found: dict[str, Any] = {}
        for key in keys:
            destination = self.destinations.get(key, Destination())
            found[f"destination/{key}"] = encode_destination(destination)
            names = {backend.cluster for split in destination.splits for backend in split.backends}
            for name in names | ({destination.cluster} if destination.cluster else set()):
                found[f"cluster/{name}"] = encode_cluster(self.clusters.get(name, ()))
        return found


class Controller:
    """Both servers, in this event loop."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.authority = authority
        self.pods: dict[str, Pod] = {}
        self.identity_port = 0
        self.discovery_port = 0
        uri = ServiceIdentity(DEFAULT_TRUST_DOMAIN, SYSTEM_NAMESPACE, CONTROLLER_NAME).uri
        self._files = authority.issue(folder, "controller", uri)
        self._servers: list[asyncio.Server] = []
        self._streams: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.identity_port = await self._listen(self._sign, mutual=False)
        self.discovery_port = await self._listen(self._discover, mutual=True)

    async def stop(self) -> None:
        """Close the servers and every stream; returns when their handlers have ended."""
        for server in self._servers:
            server.close()
        while self._streams:
            for writer in self._streams:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _listen(self, handle: Any, *, mutual: bool) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self._files.certificate, self._files.key)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.authority.bundle)
        server = await asyncio.start_server(
            handle,
            "0.0.0.0",  # noqa: S104 - reached from another namespace too; both demand a token or certificate
            0,
            ssl=context,
            limit=16 << 20,
        )
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _sign(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            body = json.loads(await reader.readexactly(int(fields[b"content-length"])))
            account = body["token"]
            certificate, end = self.authority.sign(
                body["csr"], spiffe(account), [pod_dns_san(NAMESPACE, f"{account}-1")]
            )
            answer = {"certificates": certificate, "trust_bundle": self.authority.bundle, "not_after": end}
            text = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
            await writer.drain()
        writer.close()

    async def _discover(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        revision = 1
        pod: Pod | None = None
        self._streams.add(writer)
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                message = json.loads(line)
                kind = message["type"]
                if kind == "hello":
                    pod = self.pods[message["pod"].rpartition("/")[2].removesuffix("-1")]
                    resources = {
                        "inbound": encode_inbound(pod.inbound),
                        **pod.answer(message["subscriptions"]),
                    }
                    _send(
                        writer, type="update", revision=revision, full=True, resources=resources, removed=[]
                    )
                    for order in pod.orders:
                        _send(writer, **order)
                elif kind == "subscribe" and pod is not None:
                    revision += 1
                    resources = pod.answer(message["keys"])
                    _send(
                        writer, type="update", revision=revision, full=False, resources=resources, removed=[]
                    )
                elif kind == "tapped" and pod is not None:
                    pod.told += len(message["requests"])
                elif kind == "ping":
                    _send(writer, type="pong")
        self._streams.discard(writer)
        writer.close()


def _send(writer: asyncio.StreamWriter, **message: Any) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
