"""exec and attach on the wire: every protocol, half-closed input, sizes, clients that leave or babble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from localmesh.streams import channels, remotecommand, spdy
from localmesh.streams.contract import Console, Wanted
from localmesh.streams.outcome import Outcome
from localmesh.streams.watching import Limits
from tests.localmesh.streams.kit import serving, spdy_client

ALL = Wanted(stdin=True, stdout=True, stderr=True)
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


@dataclass
class Command:
    """Stands for a container: says its input back, then `code`. `left` is set when it was given up."""

    wanted: Wanted = ALL
    code: int = 0
    limits: Limits = field(default_factory=lambda: Limits(farewell=0.2))
    started: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    reads: bool = True

    async def run(self, console: Console) -> Outcome:
        self.started.set()
        try:
            if not self.reads:
                await asyncio.Event().wait()
            if self.wanted.tty:
                rows, columns = await console.size()
                await console.write("stdout", b"%dx%d" % (rows, columns))
            while data := await console.read():
                await console.write("stdout", data.upper())
                await console.write("stderr", b"%d bytes\n" % len(data))
            return Outcome(self.code)
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers["Upgrade"] == "websocket":
            offered = request.headers.getall("Sec-WebSocket-Protocol", [])
            dialect = remotecommand.choose_dialect(offered)
            assert dialect is not None
            return await remotecommand.serve_websocket(request, self.wanted, self.run, dialect, self.limits)
        offered = request.headers.getall(remotecommand.VERSION_HEADER, [])
        version = remotecommand.choose_version(offered, remotecommand.SPDY_VERSIONS)
        assert version is not None
        return await remotecommand.serve_spdy(request, self.wanted, self.run, version, self.limits)


@asynccontextmanager
async def socket(command: Command, *protocols: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        serving(command.handle) as port,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/", protocols=protocols) as opened,
    ):
        yield opened


async def messages(opened: aiohttp.ClientWebSocketResponse, dialect: channels.Dialect) -> dict[int, bytes]:
    """All that comes until the server closes, by channel."""
    found: dict[int, bytes] = {}
    async with asyncio.timeout(10):
        async for message in opened:
            data = message.data.encode() if isinstance(message.data, str) else message.data
            channel, payload = channels.decode(dialect, data)
            found[channel] = found.get(channel, b"") + payload
    return found


# --- WebSocket -------------------------------------------------------------------------------------------


async def test_v5_half_closes_stdin_and_tells_the_exit_code() -> None:
    command = Command(code=3)
    async with socket(command, V5, V4) as opened:
        assert opened.protocol == V5
        await opened.send_bytes(b"\x00hello")
        await opened.send_bytes(bytes((channels.CLOSE, channels.STDIN)))
        found = await messages(opened, channels.DIALECTS[0])
        assert opened.close_code == 1000
    assert found[channels.STDOUT] == b"HELLO"
    assert found[channels.STDERR] == b"5 bytes\n"
    assert json.loads(found[channels.ERROR])["details"]["causes"][0]["message"] == "3"


async def test_the_oldest_binary_dialect_says_nothing_about_success() -> None:
    async with socket(Command(wanted=Wanted(stdout=True))) as opened:
        assert opened.protocol is None
        found = await messages(opened, channels.dialect_named(None))
    assert found == {channels.STDOUT: b""}


async def test_base64_dialects_are_text() -> None:
    command = Command(wanted=Wanted(stdin=True, stdout=True, tty=True))
    async with socket(command, "v4.base64.channel.k8s.io") as opened:
        dialect = channels.DIALECTS[2]
        size = channels.encode(dialect, channels.RESIZE, b'{"Width":80,"Height":24}').decode()
        await opened.send_str(size)
        seen = b""
        while seen != b"24x80":
            message = await opened.receive(timeout=10)
            assert message.type is WSMsgType.TEXT
            seen += channels.decode(dialect, message.data.encode())[1]


async def test_a_client_that_leaves_takes_its_command_with_it() -> None:
    command = Command()
    async with socket(command, V4) as opened:
        await command.started.wait()
        await opened.close()
        async with asyncio.timeout(10):
            await command.left.wait()


async def test_a_client_that_speaks_nonsense_is_left() -> None:
    command = Command()
    async with socket(command, "base64.channel.k8s.io") as opened:
        await opened.send_str("x")
        async with asyncio.timeout(10):
            await command.left.wait()


async def test_a_silent_client_is_left_after_the_idle_time() -> None:
    command = Command(limits=Limits(idle=0.05, heartbeat=0.02, farewell=0.2))
    async with socket(command, V5) as opened:
        found = await messages(opened, channels.DIALECTS[0])
    assert found == {channels.STDOUT: b""}
    assert command.left.is_set()


async def test_a_client_that_dies_unread_is_noticed_by_writing_to_it() -> None:
    command = Command(limits=Limits(heartbeat=0.02), reads=False)
    async with serving(command.handle) as port, aiohttp.ClientSession() as session:
        opened = await session.ws_connect(f"http://127.0.0.1:{port}/", protocols=(V5,))
        sending = asyncio.gather(*(opened.send_bytes(b"\x00" + bytes(500_000)) for _ in range(40)))
        await command.started.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.3)  # nobody reads: the client has to wait
        sending.cancel()
        assert opened._response.connection is not None
        transport = opened._response.connection.transport
        assert transport is not None
        transport.abort()
        async with asyncio.timeout(10):
            await command.left.wait()
        with pytest.raises(asyncio.CancelledError):
            await sending
        opened._response.close()


# --- SPDY ------------------------------------------------------------------------------------------------


async def test_spdy_streams_and_status() -> None:
    async with (
        serving(Command(code=7).handle) as port,
        spdy_client(port, "/", V4, "v3.channel.k8s.io") as client,
    ):
        assert "101 Switching Protocols" in client.head
        assert f"{remotecommand.VERSION_HEADER}: {V4}" in client.head
        error, stdin, stdout, stderr = (
            client.open(streamtype=kind) for kind in ("error", "stdin", "stdout", "stderr")
        )
        client.send(spdy.Data(stdin, b"one "))
        client.send(spdy.Data(stdin, b"two", fin=True))
        client.send(spdy.Ping(1))
        await client.until(lambda: client.streams[error].ended and client.pings, "the outcome")
        assert client.streams[stdout].data.replace(b" ", b"") == b"ONETWO"
        assert client.streams[stdout].ended
        assert client.streams[stderr].ended
        assert json.loads(client.streams[error].data)["reason"] == "NonZeroExitCode"
        assert client.replied == {error, stdin, stdout, stderr}
        assert 1 in client.pings


async def test_spdy_sizes_and_the_text_of_old_versions() -> None:
    command = Command(wanted=Wanted(stdin=True, stdout=True, tty=True), code=2)
    async with serving(command.handle) as port, spdy_client(port, "/", "v3.channel.k8s.io") as client:
        error, stdin, stdout, resize = (
            client.open(streamtype=kind) for kind in ("error", "stdin", "stdout", "resize")
        )
        client.send(spdy.Data(resize, b'{"Width":1,"Height":2}\n{"Width":100,"Height":40}\n'))
        client.send(spdy.Data(stdin, b"", fin=True))
        await client.until(lambda: client.streams[error].ended, "the outcome")
        assert client.streams[stdout].data == b"40x100"
        assert client.streams[error].data == b"command terminated with exit code 2"


async def test_spdy_client_that_closes_takes_its_command_with_it() -> None:
    command = Command()
    async with serving(command.handle) as port:
        async with spdy_client(port, "/", V4) as client:
            for kind in ("error", "stdin", "stdout", "stderr"):
                client.open(streamtype=kind)
            async with asyncio.timeout(10):
                await command.started.wait()
        async with asyncio.timeout(10):
            await command.left.wait()


async def test_spdy_streams_that_do_not_come_end_the_connection() -> None:
    command = Command(limits=Limits(opening=0.05, farewell=0.05))
    async with serving(command.handle) as port, spdy_client(port, "/", V4) as client:
        client.open(streamtype="error")
        await client.until_closed()
    assert not command.started.is_set()


async def test_spdy_nonsense_is_answered_with_goaway() -> None:
    async with serving(Command().handle) as port, spdy_client(port, "/", V4) as client:
        client.send(spdy.SynStream(2, {"streamtype": "error"}))
        await client.until_closed()
        assert client.goaway == spdy.PROTOCOL_ERROR


async def test_spdy_streams_of_no_use_are_reset() -> None:
    async with serving(Command().handle) as port, spdy_client(port, "/", V4) as client:
        first, second, third = (client.open(streamtype=kind) for kind in ("error", "error", "coffee"))
        await client.until(lambda: client.streams[third].reset, "the reset")
        assert client.streams[second].reset == spdy.PROTOCOL_ERROR
        assert not client.streams[first].reset


async def test_spdy_input_that_nobody_reads_stops_the_client() -> None:
    command = Command(limits=Limits(heartbeat=0.02), reads=False)
    async with serving(command.handle) as port, spdy_client(port, "/", V4) as client:
        error, stdin, _, _ = (client.open(streamtype=kind) for kind in ("error", "stdin", "stdout", "stderr"))
        await client.until(lambda: error in client.replied, "the streams are open")

        async def type_on() -> None:
            for _ in range(40):
                client.send(spdy.Data(stdin, bytes(500_000)))
                await client.writer.drain()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(type_on(), 0.3)  # nobody reads: the client has to wait
        client.writer.transport.abort()
        async with asyncio.timeout(10):
            await command.left.wait()
