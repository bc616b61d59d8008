"""Certificates: obtained over pinned TLS, renewed in time, swapped under open connections."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.control.identity import Identity, renewal_delay
from dataplane.control.signing import SigningError
from dataplane.core.peer import spiffe_id
from dataplane.settings import Settings
from dataplane.tasks import Tasks
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import POD_URI, TOKEN, StandIn, http_answer, key_made_here
from tests.dataplane.serve.test_tls import Pair
from tests.dataplane.waiting import until


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    group = Tasks()
    yield group
    await group.cancel()


def make(settings: Settings, now: Callable[[], float] = time.time) -> Identity:
    return Identity(settings, now, lambda: 0.0, key_made_here)


class Ahead:
    """The wall clock, and some seconds more."""

    seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.seconds


async def test_a_certificate_is_obtained_with_the_token_and_a_request_that_names_nobody(
    settings: Settings, controller: StandIn
) -> None:
    identity = Identity(settings, time.time, lambda: 0.0)  # makes its key in a process of its own
    assert identity.not_after == 0
    await identity.obtain()
    assert identity.ready
    assert identity.not_after == pytest.approx(time.time() + controller.leaf_seconds, abs=30)
    (request,) = controller.requests
    assert request["line"] == "POST /v1/sign HTTP/1.1"
    assert request["token"] == TOKEN
    assert request["csr"].startswith("-----BEGIN CERTIFICATE REQUEST-----")
    assert "PRIVATE" not in str(controller.requests)


async def test_both_sides_of_the_mesh_port_prove_who_they_are(settings: Settings) -> None:
    identity = make(settings)
    await identity.obtain()
    seen: asyncio.Future[tuple[object, ...]] = asyncio.get_running_loop().create_future()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        seen.set_result(
            (spiffe_id(tls.getpeercert()), tls.mesh_sni, tls.selected_alpn_protocol(), tls.version())
        )
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=identity.server_context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=identity.client_tcp_context, server_hostname="p8080.smi-mesh.internal"
        )
        assert spiffe_id(writer.get_extra_info("peercert")) == POD_URI
        assert await seen == (POD_URI, "p8080.smi-mesh.internal", "smi-tcp", "TLSv1.3")
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("stranger", ["no certificate", "another root"])
async def test_the_mesh_port_refuses_who_is_not_of_this_mesh(
    settings: Settings, tmp_path: Path, stranger: str
) -> None:
    identity = make(settings)
    await identity.obtain()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=settings.trust_bundle)
    if stranger == "another root":
        file = tmp_path / "stranger.pem"
        file.write_text("".join(Authority("another").issue(POD_URI)))
        context.load_cert_chain(file)
    accepted: list[object] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=identity.server_context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            # In TLS 1.3 the client learns of the refusal with its first read.
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            assert await reader.read() == b""
            writer.transport.abort()
    assert not accepted


async def test_renewal_swaps_the_contexts_and_open_connections_live_on(
    settings: Settings, controller: StandIn, tasks: Tasks
) -> None:
    clock = Ahead()
    identity = make(settings, clock)
    await identity.obtain()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.readline():
                writer.write(data)
        writer.close()

    first = identity.server_context
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=first)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=identity.client_context)
        clock.seconds = 0.8 * controller.leaf_seconds
        tasks.start("renewal", identity.keep_current())
        await until(lambda: identity.renewals == 2)
        assert identity.ready
        assert identity.server_context is not first
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        writer.close()
        await writer.wait_closed()
    csrs = [request["csr"] for request in controller.requests]
    assert len(set(csrs)) == len(csrs), "every certificate has a key of its own"


async def test_a_refusal_is_retried_and_said_without_the_token(
    settings: Settings, controller: StandIn, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    controller.refuse = "token audience is wrong"
    identity = make(settings)
    with caplog.at_level(logging.DEBUG):
        obtained = tasks.start("obtain", identity.obtain())
        await until(lambda: identity.failures >= 2)
        controller.refuse = None
        await obtained
    assert len({request["csr"] for request in controller.requests}) == 1, "one key until it is certified"
    assert "token audience is wrong" in caplog.text
    assert TOKEN not in caplog.text
    assert "PRIVATE" not in caplog.text
    assert identity.ready


async def test_while_renewal_fails_the_old_certificate_stays_in_use(
    settings: Settings, controller: StandIn, tasks: Tasks
) -> None:
    clock = Ahead()
    identity = make(settings, clock)
    await identity.obtain()
    before = identity.client_context
    controller.refuse = "not now"
    clock.seconds = 0.8 * controller.leaf_seconds
    tasks.start("renewal", identity.keep_current())
    await until(lambda: identity.failures >= 1)
    assert identity.client_context is before
    controller.refuse = None
    await until(lambda: identity.renewals == 2)
    assert identity.client_context is not before


async def test_the_token_is_shown_to_nobody_but_the_controller(
    settings: Settings, tmp_path: Path, authority: Authority, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    impostor = StandIn(tmp_path, authority)
    impostor.uri = POD_URI  # a workload of this very mesh
    await impostor.start_identity()
    identity = make(dataclasses.replace(settings, identity_port=impostor.identity_port))
    tasks.start("obtain", identity.obtain())
    await until(lambda: identity.failures >= 1)
    assert impostor.requests == []
    assert f"the peer is {POD_URI}" in caplog.text
    await tasks.cancel()
    await impostor.stop()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "ended early"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "without JSON"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "without a JSON object"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n{}", "ended early"),
        (http_answer(500, {"error": "disk full"}), r"refused \(500\): disk full"),
        (http_answer(200, {}), "lacks 'certificates'"),
        (http_answer(200, {"certificates": "x", "trust_bundle": "y", "not_after": "tomorrow"}), "RFC 3339"),
        (
            http_answer(200, {"certificates": "x", "trust_bundle": "y", "not_after": "2020-01-01T00:00:00Z"}),
            "check the clocks",
        ),
        (
            http_answer(200, {"certificates": "x", "trust_bundle": "y", "not_after": "2999-01-01T00:00:00Z"}),
            "bundle holds no usable certificate|not usable",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 3_000_000, "longer than"),
    ],
)
async def test_a_bad_answer_is_an_error_with_a_reason(
    settings: Settings, controller: StandIn, raw: bytes, said: str
) -> None:
    controller.raw_answer = raw
    with pytest.raises(SigningError, match=said):
        await make(settings)._renew()


async def test_a_chunked_answer_is_understood(settings: Settings, controller: StandIn) -> None:
    controller.raw_answer = (
        b'HTTP/1.1 403 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"err\r\n9\r\nor":"no"}\r\n0\r\n\r\n'
    )
    with pytest.raises(SigningError, match=r"refused \(403\): no$"):
        await make(settings)._renew()


async def test_a_missing_token_and_an_absent_controller_are_said(settings: Settings) -> None:
    no_token = dataclasses.replace(settings, token_file="/nonexistent/token")
    with pytest.raises(SigningError, match="cannot read the service account token"):
        await make(no_token)._renew()
    absent = dataclasses.replace(settings, identity_port=1)
    with pytest.raises(SigningError, match=r"127\.0\.0\.1:1: "):
        await make(absent)._renew()


async def test_the_key_leaves_no_open_descriptor(settings: Settings) -> None:
    identity = Identity(settings, time.time, lambda: 0.0)
    await identity.obtain()
    assert not [name for name in _open_files() if "smi-mesh-key" in name]


async def test_sessions_begin_anew_with_the_same_certificate(settings: Settings) -> None:
    identity = make(settings)
    identity.begin_sessions_anew()  # harmless before there is a certificate
    await identity.obtain()
    before, client = identity.server_context, identity.client_tcp_context
    first = Pair(client, before)
    first.pump()
    identity.begin_sessions_anew()
    assert identity.server_context is not before
    assert identity.client_tcp_context is client
    second = Pair(client, identity.server_context)
    second.pump()
    assert second.client.certificate_der == first.client.certificate_der != b""
    assert not [name for name in _open_files() if "smi-mesh-key" in name]


async def test_what_one_process_obtained_another_can_use(settings: Settings) -> None:
    first, second = make(settings), make(settings)
    told: list[object] = []
    first.on_renewal(told.append)
    await first.obtain()
    assert told == [first.material]
    second.entrust(json.loads(json.dumps(first.material)))
    assert second.ready
    assert second.not_after == first.not_after
    pair = Pair(first.client_tcp_context, second.server_context)
    pair.pump()
    assert spiffe_id(pair.client.certificate) == POD_URI
    assert "PRIVATE" not in repr(second)


def _open_files() -> list[str]:
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(str(descriptor.readlink()))
    return names


@given(st.floats(0.1, 1e7), st.floats(0, 1, exclude_max=True))
def test_renewal_is_due_between_63_and_70_percent_of_a_life(life: float, chance: float) -> None:
    assert 0.629 * life <= renewal_delay(life, chance) <= 0.701 * life
