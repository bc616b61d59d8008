"""The API server as a whole: state directory, certificates, HTTPS listeners, kubeconfig, and the in-process
`api`.

`start` is the one entry point. Everything it opens, `ApiServer.stop` closes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from controller import listening
from localmesh.apiserver import kubeconfig, pki
from localmesh.apiserver.api import Api
from localmesh.apiserver.assemble import Core, assemble
from localmesh.apiserver.authn import ADMINISTRATOR
from localmesh.apiserver.frontproxy import FrontProxy
from localmesh.apiserver.handlers import MAX_BODY, Handlers
from localmesh.apiserver.podstreams import Logs, PodStreams
from localmesh.apiserver.store import Store
from localmesh.streams.contract import Node

SHUTDOWN_SECONDS = 1.0
LOCAL_NAMES = (
    "127.0.0.1",
    "::1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where the server lives and how it is reached."""

    state_dir: Path
    """Holds state.db, pki/ (0600 files) and the kubeconfig; made if missing."""
    bind: tuple[str, ...] = ("127.0.0.1",)
    """Addresses to listen on from the start; more may follow with `ApiServer.listen`."""
    port: int = 0
    """0 picks a free port, the same on every address."""
    advertise_host: str = "127.0.0.1"
    """The host in the kubeconfig."""
    names: tuple[str, ...] = ()
    """More SANs for the serving certificate."""
    service_cidr: str = "10.96.0.0/16"
    node_ports: tuple[int, int] = (30000, 32767)
    kubeconfig: Path | None = None
    """Where to write the administrator's kubeconfig; default state_dir/kubeconfig."""

    @property
    def service_address(self) -> str:
        """The ClusterIP of the `kubernetes` Service: the first of the range."""
        return str(next(ipaddress.ip_network(self.service_cidr).hosts()))


class ApiServer:
    """A running server. Made by `start`."""

    def __init__(self, settings: ApiSettings, core: Core, authority: pki.KeyPair, handlers: Handlers) -> None:
        self.settings = settings
        self.core = core
        self.port = 0
        self._authority = authority
        self._handlers = handlers
        self._names = list(
            dict.fromkeys((*LOCAL_NAMES, settings.service_address, *settings.names, *settings.bind))
        )
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._tls.load_verify_locations(cadata=authority.certificate.decode())
        self._tls.set_alpn_protocols(["http/1.1"])
        self._runner: web.ServerRunner | None = None

    @property
    def api(self) -> Api:
        """The in-process client."""
        return self.core.api

    @property
    def url(self) -> str:
        """What the kubeconfig says."""
        return self.url_for(self.settings.advertise_host)

    @property
    def kubeconfig_path(self) -> Path:
        return self.settings.kubeconfig or self.settings.state_dir / "kubeconfig"

    @property
    def authority_pem(self) -> bytes:
        """The CA certificate clients trust (the content of kube-root-ca.crt)."""
        return self._authority.certificate

    def url_for(self, host: str) -> str:
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{self.port}"

    def set_node(self, node: Node, logs: Logs) -> None:
        """Who answers pods/{name}/log, exec, attach and portforward."""
        self._handlers.pod_streams = PodStreams(node, logs)

    def issue_token(
        self,
        namespace: str,
        account: str,
        audience: str | None,
        seconds: int,
        pod: tuple[str, str] | None = None,
    ) -> str:
        """A service-account token for a projected volume;
        `pod` is (name, uid), audience None means this server.
        """
        bound = self._handlers.reviews.bind(namespace, account, pod)
        audiences = (audience,) if audience else ()
        return self._handlers.tokens.issue(bound, audiences, seconds)[0]

    def kubeconfig_for(self, token: str, host: str | None = None) -> bytes:
        """A kubeconfig for a bearer token, for processes that cannot have the in-cluster files."""
        server = self.url_for(host or self.settings.advertise_host)
        return kubeconfig.render(server, self.authority_pem, kubeconfig.Credentials(token=token))

    async def listen(self, host: str) -> None:
        """Also accept connections on `host`, with it in the serving certificate."""
        if self._runner is None:
            raise RuntimeError("the server is not running")
        if host not in self._names:
            self._names.append(host)
            self._load_certificate()
        site = web.TCPSite(self._runner, host, self.port, ssl_context=self._tls, backlog=512)
        await site.start()
        if self.port == 0:
            server = site._server
            assert isinstance(server, asyncio.Server)
            self.port = server.sockets[0].getsockname()[1]

    async def publish_endpoint(self, address: str) -> None:
        """Say in Endpoints and EndpointSlice `default/kubernetes` where pods reach this server."""
        await self.core.publish_endpoint(address, self.port)

    async def stop(self) -> None:
        """Close listeners and connections, then the store. Safe to call twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self.core.rest.store.end_watches()
            self._handlers.end_streams()
            await listening.stop(runner)
        await self.core.close()

    async def _open(self) -> None:
        self._load_certificate()
        self.port = self.settings.port
        server = web.Server(
            self._handlers.handle, request_factory=_request, handler_cancellation=True, access_log=None
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        for host in self.settings.bind:
            await self.listen(host)

    def _load_certificate(self) -> None:
        serving = pki.issue_serving(self._authority, self._names)
        with tempfile.TemporaryDirectory(dir=self.settings.state_dir) as directory:
            path = Path(directory) / "serving.pem"
            pki.write_private(path, serving.certificate + serving.key)
            self._tls.load_cert_chain(path)

    def write_kubeconfig(self) -> None:
        user, groups = ADMINISTRATOR
        client = pki.issue_client(self._authority, user, groups)
        credentials = kubeconfig.Credentials(client.certificate, client.key)
        pki.write_private(self.kubeconfig_path, kubeconfig.render(self.url, self.authority_pem, credentials))


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY)


async def start(settings: ApiSettings) -> ApiServer:
    """Open the store, make or load keys, listen, write the kubeconfig. Raises OSError, JournalError."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = pki.load_or_create_authority(settings.state_dir / "pki")
    signing_key = pki.load_or_create_key(settings.state_dir / "pki" / "sa.key")
    store = Store(settings.state_dir / "state.db")
    core = assemble(
        store,
        signing_key=signing_key,
        front_proxy=FrontProxy.load_or_create(settings.state_dir / "pki"),
        service_cidr=settings.service_cidr,
        node_ports=settings.node_ports,
    )
    handlers = core.handlers(lambda: f"{settings.advertise_host}:{server.port}")
    server = ApiServer(settings, core, authority, handlers)
    try:
        await core.bootstrap(authority.certificate)
        await server._open()
    except BaseException:
        await server.stop()
        raise
    server.write_kubeconfig()
    return server
