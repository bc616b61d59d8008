"""A whole controller in this process against a real localmesh API server, with the RBAC of the manifests."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import kopf

from controller.ca.policy import Names
from controller.kinds import BY_NAME
from controller.main import Controller
from controller.manifests import InstallSettings, render
from controller.settings import Settings
from localmesh.apiserver.server import ApiServer, ApiSettings, start
from smi.names import CONTROLLER_NAME, SYSTEM_NAMESPACE
from tests.controller.discovery.streams import ProxyEnd
from tests.controller.pki import client_context

Obj = dict[str, Any]
DEADLINE = 10.0
_Result = TypeVar("_Result")
SETTINGS = Settings(
    bind="127.0.0.1",
    discovery_port=0,
    identity_port=0,
    admin_port=0,
    webhook_port=0,
    traffic_port=0,
    pod_ip="127.0.0.1",
)


def resource(obj: Obj) -> str:
    """What localmesh calls the kind of `obj`."""
    group = obj["apiVersion"].rpartition("/")[0]
    kind = obj["kind"]
    plural = kind.lower() + ("" if kind == "Endpoints" else "s")
    return f"{plural}.{group}" if group else plural


async def until(condition: Callable[[], Awaitable[_Result | None]], seconds: float = DEADLINE) -> _Result:
    """The first true result of `condition`."""
    async with asyncio.timeout(seconds):
        while not (result := await condition()):  # noqa: ASYNC110 - the API is asked, it tells nobody
            await asyncio.sleep(0.02)
        return result


@dataclass
class Running:
    """The API server and the controller."""

    server: ApiServer
    controller: Controller
    state_dir: Path

    @property
    def api(self) -> Any:
        return self.server.api

    async def create(self, obj: Obj) -> Obj:
        found: Obj = await self.api.create(resource(obj), obj["metadata"].get("namespace"), obj)
        return found

    async def get(self, kind: str, namespace: str, name: str) -> Obj:
        where = BY_NAME[kind]
        plural = f"{where.plural}.{where.group}" if where.group else where.plural
        found: Obj = await self.api.get(plural, namespace, name)
        return found

    async def wait_condition(self, kind: str, name: str, condition: str, status: str, generation: int) -> Obj:
        """Wait until the object (namespace `shop`) says so of `generation`; returns the condition."""

        async def said() -> Obj | None:
            obj = await self.get(kind, "shop", name)
            for one in (obj.get("status") or {}).get("conditions") or ():
                if (one["type"], one["status"], one["observedGeneration"]) == (condition, status, generation):
                    found: Obj = one
                    return found
            return None

        return await until(said)

    async def meshed_pod(self, name: str, account: str, ip: str) -> Obj:
        """A pod of namespace `shop` that runs: nobody here runs pods, so its status is written by hand."""
        pod = await self.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "shop", "labels": {"version": "v1"}},
                "spec": {
                    "serviceAccountName": account,
                    "containers": [{"name": "app", "image": "sh", "ports": [{"containerPort": 8080}]}],
                },
            }
        )
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
        await self.api.patch("pods", "shop", name, {"status": status}, "status")
        return pod

    def token(self, pod: Obj, audience: str = "smi-mesh-ca") -> str:
        metadata, account = pod["metadata"], pod["spec"]["serviceAccountName"]
        bound = (metadata["name"], metadata["uid"])
        return self.server.issue_token(metadata["namespace"], account, audience, 3600, bound)

    async def sign(self, csr: str, token: str) -> tuple[int, Obj]:
        """POST /v1/sign, verifying the server by the trust bundle and one of its Service's names."""
        context = ssl.create_default_context(cadata=self.controller.authority.bundle)
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://127.0.0.1:{self.controller.ports['identity']}/v1/sign"
            name = f"{CONTROLLER_NAME}.{SYSTEM_NAMESPACE}.svc"
            body = json.dumps({"csr": csr, "token": token})
            async with session.post(url, data=body, server_hostname=name) as response:
                return response.status, await response.json()

    async def proxy(self, names: Names) -> ProxyEnd:
        context = client_context(self.controller.authority, names)
        return await ProxyEnd.open(self.controller.ports["discovery"], context)

    async def restart_server(self, between: Callable[[ApiServer], Awaitable[None]] | None = None) -> None:
        """Stop the API server and start it again on its state and port; `between` sees it on another port."""
        settings = replace(self.server.settings, port=self.server.port)
        await self.server.stop()
        if between is not None:
            hidden = await start(replace(settings, port=0, kubeconfig=self.state_dir / "hidden"))
            await between(hidden)
            await hidden.stop()
        self.server = await start(settings)


def service(name: str, ip: str) -> Obj:
    spec = {"clusterIP": ip, "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }


def namespace(name: str, **labels: str) -> Obj:
    marks = {f"smi-mesh.io/{key}": value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}


def account(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "shop"}}


@asynccontextmanager
async def started(state_dir: Path, settings: Settings = SETTINGS) -> AsyncIterator[Running]:
    """API server with the manifests, the controller with its own service account, webhooks reachable."""
    server = await start(ApiSettings(state_dir=state_dir))
    for manifest in render(InstallSettings()):
        where = manifest["metadata"].get("namespace")
        await server.api.create(resource(manifest), where, manifest)
    token = server.issue_token(SYSTEM_NAMESPACE, CONTROLLER_NAME, None, 3600)
    authority = server.authority_pem.decode()
    info = kopf.ConnectionInfo(server=server.url, ca_data=authority, token=token)
    failures: list[str] = []
    controller = Controller(
        settings,
        lambda: info,
        on_failure=lambda name, error: failures.append(f"{name}: {error!r}"),
        on_spawned=lambda: None,
    )
    running = Running(server, controller, state_dir)
    try:
        await controller.start()
        await server.api.create("endpoints", SYSTEM_NAMESPACE, _endpoints(controller.ports))
        async with asyncio.timeout(DEADLINE):
            await controller.hub.wait_for(1)
        yield running
    finally:
        await controller.stop()
        await running.server.stop()
    assert not failures


def _endpoints(ports: Mapping[str, int]) -> Obj:
    """Where the controller's Service leads: nobody here runs the controller's pod."""
    subset = {
        "addresses": [{"ip": "127.0.0.1"}],
        "ports": [
            {"name": f"https-{name}", "port": ports[name], "protocol": "TCP"}
            for name in ("webhooks", "traffic")
        ],
    }
    metadata = {"name": CONTROLLER_NAME, "namespace": SYSTEM_NAMESPACE}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}
