"""The whole way: kube API server → aggregation → controller → proxies, and who is let through."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from smi.names import ADMIN_PORT, CONTROLLER_NAME, SYSTEM_NAMESPACE
from tests.controller.metricsapi.build import document, row
from tests.controller.running import Running, account, namespace, started, until

BASE = "/apis/metrics.smi-spec.io/v1alpha1"
GROUP = "rbac.authorization.k8s.io"


@dataclass
class Shop:
    """The mesh with two pods, and what their proxies say."""

    running: Running
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def get(
        self, path: str, user: str = "", accept: str = "application/json"
    ) -> tuple[int, dict[str, Any], Any]:
        """GET through the API server, as its administrator or impersonating a service account."""
        server = self.running.server
        token = server.issue_token(SYSTEM_NAMESPACE, "root", None, 600)
        context = ssl.create_default_context(cadata=server.authority_pem.decode())
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        if user:
            headers["Impersonate-User"] = user
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.url + path, headers=headers, ssl=context) as answer,
        ):
            return answer.status, json.loads(await answer.text() or "{}"), answer.headers


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with started(tmp_path) as running:
        await running.create(namespace("shop", inject="enabled"))
        for name in ("web", "api"):
            await running.create(account(name))
        await running.api.create("serviceaccounts", SYSTEM_NAMESPACE, {"metadata": {"name": "root"}})
        binding = {
            "metadata": {"name": "root"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "root", "namespace": SYSTEM_NAMESPACE}],
        }
        await running.api.create("clusterrolebindings.rbac.authorization.k8s.io", None, binding)
        there = Shop(running)

        async def answer(request: web.BaseRequest) -> web.Response:
            assert request.transport is not None
            ip = request.transport.get_extra_info("sockname")[0]
            return web.json_response(there.answers[ip])

        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        # Addresses of this test process alone: tests run side by side.
        block = f"127.{64 + id(there) // 4096 % 128}.{id(there) // 524288 % 250 + 1}"
        for number, name in enumerate(("web", "api"), start=1):
            ip = f"{block}.{number}"
            await running.meshed_pod(f"{name}-0", name, ip)
            await web.TCPSite(runner, ip, ADMIN_PORT).start()
            there.answers[ip] = document(f"shop/{name}-0")
        web_ip, api_ip = there.answers
        there.answers[web_ip]["http"] = [row("outbound", "shop/api-0", 7, 1, service="shop/api")]
        there.answers[api_ip]["http"] = [row("inbound", "shop/web-0", 7, 1)]
        try:
            await available(running)
            yield there
        finally:
            await runner.cleanup()


async def available(running: Running) -> None:
    async def said() -> bool:
        name = "v1alpha1.metrics.smi-spec.io"
        found = await running.api.get("apiservices.apiregistration.k8s.io", None, name)
        conditions = (found.get("status") or {}).get("conditions") or []
        world = running.controller.hub.world
        ready = [pod for pod in world.pods.values() if pod.ready and pod.ips] if world else []
        return bool(conditions and conditions[0]["status"] == "True" and len(ready) == 2)

    await until(said)


async def test_a_pod_a_list_its_edges_and_a_table(shop: Shop) -> None:
    status, found, headers = await shop.get(f"{BASE}/namespaces/shop/pods/api-0")
    assert status == 200
    values = {one["name"]: one["value"] for one in found["metrics"]}
    assert (values["success_count"], values["failure_count"]) == ("7", "1")
    assert "Warning" not in headers
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods")
    assert [one["metadata"]["name"] for one in found["items"]] == ["api-0", "web-0"]
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods/web-0/edges")
    assert [(one["edge"]["direction"], one["edge"]["side"]) for one in found["items"]] == [
        ("to", "client"),
        ("to", "server"),
    ]
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods?labelSelector=version%3Dv2")
    assert (status, found["items"]) == (200, [])
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods?labelSelector=version%3Dv1")
    assert (status, len(found["items"])) == (200, 2)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods", accept=accept)
    assert (found["kind"], found["rows"][0]["cells"][:2]) == ("Table", ["api-0", "87.50%"])
    status, found, _ = await shop.get(f"{BASE}/namespaces")
    assert [one["metadata"]["name"] for one in found["items"]] == ["shop"]


async def test_what_does_not_exist_and_what_cannot_be_read(shop: Shop) -> None:
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods/nobody-0")
    assert (status, found["reason"]) == (404, "NotFound")
    assert '"nobody-0" not found' in found["message"]
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/jobs")
    assert (status, found["items"]) == (200, [])
    assert (await shop.get(f"{BASE}/namespaces/shop/spaceships"))[0] == 404
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods?labelSelector=%3D%3D")
    assert (status, found["reason"]) == (400, "BadRequest")
    assert (await shop.get(f"{BASE}/namespaces/shop/pods?watch=1"))[0] == 405


async def test_missing_proxies_are_told_and_none_at_all_is_503(shop: Shop) -> None:
    web_ip, api_ip = shop.answers
    shop.answers[web_ip] = {}
    status, found, headers = await shop.get(f"{BASE}/namespaces/shop/pods")
    assert status == 200
    assert "1 of 2 proxies did not answer: shop/web-0" in headers["Warning"]
    (item,) = found["items"]
    assert item["metadata"]["annotations"] == {"smi-mesh.io/proxies-missing": "1 of 2"}
    shop.answers[api_ip] = {}

    async def down() -> bool:
        status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods")
        return status == 503 and found["reason"] == "ServiceUnavailable"

    await until(down)


async def test_only_those_who_may_view_a_namespace_see_its_traffic(shop: Shop) -> None:
    user = "system:serviceaccount:shop:web"
    status, found, _ = await shop.get(f"{BASE}/namespaces/shop/pods", user)
    assert (status, found["reason"]) == (403, "Forbidden")
    binding = {
        "metadata": {"name": "viewers"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}],
    }
    await shop.running.api.create("rolebindings.rbac.authorization.k8s.io", "shop", binding)
    assert (await shop.get(f"{BASE}/namespaces/shop/pods", user))[0] == 200
    assert (await shop.get(f"{BASE}/namespaces/shop/pods/web-0/edges", user))[0] == 200
    assert (await shop.get(f"{BASE}/pods", user))[0] == 403


@pytest.mark.parametrize("path", [BASE, f"{BASE}/namespaces/shop/pods"])
async def test_nobody_but_the_aggregator_is_let_in(shop: Shop, path: str) -> None:
    controller = shop.running.controller
    context = ssl.create_default_context(cadata=controller.authority.bundle)
    url = f"https://127.0.0.1:{controller.ports['traffic']}{path}"
    headers = {"X-Remote-User": "kubernetes-admin", "X-Remote-Group": "system:masters"}
    name = f"{CONTROLLER_NAME}.{SYSTEM_NAMESPACE}.svc"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=context, server_hostname=name) as answer,
    ):
        assert answer.status == 401
        assert (await answer.json())["reason"] == "Unauthorized"


async def test_a_controller_that_is_gone_is_503(shop: Shop) -> None:
    await shop.running.controller.stop()
    status = 200
    async with asyncio.timeout(10):
        while status == 200:
            server = shop.running.server
            token = server.issue_token(SYSTEM_NAMESPACE, "root", None, 600)
            context = ssl.create_default_context(cadata=server.authority_pem.decode())
            async with (
                aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
                session.get(f"{server.url}{BASE}/namespaces/shop/pods", ssl=context) as answer,
            ):
                status = answer.status
    assert status == 503
