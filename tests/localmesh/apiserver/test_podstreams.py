"""pods/exec and its kin over the API: what is refused, who may, and HTTP through pods and services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from aiohttp import WSMsgType, web
from multidict import MultiDict

from localmesh.apiserver.errors import ApiError
from localmesh.apiserver.podstreams import read_log_options
from localmesh.apiserver.server import ApiServer
from localmesh.apiserver.serviceproxy import ProxyName, below_proxy
from localmesh.streams.contract import Console, LogOptions, Place, Wanted
from localmesh.streams.outcome import Outcome
from tests.localmesh.apiserver.conftest import Client
from tests.localmesh.cluster_kit import container, pod

PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Protocol": "v4.channel.k8s.io",
}


class Node:
    """Runs nothing: says where it was asked to run what."""

    def __init__(self) -> None:
        self.logged: list[tuple[Place, LogOptions]] = []
        self.left = asyncio.Event()

    def require_running(self, place: Place) -> None:
        if place.container == "idle":
            raise LookupError('container not found ("idle")')

    async def execute_in(
        self, place: Place, argv: Sequence[str], wanted: Wanted, console: Console
    ) -> Outcome:
        if argv[0] == "fail":
            raise RuntimeError("a bug")
        if argv[0] == "wait":
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        await console.write("stdout", f"{place.container}: {' '.join(argv)}".encode())
        return Outcome()

    async def attach_to(self, place: Place, wanted: Wanted, console: Console) -> Outcome:
        await console.write("stdout", b"attached")
        return Outcome()

    async def dial(
        self, namespace: str, pod: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise LookupError("nothing runs here")

    async def logs(self, place: Place, options: LogOptions) -> AsyncIterator[bytes]:
        self.logged.append((place, options))

        async def chunks() -> AsyncIterator[bytes]:
            yield b"a line\n"

        return chunks()


@pytest.fixture
async def node(server: ApiServer) -> Node:
    """Two pods: `one` with a container, `two` with several."""
    made = Node()
    server.set_node(made, made.logs)
    await server.api.create("serviceaccounts", "default", {"metadata": {"name": "default"}})
    several = pod("two", containers=[container("a"), container("idle")], initContainers=[container("i")])
    for obj in (pod("one"), several, pod("unbound")):
        await server.api.create("pods", "default", obj)
    for name in ("one", "two"):
        await server.api.patch("pods", "default", name, {"spec": {"nodeName": "local"}})
        await server.api.patch("pods", "default", name, {"status": {"phase": "Running"}}, "status")
    return made


async def said(call: Client, path: str, protocol: str = "v4.channel.k8s.io") -> dict[int, bytes]:
    """What a WebSocket to `path` brings, by channel."""
    found: dict[int, bytes] = {}
    async with call.session.ws_connect(
        call.url + path, protocols=(protocol,), headers=call.headers
    ) as opened:
        async for message in opened:
            found[message.data[0]] = found.get(message.data[0], b"") + message.data[1:]
    return found


async def test_a_command_of_several_words_in_the_right_container(call: Client, node: Node) -> None:
    found = await said(call, f"{PODS}/one/exec?command=echo&command=a+b&stdout=true")
    assert found[1] == b"c: echo a b"
    assert b'"Success"' in found[3]
    assert (await said(call, f"{PODS}/two/exec?command=x&container=i&stdout=1"))[1] == b"i: x"
    assert (await said(call, f"{PODS}/one/attach?stdout=true"))[1] == b"attached"


async def test_a_failure_of_the_node_is_an_outcome(call: Client, node: Node) -> None:
    found = await said(call, f"{PODS}/one/exec?command=fail&stdout=true")
    assert b"RuntimeError: a bug" in found[3]


REFUSALS = [
    ("one/exec?stdout=true", 400, "at least one command"),
    ("one/exec?command=x", 400, "at least 1 of stdin, stdout, stderr"),
    ("one/exec?command=x&stdout=true&container=z", 400, "container z is not valid for pod one"),
    ("two/exec?command=x&stdout=true", 400, "choose one of: [a idle] or one of the init containers: [i]"),
    ("two/exec?command=x&stdout=true&container=idle", 404, 'container not found ("idle")'),
    ("unbound/exec?command=x&stdout=true", 400, "does not have a host assigned"),
    ("none/exec?command=x&stdout=true", 404, 'pods "none" not found'),
    ("unbound/portforward?ports=80", 400, "does not have a host assigned"),
    ("one/portforward?ports=x", 400, 'unable to parse "x" as a port'),
    ("one/portforward", 400, "is required"),
]


async def test_refusals_are_a_status(call: Client, node: Node) -> None:
    for path, code, why in REFUSALS:
        answer = await call("GET", f"{PODS}/{path}", **UPGRADE)
        assert answer.body["kind"] == "Status", path
        assert (answer.status, answer.body["code"]) == (code, code), path
        assert why in answer.body["message"], path


async def test_requests_that_ask_for_no_stream_we_speak(call: Client, node: Node) -> None:
    path = f"{PODS}/one/exec?command=x&stdout=true"
    assert "Upgrade request required" in (await call("GET", path)).body["message"]
    assert (await call("PUT", path)).status == 405
    other = await call("GET", path, **UPGRADE | {"Sec-WebSocket-Protocol": "v9.channel.k8s.io"})
    assert (other.status, "negotiate" in other.body["message"]) == (400, True)
    spdy = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v9.channel.k8s.io"}
    assert (await call("POST", path, **spdy)).status == 403
    assert (await call("POST", path, **UPGRADE)).status == 400
    keyless = await call("GET", path, **UPGRADE | {"Sec-WebSocket-Key": "short"})
    assert (keyless.status, keyless.body["kind"]) == (400, "Status")


async def test_rights_are_those_of_the_verb(
    server: ApiServer, call: Client, anonymous: Client, node: Node
) -> None:
    anonymous.headers["Authorization"] = f"Bearer {server.issue_token('default', 'default', None, 600)}"
    path = f"{PODS}/one/exec?command=x&stdout=true"
    refused = await anonymous("GET", path, **UPGRADE)
    assert refused.status == 403
    assert 'cannot get resource "pods/exec"' in refused.body["message"]
    spdy = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    assert 'cannot create resource "pods/exec"' in (await anonymous("POST", path, **spdy)).body["message"]
    await server.api.create(
        "rolebindings.rbac.authorization.k8s.io",
        "default",
        {
            "metadata": {"name": "edit"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
        },
    )
    assert (await said(anonymous, path))[1] == b"c: x"


async def test_the_default_container_may_be_annotated(server: ApiServer, call: Client, node: Node) -> None:
    annotation = {"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": "a"}}}
    await server.api.patch("pods", "default", "two", annotation)
    assert (await said(call, f"{PODS}/two/exec?command=x&stdout=true"))[1] == b"a: x"
    assert (await call("GET", f"{PODS}/two/log?tailLines=3&previous=true")).text == "a line\n"
    place, options = node.logged[-1]
    assert place == Place("default", "two", "a")
    assert options == LogOptions(previous=True, tail=3)


async def test_open_streams_do_not_hold_up_the_end(server: ApiServer, call: Client, node: Node) -> None:
    async with call.session.ws_connect(
        f"{call.url}{PODS}/one/exec?command=wait&stdout=true", protocols=("v4.channel.k8s.io",)
    ) as opened:
        await opened.receive()
        assert server._runner is not None
        server._runner._shutdown_timeout = 60  # what a request that is not told would be waited for
        async with asyncio.timeout(20):
            await server.stop()
        assert node.left.is_set()


def test_log_options_are_read_as_upstream_does() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    query = {
        "follow": "true",
        "timestamps": "1",
        "sinceSeconds": "65",
        "limitBytes": "10",
        "stream": "Stderr",
    }
    assert read_log_options(MultiDict(query), "p", now) == LogOptions(
        follow=True,
        timestamps=True,
        since=datetime(2026, 1, 2, 3, 3, 0, tzinfo=UTC),
        limit_bytes=10,
        output="Stderr",
    )
    stamped = read_log_options(MultiDict({"sinceTime": "2026-01-01T10:00:00+02:00"}), "p", now)
    assert stamped.since == datetime(2026, 1, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "code", "why"),
    [
        ({"tailLines": "-1"}, 422, 'PodLogOptions "p" is invalid: tailLines: Invalid value: -1'),
        ({"tailLines": "many"}, 400, "not a whole number"),
        ({"limitBytes": "0"}, 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ({"sinceSeconds": "0"}, 422, "sinceSeconds: Invalid value: 0"),
        ({"sinceTime": "yesterday"}, 400, "RFC 3339"),
        ({"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"}, 422, "at most one of"),
        ({"stream": "All of them"}, 422, "Unsupported value"),
        ({"stream": "Stdout", "tailLines": "1"}, 422, "mutually exclusive"),
    ],
)
def test_log_options_that_are_refused(query: dict[str, str], code: int, why: str) -> None:
    with pytest.raises(ApiError) as refusal:
        read_log_options(MultiDict(query), "p", datetime(2026, 1, 1, tzinfo=UTC))
    assert refusal.value.code == code
    assert why in refusal.value.message


# --- proxy -----------------------------------------------------------------------------------------------


@dataclass
class Backend:
    port: int
    seen: list[web.BaseRequest]
    """What it was asked."""


@asynccontextmanager
async def backend(server: ApiServer) -> AsyncIterator[Backend]:
    """An HTTP server that is pod `one` and Service `web`."""
    seen: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request)
        if request.headers.get("Upgrade"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str((await socket.receive()).data[::-1])
            await socket.close()
            return socket
        if request.path == "/moved":
            return web.Response(status=302, headers={"Location": "/there?x=1"})
        return web.Response(body=await request.read() or request.raw_path.encode(), headers={"X-Pod": "one"})

    runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    ports = [{"name": "http", "port": 80, "targetPort": port}, {"name": "none", "port": 81}]
    await server.api.patch("pods", "default", "one", {"status": {"podIP": "127.0.0.1"}}, "status")
    await server.api.create("services", "default", {"metadata": {"name": "web"}, "spec": {"ports": ports}})
    subset = {"addresses": [{"ip": "127.0.0.1"}], "ports": [{"name": "http", "port": port}]}
    await server.api.create("endpoints", "default", {"metadata": {"name": "web"}, "subsets": [subset]})
    try:
        yield Backend(port, seen)
    finally:
        await runner.cleanup()


async def test_http_through_pods_and_services(server: ApiServer, call: Client, node: Node) -> None:
    async with backend(server) as there:
        one, seen = f"{PODS}/one:{there.port}/proxy", there.seen
        answer = await call("GET", f"{one}/a%2Fb?watch=true&x=%20", Authorization="Bearer secret")
        assert (answer.status, answer.text) == (200, "/a%2Fb?watch=true&x=%20")
        assert answer.headers["X-Pod"] == "one"
        assert "Authorization" not in seen[-1].headers
        assert seen[-1].headers["X-Forwarded-Uri"] == f"{one}/a%2Fb"
        for name in ("web:http", "web:80", "http:web:80"):
            sent = await call("POST", f"{SERVICES}/{name}/proxy/x", "body")
            assert (sent.status, sent.text) == (200, "body")
        async with call.session.get(f"{call.url}{SERVICES}/web:80/proxy?y", allow_redirects=False) as moved:
            assert moved.status == 301
            assert moved.headers["Location"] == f"{SERVICES}/web:80/proxy/?y"
        async with call.session.get(f"{call.url}{one}/moved", allow_redirects=False) as moved:
            assert moved.headers["Location"] == f"{one}/there?x=1"
        async with call.session.ws_connect(f"{call.url}{one}/socket") as socket:
            await socket.send_str("abc")
            message = await socket.receive(timeout=10)
            assert (message.type, message.data) == (WSMsgType.TEXT, "cba")


UNREACHABLE = [
    (f"{PODS}/one:1/proxy/", 503, "error trying to reach service"),
    (f"{PODS}/two/proxy/", 503, "has no address yet"),
    (f"{PODS}/none/proxy/", 404, 'pods "none" not found'),
    (f"{PODS}/one:x/proxy/", 400, "no port"),
    (f"{PODS}/ftp:one:80/proxy/", 400, "invalid proxy request"),
    (f"{SERVICES}/none:80/proxy/", 404, 'services "none" not found'),
    (f"{SERVICES}/web:none/proxy/", 503, "no endpoints available"),
    (f"{SERVICES}/web:z/proxy/", 400, "choose one of: ['http', 'none']"),
    (f"{SERVICES}/web:82/proxy/", 503, "has no port 82"),
]


async def test_what_cannot_be_reached_is_a_status(server: ApiServer, call: Client, node: Node) -> None:
    async with backend(server):
        for path, code, why in UNREACHABLE:
            answer = await call("GET", path)
            assert (answer.status, answer.body["code"]) == (code, code), path
            assert why in answer.body["message"], path


async def test_this_machines_own_loopback_is_not_reached_by_writing_endpoints(
    server: ApiServer, call: Client, node: Node
) -> None:
    async with backend(server) as there:
        await server.api.patch("pods", "default", "one", {"status": {"podIP": "127.0.0.2"}}, "status")
        answer = await call("GET", f"{SERVICES}/web:http/proxy/")
    assert (answer.status, there.seen) == (400, [])
    assert "not proxied" in answer.body["message"]


async def test_rights_to_proxy_are_of_the_method(server: ApiServer, anonymous: Client, node: Node) -> None:
    anonymous.headers["Authorization"] = f"Bearer {server.issue_token('default', 'default', None, 600)}"
    for method, verb in (("GET", "get"), ("POST", "create"), ("DELETE", "delete")):
        answer = await anonymous(method, f"{SERVICES}/web:80/proxy/x?watch=true")
        assert (answer.status, f'cannot {verb} resource "services/proxy"' in answer.body["message"]) == (
            403,
            True,
        )


def test_names_of_proxied_things() -> None:
    assert ProxyName.parse("a") == ProxyName("http", "a", "")
    assert ProxyName.parse("a:80") == ProxyName("http", "a", "80")
    assert ProxyName.parse("https:a:") == ProxyName("https", "a", "")
    for odd in ("", ":80", "http::80", "a:b:c:d", "ftp:a:1"):
        with pytest.raises(ApiError):
            ProxyName.parse(odd)
    assert below_proxy("/api/v1/namespaces/n/pods/p/proxy") is None
    assert below_proxy("/api/v1/namespaces/n/pods/p/proxy/") == "/"
    assert below_proxy("/api/v1/namespaces/n/pods/p/proxy/a%2F/b") == "/a%2F/b"
