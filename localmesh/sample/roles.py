"""What each role of the sample shop answers. Pure: no socket, no clock, no environment."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final

from conformance.app.echo import POD_HEADER, SERVER_HEADER
from conformance.app.http1 import Request, Response

ITEMS: Final = ("lamp", "chair", "table")


class Role(StrEnum):
    """The parts of the shop (environment variable ROLE)."""

    WEB = "web"
    """Calls the others, when its control port says so."""
    API = "api"
    """Answers /items and /admin."""
    DB = "db"
    """A line protocol over TCP that greets first when GREET=1."""
    STRANGER = "stranger"
    """Calls like web does; nobody allows it."""


class Shop:
    """HTTP side of the `api` role. Every answer names the service that gave it."""

    def __init__(self, name: str, pod: str) -> None:
        self._name = name
        self._headers = ((SERVER_HEADER, name), (POD_HEADER, pod), ("content-type", "application/json"))

    async def __call__(self, request: Request) -> Response:
        match request.method, request.path:
            case (("GET" | "HEAD"), "/items"):
                return self._answer(200, items=list(ITEMS))
            case "POST", "/items":
                return self._answer(201, added=request.body[:200].decode("utf-8", "replace"))
            case _, "/admin":
                return self._answer(200, secret="the price list")
        return self._answer(404, path=request.path)

    def _answer(self, status: int, **fields: object) -> Response:
        body = json.dumps({"service": self._name, **fields}) + "\n"
        return Response(status, self._headers, body.encode())


class Ledger:
    """TCP side of the `db` role: `PUT key value`, `GET key`, `COUNT`, `QUIT`; at most 1000 keys."""

    LIMIT: Final = 1000

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows = {item: str(number) for number, item in enumerate(ITEMS, 1)}

    def __call__(self, line: str) -> str | None:
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "GET":
                return f"{self._name} {self._rows.get(rest, '(nothing)')}"
            case "COUNT":
                return f"{self._name} {len(self._rows)}"
            case "PUT":
                return f"{self._name} {self._put(*rest.partition(' ')[::2])}"
            case "QUIT":
                return None
        return f"{self._name} error: expected GET, PUT, COUNT or QUIT"

    def _put(self, key: str, value: str) -> str:
        if key not in self._rows and len(self._rows) >= self.LIMIT:
            return "error: full"
        self._rows[key] = value
        return "ok"
