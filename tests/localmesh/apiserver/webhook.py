"""A real HTTPS webhook for tests: answers AdmissionReview and ConversionReview with given functions."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from localmesh.apiserver import pki

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Webhook:
    url: str
    port: int
    bundle: str
    requests: list[dict[str, Any]] = field(default_factory=list)

    def config(self, path: str) -> dict[str, Any]:
        return {"url": f"{self.url}{path}", "caBundle": self.bundle}


def patched(*operations: dict[str, Any]) -> dict[str, Any]:
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


@asynccontextmanager
async def serving(directory: Path, answers: dict[str, Answer], *names: str) -> AsyncIterator[Webhook]:
    """Serve `answers` by path on 127.0.0.1 with a certificate of its own authority."""
    authority = pki.load_or_create_authority(directory / "webhook")
    leaf = pki.issue_serving(authority, ("127.0.0.1", "localhost", *names))
    pem = directory / "webhook.pem"
    pem.write_bytes(leaf.certificate + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    hook = Webhook("", 0, base64.b64encode(authority.certificate).decode())

    async def handle(request: web.BaseRequest) -> web.Response:
        review = await request.json()
        hook.requests.append(review["request"])
        response = answers[request.path](review["request"])
        return web.json_response(
            {
                "apiVersion": review["apiVersion"],
                "kind": review["kind"],
                "response": {"uid": review["request"]["uid"], **response},
            }
        )

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    hook.port = runner.addresses[0][1]
    hook.url = f"https://127.0.0.1:{hook.port}"
    try:
        yield hook
    finally:
        await runner.cleanup()
