"""A running API server over TLS and a client with the administrator's certificate."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from localmesh.apiserver.server import ApiServer, ApiSettings, start


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    text: str
    headers: Any


@dataclass
class Client:
    """Raw HTTP with the administrator's (or another) credentials."""

    session: aiohttp.ClientSession
    url: str
    headers: dict[str, str]

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str | None = None,
        **headers: str,
    ) -> Answer:
        sent = {**self.headers, **headers}
        data = None
        if body is not None:
            sent["Content-Type"] = content_type
            data = body if isinstance(body, str | bytes) else yaml_json(body)
        if accept:
            sent["Accept"] = accept
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            text = await response.text()
            try:
                parsed = await response.json(content_type=None)
            except ValueError:
                parsed = None
            return Answer(response.status, parsed, text, response.headers)


def yaml_json(value: Any) -> str:
    import json

    return json.dumps(value)


def admin_context(server: ApiServer, directory: Path) -> ssl.SSLContext:
    config = yaml.safe_load(server.kubeconfig_path.read_text())
    context = ssl.create_default_context(cadata=server.authority_pem.decode())
    user = config["users"][0]["user"]
    pem = directory / "admin.pem"
    pem.write_bytes(
        base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
    )
    context.load_cert_chain(pem)
    return context


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    running = await start(ApiSettings(tmp_path / "state"))
    yield running
    await running.stop()


@pytest.fixture
async def call(server: ApiServer, tmp_path: Path) -> AsyncIterator[Client]:
    """The administrator."""
    connector = aiohttp.TCPConnector(ssl=admin_context(server, tmp_path))
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        yield Client(session, server.url, {})


@pytest.fixture
async def anonymous(server: ApiServer) -> AsyncIterator[Client]:
    """Nobody, until a test sets a bearer token in `headers`."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cadata=server.authority_pem.decode()))
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        yield Client(session, server.url, {})
