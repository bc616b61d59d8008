"""The test application over real sockets: it answers, it calls, and it says why a call failed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest

from conformance.app.caller import Call, Failure, Report, Result, resolve_url, send, summarise
from conformance.app.control import MAX_FLOWS, read_call, read_flows, read_talk
from conformance.app.datagram import Flows
from conformance.app.datagram import exchange as flows
from conformance.app.echo import parse_wish
from conformance.app.http1 import Request, Response
from conformance.app.main import Running, start
from conformance.app.settings import Proxy, Settings, SettingsError
from conformance.app.talk import Talk, talk

LOCAL = Settings(name="api", pod="api-1", bind="127.0.0.1", http_port=0, tcp_port=0, control_port=0)


@contextlib.asynccontextmanager
async def running(settings: Settings = LOCAL) -> AsyncIterator[Running]:
    app = await start(settings)
    try:
        yield app
    finally:
        await app.stop(1.0)


def http_port(app: Running) -> int:
    assert app.http is not None
    return app.http.port


def control_port(app: Running) -> int:
    assert app.control is not None
    return app.control.port


def tcp_port(app: Running) -> int:
    assert app.tcp is not None
    return app.tcp.port


async def exchange(port: int, data: bytes) -> bytes:
    """Everything that comes back for raw `data` until the peer closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = await asyncio.wait_for(reader.read(-1), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def order(app: Running, path: str, **fields: object) -> dict[str, object]:
    """Send an order to the control port as the demo and the tests do."""
    body = json.dumps(fields)
    report = await send(Call(f"http://127.0.0.1:{control_port(app)}{path}", "POST", body=body), None)
    answer: dict[str, object] = json.loads(report.results[0].body)
    return answer


async def test_answers_who_and_what() -> None:
    async with running() as app:
        call = Call(f"http://127.0.0.1:{http_port(app)}/items?x=1", "PUT", (("x-a", "1"),), "hello")
        (result,) = (await send(call, None)).results
    assert result.status == 200
    assert result.server == "api"
    account = json.loads(result.body)
    assert account["method"] == "PUT"
    assert account["target"] == "/items?x=1"
    assert account["body"] == "hello"
    assert ["x-a", "1"] in account["headers"]


@pytest.mark.parametrize(
    ("query", "status", "size"),
    [
        ("status=503", 503, None),
        ("bytes=1000", 200, 1000),
        ("bytes=1000&chunks=7", 200, 1000),
        ("chunks=1", 200, 0),
    ],
)
async def test_answers_as_asked(query: str, status: int, size: int | None) -> None:
    async with running() as app:
        (result,) = (await send(Call(f"http://127.0.0.1:{http_port(app)}/?{query}"), None)).results
    assert result.status == status
    if size is not None:
        assert result.body.partition(b"\n")[2] == b"x" * size


async def test_wishes_that_make_no_sense_are_answered_400() -> None:
    async with running() as app:
        (result,) = (await send(Call(f"http://127.0.0.1:{http_port(app)}/?status=9"), None)).results
    assert result.status == 400
    assert b"status='9'" in result.body


@pytest.mark.parametrize("query", ["delay=-1", "delay=x", "delay=nan", "bytes=-1", "chunks=1.5"])
def test_bad_wishes(query: str) -> None:
    with pytest.raises(ValueError, match=query.partition("=")[0]):
        parse_wish(query)


async def test_trailers_expect_continue_and_head() -> None:
    async with running() as app:
        port = http_port(app)
        trailer = await exchange(port, b"GET /?trailer=1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        waiting = await exchange(
            port,
            b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n"
            b"transfer-encoding: chunked\r\n\r\n2;ext=1\r\nhi\r\n0\r\nx-t: 1\r\n\r\n",
        )
        head = await exchange(port, b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert trailer.endswith(b"0\r\nx-trailer: api\r\n\r\n")
    assert waiting.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b'"body": "hi"' in waiting
    assert head.endswith(b"\r\n\r\n")
    assert b"content-length: " in head


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running() as app:
        requests = b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(3))
        answer = await exchange(
            http_port(app), requests + b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
    assert [answer.index(b'"target": "/%b"' % name) for name in (b"0", b"1", b"2", b"last")] == sorted(
        answer.index(b'"target": "/%b"' % name) for name in (b"0", b"1", b"2", b"last")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_answered_400(data: bytes) -> None:
    async with running() as app:
        assert (await exchange(http_port(app), data)).startswith(b"HTTP/1.1 400 ")


async def test_an_upgrade_becomes_a_tunnel() -> None:
    async with running() as app:
        reader, writer = await asyncio.open_connection("127.0.0.1", http_port(app))
        writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        writer.write(b"\x00\xffraw")
        assert await reader.readexactly(5) == b"\x00\xffraw"
        writer.close()
        await writer.wait_closed()


async def test_counts_shares_and_keeps_connections() -> None:
    async with running() as app:
        answer = await order(
            app, "/call", url=f"http://127.0.0.1:{http_port(app)}/", count=250, concurrency=5
        )
        seen = await send(Call(f"http://127.0.0.1:{control_port(app)}/seen"), None)
    summary = answer["summary"]
    assert isinstance(summary, dict)
    assert summary["statuses"] == {"200": 250}
    assert summary["servers"] == {"api": 250}
    assert summary["errors"] == {}
    assert "results" not in answer
    assert json.loads(seen.results[0].body)["requests"] == 250


async def test_calls_for_a_time() -> None:
    async with running() as app:
        report = await send(Call(f"http://127.0.0.1:{http_port(app)}/", seconds=0.1, concurrency=2), None)
    assert len(report.results) > 2
    assert {result.status for result in report.results} == {200}


async def test_a_stale_connection_is_replaced_once() -> None:
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request per connection, promising to keep it open, then close it."""
        nonlocal served
        served += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report = await send(Call(f"http://127.0.0.1:{port}/", count=3, interval=0.02), None)
    assert [result.status for result in report.results] == [200, 200, 200]
    assert report.reconnects == 2
    assert served == 3


async def _reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def _babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"SSH-2.0-x\r\n\r\n")
    await writer.drain()
    writer.close()


async def _ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    writer.close()


@pytest.mark.parametrize(
    ("server", "failure"),
    [
        (_reset, Failure.RESET),
        (_hang_up, Failure.CLOSED),
        (_babble, Failure.PROTOCOL),
        (_ignore, Failure.TIMEOUT),
    ],
)
async def test_failures_have_names(server: object, failure: Failure) -> None:
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listener:  # type: ignore[arg-type]  # typeshed wants a narrower callback
        port = listener.sockets[0].getsockname()[1]
        report = await send(Call(f"http://127.0.0.1:{port}/", timeout=0.3), None)
    assert report.results[0].error is failure
    assert report.results[0].status is None


async def test_a_refused_connection_has_a_name() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: connecting is refused
        report = await send(Call(f"http://127.0.0.1:{held.getsockname()[1]}/"), None)
        heard = await talk(Talk("127.0.0.1", held.getsockname()[1]), None)
    assert report.results[0].error is Failure.REFUSED
    assert heard[0].error is Failure.REFUSED


async def test_tcp_lines_and_greeting() -> None:
    async with running(replace(LOCAL, name="db", greet=True)) as app:
        answer = await order(
            app, "/tcp", host="127.0.0.1", port=tcp_port(app), send=["a", "b"], greeting=True, count=2
        )
    results = answer["results"]
    assert isinstance(results, list)
    assert [result["received"] for result in results] == [["db ready", "db a", "db b"]] * 2
    assert results[0]["error"] is None


async def test_a_tcp_reset_is_told_from_an_orderly_end() -> None:
    async with await asyncio.start_server(_reset, "127.0.0.1", 0) as listener:
        (heard,) = await talk(Talk("127.0.0.1", listener.sockets[0].getsockname()[1]), None)
        assert heard.error is Failure.RESET
    async with running() as app:
        (heard,) = await talk(Talk("127.0.0.1", tcp_port(app), greeting=True, timeout=0.1), None)
        assert heard.error is Failure.TIMEOUT


async def test_through_an_explicit_proxy() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        if heads[-1].startswith(b"CONNECT db:"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.write(b"tunnelled " + await reader.readline())
        elif heads[-1].startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nx-served-by: p\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        proxy = Proxy("127.0.0.1", listener.sockets[0].getsockname()[1], ("localhost",))
        report = await send(Call("http://api.shop:8080/items?a=1"), proxy)
        (heard,) = await talk(Talk("db", 5432), proxy)
        (refused,) = await talk(Talk("other", 1), proxy)
    assert report.results[0].server == "p"
    assert heads[0].startswith(b"GET http://api.shop:8080/items?a=1 HTTP/1.1\r\nhost: api.shop:8080\r\n")
    assert heard.received == ("tunnelled ping",)
    assert refused.error is Failure.PROXY
    assert "502" in refused.detail


@pytest.mark.parametrize("http", ["http/2", "grpc"])
async def test_http2_goes_through_a_tunnel(http: str) -> None:
    """It has no absolute form of a target, so the proxy is asked to CONNECT and the target is a path."""
    asked: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.partition(b"\r\n")[0])
        behind, before = await asyncio.open_connection("127.0.0.1", http_port(app))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(copy(reader, before))
            group.create_task(copy(behind, writer))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            target.write(piece)
        target.close()

    async with running() as app, await asyncio.start_server(relay, "127.0.0.1", 0) as listener:
        proxy = Proxy("127.0.0.1", listener.sockets[0].getsockname()[1], ())
        report = await send(Call("http://api.shop/items?a=1", http=http, count=3), proxy)
    assert [result.status for result in report.results] == [200] * 3
    assert asked == [b"CONNECT api.shop:80 HTTP/1.1"]
    seen = json.loads(report.results[0].body.partition(b"\n")[0])
    assert seen["target"] == "/items?a=1"


def test_who_is_reached_without_the_proxy() -> None:
    proxy = Proxy("p", 1, ("localhost", ".svc", "10.0.0.1"))
    assert not proxy.serves("LOCALHOST")
    assert not proxy.serves("api.svc")
    assert proxy.serves("api.svc.other")
    assert not Proxy("p", 1, ("*",)).serves("api")
    assert resolve_url("http://localhost/x", proxy).connect == ("localhost", 80)
    assert resolve_url("http://api/x", proxy).connect == ("p", 1)


@pytest.mark.parametrize("url", ["https://a/", "api:8080", "http:///x", "http://a:99999/"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ValueError, match=r"url|[Pp]ort"):
        resolve_url(url, None)


def test_summary_counts_refusals_by_reason() -> None:
    denied = Result(0.2, 403, headers=(("x-smi-mesh-denial", "no-traffic-target; id=abc"),))
    summary = summarise(Report([denied, Result(0.1, error=Failure.RESET), Result(0.3, 200, "api")], 1))
    assert summary["statuses"] == {"200": 1, "403": 1}
    assert summary["reasons"] == {"no-traffic-target": 1}
    assert summary["errors"] == {"reset": 1}
    assert summary["servers"] == {"api": 1}
    assert summary["latency"] == {"p50": 0.2, "p99": 0.3, "max": 0.3}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "url"),
        ({"url": "http://a/", "count": 0}, "count"),
        ({"url": "http://a/", "count": True}, "count"),
        ({"url": "http://a/", "concurrency": 10**6}, "concurrency"),
        ({"url": "http://a/", "timeout": -1}, "timeout"),
        ({"url": "http://a/", "headers": {"a": "b\r\nc: d"}}, "headers"),
        ({"url": "http://a/", "headers": 7}, "headers"),
        ({"url": "http://a/", "http": "http/3"}, "http"),
    ],
)
def test_orders_are_checked(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        read_call(fields)


@pytest.mark.parametrize(
    "fields", [{"host": "a", "port": 0}, {"host": "a", "port": 1, "send": ["a\nb"]}, {"host": "a"}]
)
def test_tcp_orders_are_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"port|send"):
        read_talk(fields)


async def test_a_bad_order_is_answered_400() -> None:
    async with running() as app:
        assert "url" in str((await order(app, "/call"))["error"])
        assert "no such thing" in str((await order(app, "/nothing"))["error"])


def test_settings_are_read_and_checked() -> None:
    settings = Settings.from_environment(
        {
            "NAME": "api",
            "HTTP_PORT": "off",
            "TCP_PORT": "5432",
            "HTTP_PROXY": "http://10.0.0.1:15001",
            "GREET": "1",
        }
    )
    assert settings.http_port is None
    assert settings.tcp_port == 5432
    assert settings.greet
    assert settings.proxy == Proxy("10.0.0.1", 15001)
    for env in ({"HTTP_PORT": "x"}, {"TCP_PORT": "70000"}, {"GREET": "maybe"}, {"HTTP_PROXY": "socks://a"}):
        with pytest.raises(SettingsError, match=next(iter(env))):
            Settings.from_environment(env)


async def test_the_process_starts_and_drains_on_sigterm() -> None:
    env = {**os.environ, "NAME": "api", "BIND": "127.0.0.1", "HTTP_PORT": "0", "CONTROL_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "conformance.app", env=env, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert b"api: listening" in await asyncio.wait_for(process.stdout.readline(), 10)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_request_in_flight_survives_the_stop() -> None:
    arrived = asyncio.Event()
    finish = asyncio.Event()

    async def answer(_: Request) -> Response:
        arrived.set()
        await finish.wait()
        return Response(200, body=b"done")

    app = await start(LOCAL, answer)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send(Call(f"http://127.0.0.1:{http_port(app)}/"), None))
        await arrived.wait()
        stopping = group.create_task(app.stop(5.0))
        await asyncio.sleep(0)
        assert not stopping.done()
        finish.set()
    assert sending.result().results[0].body == b"done"


async def test_udp_flows_have_a_port_each_and_silence_is_a_timeout() -> None:
    async with running(replace(LOCAL, udp_port=0)) as app:
        assert app.udp is not None
        answer = await order(app, "/udp", host="127.0.0.1", port=app.udp.port, send=["a", "b"], count=3)
        seen = await exchange(
            control_port(app), b"GET /seen HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
    results = answer["results"]
    assert isinstance(results, list)
    assert [result["received"] for result in results] == [["api a", "api b"]] * 3
    assert b'"datagrams": 6' in seen
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        (heard,) = await flows(Flows("127.0.0.1", silent.getsockname()[1], timeout=0.05))
        gone = silent.getsockname()[1]
    assert (heard.error, heard.received) == (Failure.TIMEOUT, ())
    (heard,) = await flows(Flows("127.0.0.1", gone))
    assert heard.error is Failure.UNREACHABLE


async def test_udp_flows_of_an_order_never_share_a_port() -> None:
    """A port that is free again is anybody's; what comes from it would be of the flow before."""
    ports: set[int] = set()

    class Answering(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.DatagramTransport", transport)

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            ports.add(addr[1])
            self.transport.sendto(data, addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Answering, local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    results = await flows(Flows("127.0.0.1", port, count=MAX_FLOWS, concurrency=10))
    transport.close()
    assert [heard.received for heard in results] == [("ping",)] * MAX_FLOWS
    assert len(ports) == MAX_FLOWS


@pytest.mark.parametrize(
    "fields",
    [
        {"count": MAX_FLOWS + 1},
        {"send": 1},
        {"send": [1]},
        {"send": "x" * 70000},
        {"port": 0},
        {"interval": -1},
    ],
)
def test_udp_orders_are_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        read_flows({"host": "h", "port": 1, **fields})


@pytest.mark.parametrize(("http", "method"), [("http/2", "POST"), ("http/2", "HEAD"), ("grpc", "GET")])
async def test_http2_and_grpc_are_spoken_on_the_same_port(http: str, method: str) -> None:
    async with running() as app:
        url = f"http://127.0.0.1:{http_port(app)}/echo.Echo/Say?bytes=200000"
        body = "" if method == "HEAD" else "q" * 100_000
        report = await send(Call(url, method=method, http=http, body=body, count=3), None)
    assert [(result.status, result.server, result.error) for result in report.results] == [
        (200, "api", None)
    ] * 3
    for result in report.results:
        headers = dict(result.headers)
        assert headers.get("grpc-status") == ("0" if http == "grpc" else None)
        if method != "HEAD":
            seen = json.loads(result.body.partition(b"\n")[0])
            assert (seen["method"], seen["body_bytes"]) == ("POST", 100_000)


async def test_a_grpc_failure_has_a_status_of_grpc() -> None:
    async with running() as app:
        url = f"http://127.0.0.1:{http_port(app)}/echo.Echo/Say?status=503"
        report = await send(Call(url, http="grpc"), None)
    assert dict(report.results[0].headers)["grpc-status"] == "2"


@pytest.mark.parametrize(("server", "failure"), [(_ignore, Failure.TIMEOUT), (_babble, Failure.CLOSED)])
async def test_a_peer_that_does_not_speak_http2_has_a_name(server: object, failure: Failure) -> None:
    listener = await asyncio.start_server(server, "127.0.0.1", 0)  # type: ignore[arg-type] # a callback
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        report = await send(Call(f"http://127.0.0.1:{port}/", http="http/2", timeout=0.3), None)
    assert report.results[0].error is failure
