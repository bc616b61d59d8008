"""A tap from the API server down to a proxy's stream, and who may have one."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import aiohttp
import pytest

from controller.metricsapi.query import Query, Refusal, parse
from controller.metricsapi.resources import ROOT
from controller.metricsapi.taporder import TapOrder
from controller.taps import MAX_WAITING, TapReader
from smi.names import SYSTEM_NAMESPACE
from tests.controller.metricsapi.test_server import BASE, Shop, shop
from tests.controller.pki import pod_names

__all__ = ["shop"]

PATH = f"{BASE}/namespaces/shop/pods/web-0/tap"


async def test_requests_flow_from_the_proxy_to_who_asked(shop: Shop) -> None:
    server = shop.running.server
    async with await shop.running.proxy(pod_names("shop/web-0", "web")) as proxy:
        proxy.hello("shop/web-0")
        await proxy.update()
        token = server.issue_token(SYSTEM_NAMESPACE, "root", None, 600)
        context = ssl.create_default_context(cadata=server.authority_pem.decode())
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{server.url}{PATH}?method=get&peer=api&seconds=30&rate=7"
        async with aiohttp.ClientSession(headers=headers) as session, session.get(url, ssl=context) as answer:
            assert answer.status == 200
            order = await proxy.hear()
            name = order.pop("id")
            filters = {"method": "GET", "peer": "api"}
            assert order == {"type": "tap", "filter": filters, "seconds": 30, "rate": 7}
            request = {"time": 1.5, "method": "GET", "path": "/items", "status": 200, "ms": 3, "pod": "a/lie"}
            proxy.say(type="tapped", id="another", requests=[request], dropped=0)
            proxy.say(type="tapped", id=name, requests=[request], dropped=2)
            first = await line(answer)
            assert (first["pod"], first["path"], first["status"]) == ("shop/web-0", "/items", 200)
            assert await line(answer) == {"dropped": 2}
        while (said := await proxy.hear())["type"] != "untap":
            assert said["type"] in ("pong", "update")
        assert said["id"] == name


async def line(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The next line that is not empty."""
    async with asyncio.timeout(10):
        while True:
            text = await answer.content.readline()
            if text.strip():
                found: dict[str, Any] = json.loads(text)
                return found


async def test_a_proxy_that_is_away_is_noted_and_the_time_ends_it(shop: Shop) -> None:
    server = shop.running.server
    token = server.issue_token(SYSTEM_NAMESPACE, "root", None, 600)
    context = ssl.create_default_context(cadata=server.authority_pem.decode())
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{server.url}{PATH}?seconds=1", ssl=context) as answer,
    ):
        text = await answer.text()
    assert [json.loads(one) for one in text.split("\n") if one] == [
        {"note": "shop/web-0: its proxy is not connected"}
    ]


async def test_viewers_may_not_tap(shop: Shop) -> None:
    for role in ("view", "smi-mesh-traffic-tapper"):
        binding = {
            "metadata": {"name": role},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}],
        }
        await shop.running.api.create("rolebindings.rbac.authorization.k8s.io", "shop", binding)
        status, found, _ = await shop.get(f"{PATH}?seconds=0", "system:serviceaccount:shop:web")
        if role == "view":
            assert (status, found["reason"]) == (403, "Forbidden")
        else:
            assert (status, found["reason"]) == (400, "BadRequest")
            assert found["message"].startswith("seconds: expected a whole number from 1 to 600")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"direction": "up"}, "direction"),
        ({"status": "6xx"}, "status"),
        ({"seconds": "601"}, "seconds"),
        ({"rate": "x"}, "rate"),
        ({"path": "/\x1b[2J"}, "path"),
        ({"peer": "x" * 201}, "peer"),
    ],
)
def test_orders_that_make_no_sense(given: dict[str, str], complaint: str) -> None:
    found = parse("GET", f"{ROOT}/namespaces/shop/deployments/web/tap", given)
    assert isinstance(found, Refusal)
    assert (found.code, found.message.split(":")[0]) == (400, complaint)


def test_orders() -> None:
    found = parse("GET", f"{ROOT}/namespaces/shop/tap", {"method": "post", "status": "5xx"})
    assert isinstance(found, Query)
    assert (found.name, found.subresource) == ("shop", "tap")
    assert found.tap == TapOrder(method="POST", status="5xx")
    splits = parse("GET", f"{ROOT}/namespaces/shop/trafficsplits/canary/tap", {})
    assert isinstance(splits, Refusal)


async def test_what_nobody_reads_is_bounded() -> None:
    reader = TapReader()
    reader.put("a/b", ({"n": number} for number in range(MAX_WAITING + 3)), 1)
    assert reader.dropped == 4
    taken = await reader.take(1)
    assert (len(taken), taken[0]) == (MAX_WAITING, {"pod": "a/b", "n": 3})
    assert await reader.take(0.01) == []
