"""HTTPS calls the server makes to webhooks: where they are, whom to trust, how long to wait.

Used for admission and for conversion alike. A webhook is named by `url` or by a reference to a Service,
which is resolved to a ready endpoint.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from localmesh.apiserver.endpoints import ready_endpoint
from localmesh.apiserver.jsonvalue import JsonObject, child, dumps, loads
from localmesh.apiserver.store import Store

ResolveService = Callable[[str, str, int], tuple[str, int]]
"""(namespace, name, service port) → (host, port) of something that answers; raises CalloutError."""

MAX_ANSWER = 10 * 1024 * 1024
MAX_CONTEXTS = 64


class CalloutError(Exception):
    """The webhook could not be asked, or did not answer usefully; the message says why."""


class Callout:
    """A shared client. Connections are kept alive between calls."""

    def __init__(self, resolve: ResolveService) -> None:
        self._resolve = resolve
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def post(self, config: JsonObject, body: JsonObject, seconds: float) -> Any:
        """The JSON answer of the webhook at `clientConfig` `config`. Raises CalloutError."""
        url, server_name = self._address(config)
        context = self._context(config.get("caBundle") or "")
        try:
            async with self._client().post(
                url,
                data=dumps(body),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                ssl=context,
                server_hostname=server_name,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                text = await response.content.read(MAX_ANSWER + 1)
                while not response.content.at_eof() and len(text) <= MAX_ANSWER:
                    text += await response.content.read(MAX_ANSWER + 1 - len(text))
        except TimeoutError:
            raise CalloutError(f"Post {url}: context deadline exceeded after {seconds:g}s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CalloutError(f"Post {url}: {error or type(error).__name__}") from error
        if len(text) > MAX_ANSWER:
            raise CalloutError(f"Post {url}: the answer is longer than {MAX_ANSWER} bytes")
        if response.status != 200:
            raise CalloutError(f"Post {url}: the server answered {response.status}")
        try:
            return loads(text)
        except (ValueError, RecursionError) as error:
            raise CalloutError(f"Post {url}: the answer is not JSON ({error})") from error

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=32, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self._session

    def _address(self, config: JsonObject) -> tuple[str, str]:
        if config.get("url"):
            parts = urlsplit(config["url"])
            if parts.scheme != "https" or not parts.hostname:
                raise CalloutError(f"webhook url {config['url']!r} must be an https URL")
            return config["url"], parts.hostname
        service = child(config, "service")
        namespace, name = service.get("namespace", ""), service.get("name", "")
        host, port = self._resolve(namespace, name, int(service.get("port") or 443))
        path = quote(service.get("path") or "/", safe="/?&=%")
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{port}{path}", f"{name}.{namespace}.svc"

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is not None:
            return context
        try:
            pem = base64.b64decode(bundle).decode() if bundle else None
            context = ssl.create_default_context(cadata=pem)
        except (ssl.SSLError, UnicodeDecodeError, binascii.Error, ValueError) as error:
            raise CalloutError(f"caBundle is not a PEM certificate bundle: {error}") from error
        if len(self._contexts) >= MAX_CONTEXTS:
            self._contexts.clear()
        self._contexts[bundle] = context
        return context


def service_resolver(store: Store) -> ResolveService:
    """Resolve Services to ready endpoints with what the store knows: slices first, then Endpoints."""

    def resolve(namespace: str, name: str, port: int) -> tuple[str, int]:
        found = ready_endpoint(store, namespace, name, port)
        if isinstance(found, str):
            raise CalloutError(found)
        return found

    return resolve
