"""Aggregated APIs: a real extension server behind the API server, with its own TLS and front-proxy trust."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from localmesh.apiserver import pki
from localmesh.apiserver.call import User
from localmesh.apiserver.frontproxy import forwarded, returned
from localmesh.apiserver.remotes import Verdict, validate, with_condition
from localmesh.apiserver.server import ApiServer, ApiSettings, start
from tests.localmesh.apiserver.conftest import Client

GROUP, VERSION = "metrics.example.org", "v1alpha1"
BASE = f"/apis/{GROUP}/{VERSION}"
SERVICE = "numbers"
NAME = f"{VERSION}.{GROUP}"
ROWS = [
    {
        "name": "pods",
        "singularName": "",
        "namespaced": True,
        "kind": "Number",
        "verbs": ["get", "list"],
        "shortNames": ["np"],
    },
    {"name": "pods/edges", "singularName": "", "namespaced": True, "kind": "Number", "verbs": ["get"]},
]


@dataclass
class Extension:
    """An extension API server on 127.0.0.1 that trusts the request-header CA alone."""

    port: int = 0
    bundle: str = ""
    seen: list[web.BaseRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    """Lets a stream end."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        if request.path == BASE:
            return web.json_response(
                {
                    "kind": "APIResourceList",
                    "apiVersion": "v1",
                    "groupVersion": f"{GROUP}/{VERSION}",
                    "resources": ROWS,
                }
            )
        if request.headers.get("Upgrade"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str((await socket.receive()).data[::-1])
            await socket.close()
            return socket
        if request.path == "/openapi/v3":
            url = f"/openapi/v3{BASE}?hash=1"
            return web.json_response({"paths": {BASE.strip("/"): {"serverRelativeURL": url}}})
        if request.path == f"/openapi/v3{BASE}":
            return web.json_response({"openapi": "3.0.0", "info": {"title": "numbers", "version": "1"}})
        if "watch" in request.query:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(b'{"type":"ADDED","object":{}}\n')
            await self.more.wait()
            await response.write(b'{"type":"MODIFIED","object":{}}\n')
            return response
        self.bodies.append(await request.read())
        if request.path.endswith("/teapot"):
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 418}
            return web.json_response(status, status=418, headers={"X-Kept": "1"})
        return web.json_response({"kind": "NumberList", "apiVersion": f"{GROUP}/{VERSION}", "items": []})


