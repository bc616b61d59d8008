"""port-forward: connections to ports of a pod inside one connection of the client's.

Three shapes. SPDY/3.1, bare or inside a WebSocket (`SPDY/3.1+portforward.k8s.io`): two streams for each
forwarded connection, paired by `requestid`, one for data and one for an error message. And the channels of
`v4.channel.k8s.io` that the Python client speaks: two channels for each port named in the query, one
connection each, every channel beginning with its port (two bytes, little endian).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import WSMsgType, web

from localmesh.streams import channels, spdy
from localmesh.streams.channels import Dialect
from localmesh.streams.contract import ClientGoneError
from localmesh.streams.duplex import ByteStream, WebSocketBytes, upgrade
from localmesh.streams.multiplex import Connection, Stream
from localmesh.streams.remotecommand import MAX_MESSAGE, SPDY, VERSION_HEADER, farewell
from localmesh.streams.watching import DEFAULTS, Limits, attended, heartbeat
from localmesh.tasks import TaskGroup

_log = logging.getLogger(__name__)

Connecting = Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]
Dial = Callable[[int], Connecting]
"""Connects to a port of the pod; raises OSError, LookupError."""

PROTOCOL: Final = "portforward.k8s.io"
TUNNELS: Final = (f"{SPDY}+{PROTOCOL}", f"v2.{PROTOCOL}")
"""WebSocket subprotocols that carry SPDY frames; the second is how 1.30 and its documents call it."""
DIALECTS: Final = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
MAX_CONNECTIONS: Final = 256
MAX_PORTS: Final = 64
CHUNK: Final = 32 * 1024


def parse_ports(values: list[str]) -> list[int]:
    """Ports of the query. Raises ValueError with upstream's words."""
    ports: list[int] = []
    for text in (part.strip() for value in values for part in value.split(",")):
        if not text.isdecimal() or not 0 < int(text) <= 65535:
            raise ValueError(f'unable to parse "{text}" as a port: must be a number from 1 to 65535')
        ports.append(int(text))
    if not ports:
        raise ValueError('query parameter "port" or "ports" is required')
    if len(ports) > MAX_PORTS:
        raise ValueError(f"{len(ports)} ports are more than {MAX_PORTS}")
    return ports


def explain(pod: str, port: int, error: Exception) -> str:
    """What the user reads; kubectl puts `an error occurred forwarding 8080 -> 80:` before it."""
    cause = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"error forwarding port {port} to pod {pod}: {str(cause) or type(error).__name__}"


# --- SPDY ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pair:
    """The streams of one forwarded connection, as far as they have been opened."""

    error: Stream | None = None
    data: Stream | None = None


class Forwarder:
    """Serves the forwarded connections of one SPDY connection."""

    def __init__(self, connection: Connection, pod: str, dial: Dial, limits: Limits) -> None:
        self._connection = connection
        self._pod = pod
        self._dial = dial
        self._limits = limits
        self._pairs: dict[str, _Pair] = {}
        self._tasks = TaskGroup(f"port-forward {pod}")

    def accept(self, stream: Stream) -> bool:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in ("data", "error") or not port.isdecimal() or not 0 < int(port) <= 65535:
            return False
        # Clients of before 2015 send no request id; their data stream directly follows the error stream.
        fallback = stream.number if kind == "error" else stream.number - 2
        name = stream.headers.get("requestid") or str(fallback)
        pair = self._pairs.get(name)
        if pair is None:
            if len(self._pairs) >= MAX_CONNECTIONS:
                return False
            pair = self._pairs[name] = _Pair()
            self._tasks.start(f"pairing {name}", self._expire(name, pair))
        if getattr(pair, kind) is not None:
            return False
        setattr(pair, kind, stream)
        if pair.error is not None and pair.data is not None:
            self._tasks.start(f"connection {name}", self._forward(name, int(port), pair.data, pair.error))
        return True

    async def stop(self) -> None:
        await self._tasks.stop()

    async def _expire(self, name: str, pair: _Pair) -> None:
        """Give up a stream whose other half does not come."""
        await asyncio.sleep(self._limits.opening)
        half = pair.data or pair.error
        if half is not None and (pair.data is None or pair.error is None):
            self._pairs.pop(name, None)
            await self._connection.reset(half, spdy.CANCEL)

    async def _forward(self, name: str, port: int, data: Stream, error: Stream) -> None:
        await self._tasks.stop_one(f"pairing {name}")
        error.ignore()
        try:
            await self._connect(port, data, error)
        except ConnectionError as problem:  # of the client's connection; serving it ends by itself
            _log.debug("port-forward %s:%d: %s", self._pod, port, problem)
        finally:
            self._pairs.pop(name, None)

    async def _connect(self, port: int, data: Stream, error: Stream) -> None:
        try:
            reader, writer = await self._dial(port)
        except (OSError, LookupError) as problem:
            data.ignore()
            await error.write(explain(self._pod, port, problem).encode())
            await error.finish()
            await data.finish()
            return
        try:
            upward = self._tasks.start("upward", _to_pod(data, writer))
            try:
                await _to_client(reader, data)
            except OSError as problem:
                if not data.over:
                    await error.write(explain(self._pod, port, problem).encode())
            await data.finish()
            await error.finish()
            await asyncio.wait([upward], timeout=self._limits.opening)
            upward.cancel()
            if not data.over:
                data.ignore()
                await self._connection.reset(data, spdy.CANCEL)
        finally:
            writer.close()


