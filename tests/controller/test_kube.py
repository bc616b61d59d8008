"""The small client against a real HTTP server: bodies, errors, a token that was rotated; and its login."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import kopf
import pytest
from aiohttp import web

from controller.kube import Kube, KubeError, login


class Server:
    """Answers from a script and keeps what it was asked."""

    def __init__(self) -> None:
        self.token = "first"
        self.asked: list[tuple[str, str, str, object]] = []

    async def handle(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {self.token}":
            return web.json_response({"reason": "Unauthorized", "message": "no"}, status=401)
        body = json.loads(await request.text()) if request.can_read_body else None
        self.asked.append((request.method, request.path_qs, request.headers.get("Content-Type", ""), body))
        if request.path == "/missing":
            return web.json_response({"reason": "NotFound", "message": "pods x not found"}, status=404)
        if request.path == "/broken":
            return web.Response(text="<html>", status=502)
        return web.json_response({"kind": "Thing"})


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, Kube]]:
    script, app = Server(), web.Application()
    app.router.add_route("*", "/{rest:.*}", script.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    kube = Kube(lambda: kopf.ConnectionInfo(server=url, token=script.token))
    yield script, kube
    await kube.close()
    await runner.cleanup()


async def test_verbs_and_content_types(server: tuple[Server, Kube]) -> None:
    script, kube = server
    assert await kube.get("/a", {"x": "y"}) == {"kind": "Thing"}
    await kube.create("/b", {"n": 1})
    await kube.replace("/c", {"n": 2})
    await kube.merge("/d", {"n": 3})
    assert script.asked == [
        ("GET", "/a?x=y", "", None),
        ("POST", "/b", "application/json", {"n": 1}),
        ("PUT", "/c", "application/json", {"n": 2}),
        ("PATCH", "/d", "application/merge-patch+json", {"n": 3}),
    ]


async def test_errors_say_what_was_asked_and_what_was_answered(server: tuple[Server, Kube]) -> None:
    _, kube = server
    with pytest.raises(KubeError, match="GET /missing: 404 pods x not found") as missing:
        await kube.get("/missing")
    assert missing.value.absent
    with pytest.raises(KubeError, match="502 <html>"):
        await kube.get("/broken")
    nowhere = Kube(lambda: kopf.ConnectionInfo(server="http://127.0.0.1:1"))
    with pytest.raises(KubeError, match="GET /x") as unreachable:
        await nowhere.get("/x")
    assert unreachable.value.status == 0
    await nowhere.close()


async def test_a_rotated_token_is_read_again(server: tuple[Server, Kube]) -> None:
    script, kube = server
    await kube.get("/a")
    script.token = "second"
    assert await kube.get("/a") == {"kind": "Thing"}


async def test_no_login_is_an_error_of_the_call() -> None:
    def refuse() -> kopf.ConnectionInfo:
        raise kopf.LoginError("no account")

    with pytest.raises(KubeError, match="no account"):
        await Kube(refuse).get("/x")


def test_login_in_a_pod(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    found = login({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}, tmp_path)
    assert (found.server, found.token) == ("https://10.96.0.1:6443", "abc")
    assert login({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path).server == "https://[fd00::1]:443"
    with pytest.raises(kopf.LoginError, match="KUBERNETES_SERVICE_HOST"):
        login({}, tmp_path)
    with pytest.raises(kopf.LoginError, match="set KUBECONFIG, or run in a pod"):
        login({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path / "nothing")
