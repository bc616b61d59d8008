"""OpenAPI documents. (Schemas follow.)"""

from __future__ import annotations

from aiohttp import web

from localmesh.apiserver import answers
from localmesh.apiserver.registry import Registry


class OpenApi:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def handle(self, request: web.BaseRequest) -> web.Response:
        return answers.text("404 page not found\n", 404)