async def _to_pod(data: Stream, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await data.read():
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError as problem:  # the pod's side closed; what the client still sends has nowhere to go
        _log.debug("port-forward: %s", problem)
        data.ignore()


async def _to_client(reader: asyncio.StreamReader, data: Stream) -> None:
    while chunk := await reader.read(CHUNK):
        await data.write(chunk)


async def _serve(wire: ByteStream, pod: str, dial: Dial, limits: Limits) -> None:
    connection = Connection(wire)
    forwarder = Forwarder(connection, pod, dial, limits)

    async def session() -> None:
        await heartbeat(limits, lambda: connection.traffic, connection.ping)

    try:
        await attended(session(), connection.serve(forwarder.accept))
    finally:
        await forwarder.stop()


async def serve_spdy(
    request: web.BaseRequest, pod: str, dial: Dial, limits: Limits = DEFAULTS
) -> web.StreamResponse:
    headers = {"Connection": "Upgrade", "Upgrade": SPDY, VERSION_HEADER: PROTOCOL}
    response, wire = await upgrade(request, headers)
    await _serve(wire, pod, dial, limits)
    await farewell(wire, limits)
    return response


async def serve_tunnel(
    request: web.BaseRequest, pod: str, dial: Dial, protocol: str, limits: Limits = DEFAULTS
) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=(protocol,), compress=False, max_msg_size=MAX_MESSAGE, timeout=limits.farewell
    )
    await socket.prepare(request)
    await _serve(WebSocketBytes(socket), pod, dial, limits)
    await socket.close()
    return socket


# --- channels --------------------------------------------------------------------------------------------


class PortChannel:
    """One port of the query: channel 2·i carries data, 2·i+1 an error message."""

    def __init__(self, index: int, port: int) -> None:
        self.number = 2 * index
        self.port = port
        self._chunks = bytearray()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._over = False

    async def put(self, data: bytes) -> None:
        if self._over:
            return
        self._chunks += data
        self._news.set()
        while len(self._chunks) > MAX_MESSAGE and not self._over:
            self._room.clear()
            await self._room.wait()

    async def to_pod(self, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                data = bytes(self._chunks)
                self._chunks.clear()
                self._room.set()
                writer.write(data)
                await writer.drain()
        except OSError as problem:
            _log.debug("port-forward: %s", problem)
            self.stop()

    def stop(self) -> None:
        """Take nothing more from the client."""
        self._over = True
        self._room.set()


async def _read(reader: asyncio.StreamReader, port: int) -> bytes:
    """b"" as well when the pod's side was reset: the channels have no other way to say so."""
    try:
        return await reader.read(CHUNK)
    except OSError as problem:
        _log.debug("port-forward %d: %s", port, problem)
        return b""


async def serve_channels(
    request: web.BaseRequest,
    pod: str,
    ports: list[int],
    dial: Dial,
    dialect: Dialect,
    limits: Limits = DEFAULTS,
) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=(dialect.name,), compress=False, max_msg_size=MAX_MESSAGE, timeout=limits.farewell
    )
    await socket.prepare(request)
    table = [PortChannel(index, port) for index, port in enumerate(ports)]
    traffic = 0

    async def send(channel: int, payload: bytes) -> None:
        content = channels.encode(dialect, channel, payload)
        if dialect.base64:
            await socket.send_str(content.decode("ascii"))
        else:
            await socket.send_bytes(content)

    async def forward(one: PortChannel) -> None:
        nonlocal traffic
        try:
            reader, writer = await dial(one.port)
        except (OSError, LookupError) as problem:
            one.stop()
            await send(one.number + 1, explain(pod, one.port, problem).encode())
            return
        tasks = TaskGroup(f"port-forward {pod}")
        try:
            tasks.start("upward", one.to_pod(writer))
            while chunk := await _read(reader, one.port):
                traffic += 1
                await send(one.number, chunk)
        finally:
            one.stop()
            await tasks.stop()
            writer.close()

    async def receive() -> None:
        nonlocal traffic
        while True:
            message = await socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                raise ClientGoneError("the client closed the connection")
            data = message.data.encode() if isinstance(message.data, str) else message.data
            try:
                channel, payload = channels.decode(dialect, data)
            except channels.ChannelError as error:
                raise ClientGoneError(str(error)) from error
            traffic += 1
            if channel % 2 == 0 and channel // 2 < len(table):
                await table[channel // 2].put(payload)

    async def session() -> None:
        for one in table:
            for number in (one.number, one.number + 1):
                await send(number, one.port.to_bytes(2, "little"))
        async with asyncio.TaskGroup() as group:
            for one in table:
                group.create_task(forward(one))

    beat = heartbeat(limits, lambda: traffic, socket.ping)
    await attended(session(), receive(), beat)
    await socket.close()
    return socket
