"""The admin server: /healthz, /readyz, /metrics and /debug/proxies. Plain HTTP, read only.

Shows what others know and decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from controller.discovery.proxies import Proxies, Proxy
from controller.hub import Hub
from controller.metrics import Metrics


def admin_app(hub: Hub, proxies: Proxies, metrics: Metrics, blocked_by: Callable[[], str]) -> web.Application:
    """The admin endpoints as an aiohttp application. `blocked_by` says why it is not ready, or nothing."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = blocked_by()
        if reason:
            return web.Response(status=503, text=reason + "\n")
        return web.Response(text=f"ready, revision {hub.revision}\n")

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def debug_proxies(_: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        shown = sorted((one for one in proxies if one.connected), key=lambda one: one.pod)
        return web.json_response(
            {"revision": hub.revision, "proxies": [_describe(proxy, now) for proxy in shown]}
        )

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scrape)
    app.router.add_get("/debug/proxies", debug_proxies)
    return app


def _describe(proxy: Proxy, now: float) -> dict[str, Any]:
    return {
        "pod": proxy.pod,
        "identity": proxy.identity,
        "revision": proxy.revision,
        "connected_seconds": round(now - proxy.connected_at, 3),
        "subscriptions": sorted(proxy.keys),
        "version": proxy.version,
        "nack": proxy.nack,
    }