@asynccontextmanager
async def extension(
    server: ApiServer, directory: Path, name: str = f"{SERVICE}.default.svc"
) -> AsyncIterator[Extension]:
    authority = pki.load_or_create_authority(directory / "extension")
    leaf = pki.issue_serving(authority, (name,))
    pem = directory / "extension.pem"
    pem.write_bytes(leaf.certificate + leaf.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    published = await server.api.get("configmaps", "kube-system", "extension-apiserver-authentication")
    context.load_verify_locations(cadata=published["data"]["requestheader-client-ca-file"])
    context.verify_mode = ssl.CERT_REQUIRED
    there = Extension(bundle=base64.b64encode(authority.certificate).decode())
    runner = web.ServerRunner(web.Server(there.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    there.port = runner.addresses[0][1]
    try:
        yield there
    finally:
        there.more.set()
        await runner.cleanup()


def api_service(bundle: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "version": VERSION,
            "service": {"namespace": "default", "name": SERVICE},
            "caBundle": bundle,
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            **spec,
        },
    }


async def publish(server: ApiServer, port: int) -> None:
    """The Service without selector and its endpoint on this machine."""
    api = server.api
    await api.create(
        "services", "default", {"metadata": {"name": SERVICE}, "spec": {"ports": [{"port": 443}]}}
    )
    await point_to(server, port)


async def point_to(server: ApiServer, port: int) -> None:
    subsets = [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": port}]}] if port else []
    if server.api.peek("endpoints", "default", SERVICE) is None:
        await server.api.create("endpoints", "default", {"metadata": {"name": SERVICE}, "subsets": subsets})
    else:
        await server.api.patch("endpoints", "default", SERVICE, {"subsets": subsets})


def condition(server: ApiServer, name: str = NAME) -> dict[str, Any]:
    obj = server.api.peek("apiservices.apiregistration.k8s.io", None, name) or {}
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "Available"), {})


async def until(found: Callable[[], bool], what: Callable[[], object]) -> None:
    limit = asyncio.get_running_loop().time() + 15
    while not found():
        assert asyncio.get_running_loop().time() < limit, what()
        await asyncio.sleep(0.01)


async def available(server: ApiServer, state: str, reason: str) -> dict[str, Any]:
    await until(
        lambda: (condition(server).get("status"), condition(server).get("reason")) == (state, reason),
        lambda: condition(server),
    )
    return condition(server)


async def registered(server: ApiServer, there: Extension, **spec: Any) -> None:
    await publish(server, there.port)
    await server.api.create("apiservices.apiregistration.k8s.io", None, api_service(there.bundle, **spec))


async def test_requests_are_passed_on_with_the_callers_name(
    server: ApiServer, call: Client, tmp_path: Path
) -> None:
    async with extension(server, tmp_path) as there:
        await registered(server, there)
        await available(server, "True", "Passed")
        lies = {"X-Remote-User": "root", "X-Remote-Group": "system:masters", "X-Remote-Extra-A": "b"}
        answer = await call("GET", f"{BASE}/namespaces/a%2Fb/pods?labelSelector=x%3Dy", **lies)
        assert answer.status == 200
        assert answer.body["kind"] == "NumberList"
        passed = there.seen[-1]
        assert passed.raw_path == f"{BASE}/namespaces/a%2Fb/pods?labelSelector=x%3Dy"
        assert passed.headers.getall("X-Remote-User") == ["kubernetes-admin"]
        assert passed.headers.getall("X-Remote-Group") == ["system:masters", "system:authenticated"]
        assert "X-Remote-Extra-A" not in passed.headers
        sent = await call("POST", f"{BASE}/namespaces/a/pods", {"kind": "Number"})
        assert sent.status == 200
        assert json.loads(there.bodies[-1]) == {"kind": "Number"}
        odd = await call("DELETE", f"{BASE}/namespaces/a/pods/teapot")
        assert (odd.status, odd.headers["X-Kept"], odd.body["code"]) == (418, "1", 418)


async def test_tokens_do_not_leave_the_server_and_rights_are_checked_first(
    server: ApiServer, anonymous: Client, tmp_path: Path
) -> None:
    async with extension(server, tmp_path) as there:
        await registered(server, there)
        await available(server, "True", "Passed")
        await server.api.create("serviceaccounts", "default", {"metadata": {"name": "default"}})
        token = server.issue_token("default", "default", None, 600)
        anonymous.headers["Authorization"] = f"Bearer {token}"
        before = len(there.seen)
        refused = await anonymous("GET", f"{BASE}/namespaces/default/pods")
        assert refused.status == 403
        assert f'cannot list resource "pods" in API group "{GROUP}"' in refused.body["message"]
        assert [one.path for one in there.seen[before:] if one.path.endswith("/pods")] == []
        rule = {"apiGroups": [GROUP], "resources": ["pods"], "verbs": ["list"]}
        await server.api.create(
            "roles.rbac.authorization.k8s.io", "default", {"metadata": {"name": "r"}, "rules": [rule]}
        )
        await server.api.create(
            "rolebindings.rbac.authorization.k8s.io",
            "default",
            {
                "metadata": {"name": "r"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
            },
        )
        assert (await anonymous("GET", f"{BASE}/namespaces/default/pods")).status == 200
        passed = there.seen[-1].headers
        assert "Authorization" not in passed
        assert passed["X-Remote-User"] == "system:serviceaccount:default:default"
        assert passed["X-Remote-Uid"]
        assert "system:serviceaccounts" in passed.getall("X-Remote-Group")


async def test_a_watch_is_streamed_as_it_comes(server: ApiServer, call: Client, tmp_path: Path) -> None:
    async with extension(server, tmp_path) as there:
        await registered(server, there)
        await available(server, "True", "Passed")
        url = f"{call.url}{BASE}/namespaces/a/pods?watch=true"
        async with call.session.get(url) as stream:
            assert await stream.content.readline() == b'{"type":"ADDED","object":{}}\n'
            there.more.set()
            assert await stream.content.readline() == b'{"type":"MODIFIED","object":{}}\n'
            assert await stream.content.read() == b""


async def test_an_upgraded_connection_passes(server: ApiServer, call: Client, tmp_path: Path) -> None:
    async with extension(server, tmp_path) as there:
        await registered(server, there)
        await available(server, "True", "Passed")
        lies = {"X-Remote-User": "root", "Authorization": "Bearer secret"}
        async with call.session.ws_connect(f"{call.url}{BASE}/namespaces/a/pods", headers=lies) as socket:
            await socket.send_str("abc")
            assert (await socket.receive(timeout=10)).data == "cba"
        passed = there.seen[-1].headers
        assert passed.getall("X-Remote-User") == ["kubernetes-admin"]
        assert "Authorization" not in passed


async def test_discovery_and_openapi_are_merged(server: ApiServer, call: Client, tmp_path: Path) -> None:
    async with extension(server, tmp_path) as there:
        await registered(server, there)
        await available(server, "True", "Passed")
        groups = {one["name"]: one for one in (await call("GET", "/apis")).body["groups"]}
        assert groups[GROUP]["preferredVersion"] == {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
        assert "apps" in groups
        assert (await call("GET", f"/apis/{GROUP}")).body["kind"] == "APIGroup"
        assert (await call("GET", BASE)).body["resources"] == ROWS
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        items = (await call("GET", "/apis", accept=accept)).body["items"]
        entry = next(one for one in items if one["metadata"]["name"] == GROUP)
        (version,) = entry["versions"]
        assert (version["version"], version["freshness"]) == (VERSION, "Current")
        (row,) = version["resources"]
        assert (row["resource"], row["scope"], row["shortNames"]) == ("pods", "Namespaced", ["np"])
        assert [one["subresource"] for one in row["subresources"]] == ["edges"]
        index = (await call("GET", "/openapi/v3")).body["paths"]
        assert (await call("GET", index[BASE.strip("/")]["serverRelativeURL"])).body["openapi"] == "3.0.0"
        assert (await call("GET", "/apis/unknown.example.org")).status == 404


async def test_conditions_say_what_is_missing_and_503_answers_meanwhile(
    server: ApiServer, call: Client, tmp_path: Path
) -> None:
    async with extension(server, tmp_path) as there:
        await server.api.create("apiservices.apiregistration.k8s.io", None, api_service(there.bundle))
        found = await available(server, "False", "ServiceNotFound")
        assert found["message"] == 'service/numbers in "default" is not present'
        assert (await call("GET", BASE)).status == 503
        await publish(server, 0)
        await available(server, "False", "MissingEndpoints")
        await point_to(server, there.port)
        since = (await available(server, "True", "Passed"))["lastTransitionTime"]
        assert (await call("GET", BASE)).status == 200
        assert condition(server)["lastTransitionTime"] == since
        await server.api.patch("services", "default", SERVICE, {"spec": {"ports": [{"port": 444}]}})
        await available(server, "False", "ServicePortError")
    answer = await call("GET", f"{BASE}/namespaces/a/pods")
    assert (answer.status, answer.text) == (503, "service unavailable\n")


async def test_a_server_that_went_away_is_503_at_once(
    server: ApiServer, call: Client, tmp_path: Path
) -> None:
    async with extension(server, tmp_path) as there:
        await registered(server, there)
        await available(server, "True", "Passed")
    answer = await call("GET", f"{BASE}/namespaces/a/pods")
    assert answer.status == 503
    assert "error trying to reach service" in answer.text
    await available(server, "False", "FailedDiscoveryCheck")
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    items = (await call("GET", "/apis", accept=accept)).body["items"]
    entry = next(one for one in items if one["metadata"]["name"] == GROUP)
    assert entry["versions"][0]["freshness"] == "Stale"


@pytest.mark.parametrize("trouble", ["bundle", "name"])
async def test_a_certificate_that_is_not_the_services_is_refused(
    server: ApiServer, call: Client, tmp_path: Path, trouble: str
) -> None:
    name = "other.default.svc" if trouble == "name" else f"{SERVICE}.default.svc"
    async with extension(server, tmp_path, name) as there:
        if trouble == "bundle":
            other = pki.load_or_create_authority(tmp_path / "other", common_name="other")
            there.bundle = base64.b64encode(other.certificate).decode()
        await registered(server, there)
        found = await available(server, "False", "FailedDiscoveryCheck")
        assert "certificate verify failed" in found["message"]
        assert (await call("GET", BASE)).status == 503
        assert there.seen == []
        insecure = {"caBundle": None, "insecureSkipTLSVerify": True}
        await server.api.patch("apiservices.apiregistration.k8s.io", None, NAME, {"spec": insecure})
        await available(server, "True", "Passed")


async def test_local_groups_have_apiservices_that_come_and_go(server: ApiServer, tmp_path: Path) -> None:
    from smi.api.crds import crds

    await until(lambda: condition(server, "v1.apps").get("reason") == "Local", lambda: "v1.apps")
    assert condition(server, "v1.")["status"] == "True"
    definition = next(one for one in crds() if one["spec"]["group"] == "split.smi-spec.io")
    api, key = server.api, "customresourcedefinitions.apiextensions.k8s.io"
    await api.create(key, None, definition)
    await until(lambda: bool(condition(server, "v1alpha4.split.smi-spec.io")), lambda: "no APIService")
    await api.delete(key, None, definition["metadata"]["name"])
    await until(lambda: not condition(server, "v1alpha4.split.smi-spec.io"), lambda: "it stays")


async def test_the_front_proxy_authority_survives_a_restart(tmp_path: Path) -> None:
    async def published() -> str:
        server = await start(ApiSettings(tmp_path / "state"))
        try:
            found = await server.api.get("configmaps", "kube-system", "extension-apiserver-authentication")
            assert json.loads(found["data"]["requestheader-allowed-names"]) == ["front-proxy-client"]
            assert found["data"]["client-ca-file"] == server.authority_pem.decode()
            return str(found["data"]["requestheader-client-ca-file"])
        finally:
            await server.stop()

    first = await published()
    assert first == await published()
    assert (tmp_path / "state" / "pki" / "front-proxy-ca.key").stat().st_mode & 0o777 == 0o600


async def test_what_is_wrong_in_an_apiservice_is_refused(call: Client) -> None:
    path = "/apis/apiregistration.k8s.io/v1/apiservices"
    obj = api_service("", versionPriority=0, groupPriorityMinimum=20001, insecureSkipTLSVerify=True)
    obj["metadata"]["name"] = "v1.wrong"
    answer = await call("POST", path, obj)
    assert answer.status == 422
    fields = {one["field"] for one in answer.body["details"]["causes"]}
    assert fields == {"metadata.name", "spec.versionPriority", "spec.groupPriorityMinimum"}
    both = api_service(base64.b64encode(b"x").decode(), insecureSkipTLSVerify=True)
    assert [one.field for one in validate(both, None)] == ["spec.insecureSkipTLSVerify"]
    local = {"metadata": {"name": "v1.a"}, "spec": {**both["spec"], "group": "a", "version": "v1"}}
    del local["spec"]["service"]
    assert {one.field for one in validate(local, None)} == {"spec.caBundle", "spec.insecureSkipTLSVerify"}


def test_headers_for_an_extension_server() -> None:
    user = User("jo", "u1", ("a", "b"), {"authentication.kubernetes.io/pod-name": ("p",)})
    given = [
        ("Accept", "x"),
        ("Authorization", "Bearer t"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("x-remote-group", "system:masters"),
        ("Impersonate-User", "root"),
    ]
    assert forwarded(given, user, "10.0.0.1") == [
        ("Accept", "x"),
        ("X-Remote-User", "jo"),
        ("X-Remote-Uid", "u1"),
        ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"),
        ("X-Remote-Extra-authentication.kubernetes.io%2Fpod-name", "p"),
        ("X-Forwarded-For", "10.0.0.1"),
    ]
    answered = {"Content-Type": "a", "Transfer-Encoding": "chunked", "Connection": "x-a", "X-A": "1"}
    assert returned(answered) == [("Content-Type", "a")]


def test_an_equal_condition_is_not_written_again() -> None:
    verdict = Verdict(True, "Passed", "all checks passed")
    obj: dict[str, Any] = {"metadata": {"name": "x"}}
    status = with_condition(obj, verdict, "t1")
    assert status is not None
    obj["status"] = status
    assert with_condition(obj, verdict, "t2") is None
    other = with_condition(obj, Verdict(True, "Passed", "still"), "t2")
    assert other is not None
    assert other["conditions"][0]["lastTransitionTime"] == "t1"
    gone = with_condition(obj, Verdict(False, "MissingEndpoints", ""), "t2")
    assert gone is not None
    assert gone["conditions"][0]["lastTransitionTime"] == "t2"
