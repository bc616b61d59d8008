"""Carries orders to the control port of the test application's pods.

Straight to the pod's address where this machine can reach it (the embedded cluster, or a runner inside the
cluster), else through the API server's pod proxy. Which of the two is found out once, with the first pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from conformance.driver import DriverError
from conformance.drivers.world import CONTROL_PORT
from conformance.kube import Kube, KubeError

DIAL_SECONDS: Final = 1.0
SLACK_SECONDS: Final = 10.0
"""What an order may take longer than its own time-outs add up to."""


@dataclass(frozen=True, slots=True)
class Place:
    """One pod as orders find it."""

    namespace: str
    name: str
    ip: str


class Reach:
    """The way into pods. Raises DriverError when an order cannot be delivered or carried out."""

    def __init__(self, kube: Kube, session: aiohttp.ClientSession) -> None:
        self._kube = kube
        self._session = session
        self._direct: bool | None = None

    async def ask(
        self, place: Place, path: str, order: Mapping[str, Any] | None = None, seconds: float = 5.0
    ) -> Any:
        """GET (without an order) or POST `path` of the control port; returns the JSON answer."""
        if self._direct is None:
            self._direct = await _reachable(place.ip)
        method = "GET" if order is None else "POST"
        try:
            if self._direct:
                return await self._straight(method, place, path, order, seconds)
            proxied = f"/api/v1/namespaces/{place.namespace}/pods/{place.name}:{CONTROL_PORT}/proxy{path}"
            return await self._kube.request(method, proxied, body=order)
        except KubeError as error:
            raise DriverError(f"pod {place.namespace}/{place.name}: {error.message}") from None
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            text = f"pod {place.namespace}/{place.name}: its control port did not answer: {error!r}"
            raise DriverError(text) from None

    async def _straight(
        self, method: str, place: Place, path: str, order: Mapping[str, Any] | None, seconds: float
    ) -> Any:
        url = f"http://{place.ip}:{CONTROL_PORT}{path}"
        timeout = aiohttp.ClientTimeout(total=seconds + SLACK_SECONDS)
        async with self._session.request(method, url, json=order, timeout=timeout) as response:
            answer = await response.json()
            if response.status != 200:
                raise DriverError(f"pod {place.namespace}/{place.name}: {answer.get('error', answer)}")
            return answer


async def _reachable(ip: str) -> bool:
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            _, writer = await asyncio.open_connection(ip, CONTROL_PORT)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
