"""exec and attach: the client's side of a command, over SPDY/3.1 (kubectl before 1.31) or a WebSocket.

Source: Kubernetes' remotecommand protocols (`v4.channel.k8s.io` and its elders as SPDY streams by the header
`streamtype`, and as WebSocket channels, see `channels`). The result travels as a Status on the error stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Final, cast

from aiohttp import WSMsgType, web

from localmesh.streams import channels
from localmesh.streams.channels import Dialect
from localmesh.streams.contract import ClientGoneError, Console, Output, Wanted
from localmesh.streams.duplex import ByteStream, upgrade
from localmesh.streams.multiplex import Connection, Stream
from localmesh.streams.outcome import Outcome
from localmesh.streams.watching import DEFAULTS, Limits, attended, heartbeat

Run = Callable[[Console], Awaitable[Outcome]]

SPDY: Final = "SPDY/3.1"
VERSION_HEADER: Final = "X-Stream-Protocol-Version"
ACCEPTED_HEADER: Final = "X-Accepted-Stream-Protocol-Versions"
SPDY_VERSIONS: Final = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
"""By preference. v4: exit codes; v3: terminal sizes; v2: stdin may end before the command."""
MAX_STDIN: Final = 256 * 1024
MAX_MESSAGE: Final = 1 << 20
CHUNK: Final = 32 * 1024
MAX_SIDE: Final = 65535
"""Rows or columns a terminal can have (struct winsize)."""


def parse_size(text: bytes) -> tuple[int, int] | None:
    """Rows and columns of a TerminalSize object, None if it is not one."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    sides = value.get("Height", value.get("height")), value.get("Width", value.get("width"))
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides):
        return None
    return cast("tuple[int, int]", sides)


class SizeQueue:
    """Only the newest size of a terminal matters."""

    def __init__(self) -> None:
        self._newest: tuple[int, int] | None = None
        self._news = asyncio.Event()

    def put(self, size: tuple[int, int] | None) -> None:
        if size is not None:
            self._newest = size
            self._news.set()

    async def get(self) -> tuple[int, int]:
        await self._news.wait()
        self._news.clear()
        assert self._newest is not None
        return self._newest


# --- SPDY ------------------------------------------------------------------------------------------------


def choose_version(offered: list[str], known: tuple[str, ...]) -> str | None:
    """What both sides speak, by our preference; None when there is nothing."""
    names = {name.strip() for line in offered for name in line.split(",")}
    return next((one for one in known if one in names), None)


class SpdyConsole:
    """Named streams of one connection. `opened` returns once the client has opened those it announced."""

    def __init__(self, connection: Connection, wanted: Wanted, version: str) -> None:
        self._connection = connection
        self._wanted = wanted
        self._version = version
        self._streams: dict[str, Stream] = {}
        self._complete = asyncio.Event()
        self._sizes = SizeQueue()

    def accept(self, stream: Stream) -> bool:
        kind = stream.headers.get("streamtype", "")
        if kind not in ("error", "stdin", "stdout", "stderr", "resize") or kind in self._streams:
            return False
        self._streams[kind] = stream
        if self._expected() <= self._streams.keys():
            self._complete.set()
        return True

    def _expected(self) -> set[str]:
        wanted = self._wanted
        kinds = {"error"} | {kind for kind in ("stdin", "stdout", "stderr") if getattr(wanted, kind)}
        if wanted.tty and self._version in SPDY_VERSIONS[:2]:
            kinds.add("resize")
        return kinds

    async def opened(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._complete.wait()
        except TimeoutError:
            missing = sorted(self._expected() - self._streams.keys())
            raise ClientGoneError(f"streams {missing} were not opened within {limit_s:g} s") from None

    async def read(self) -> bytes:
        stream = self._streams.get("stdin")
        return await stream.read() if stream is not None else b""

    async def write(self, output: Output, data: bytes) -> None:
        stream = self._streams.get(output)
        if stream is not None:
            await stream.write(data)

    async def size(self) -> tuple[int, int]:
        return await self._sizes.get()

    async def resizes(self) -> None:
        """Read the resize stream: JSON objects one behind the other, each within one frame."""
        stream = self._streams.get("resize")
        while stream is not None and (data := await stream.read()):
            self._sizes.put(parse_size(data.strip().rpartition(b"\n")[2]))

    async def finish(self, outcome: Outcome) -> None:
        for kind in ("stdin", "resize"):
            if kind in self._streams:
                self._streams[kind].ignore()
        for kind in ("stdout", "stderr"):
            if kind in self._streams:
                await self._streams[kind].finish()
        words = outcome.status() if self._version == SPDY_VERSIONS[0] else outcome.text()
        if words:
            await self._streams["error"].write(words)
        await self._streams["error"].finish()


async def serve_spdy(
    request: web.BaseRequest, wanted: Wanted, run: Run, version: str, limits: Limits = DEFAULTS
) -> web.StreamResponse:
    headers = {"Connection": "Upgrade", "Upgrade": SPDY, VERSION_HEADER: version}
    response, wire = await upgrade(request, headers)
    connection = Connection(wire)
    console = SpdyConsole(connection, wanted, version)

    async def session() -> None:
        await console.opened(limits.opening)
        outcome = await _with_sizes(console, run)
        await console.finish(outcome)

    beat = heartbeat(limits, lambda: connection.traffic, connection.ping)
    await attended(session(), connection.serve(console.accept), beat)
    await farewell(wire, limits)
    return response


async def _with_sizes(console: SpdyConsole, run: Run) -> Outcome:
    async with asyncio.TaskGroup() as group:
        sizes = group.create_task(console.resizes())
        outcome = await run(console)
        sizes.cancel()
    return outcome


async def farewell(wire: ByteStream, limits: Limits) -> None:
    """Read on until the client closes: closing with bytes unread would lose what it has not read yet."""
    try:
        async with asyncio.timeout(limits.farewell):
            while await wire.read():
                pass
    except (TimeoutError, ConnectionError):
        return


# --- WebSocket -------------------------------------------------------------------------------------------


class ChannelConsole:
    """Channels of one WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, dialect: Dialect, wanted: Wanted) -> None:
        self._socket = socket
        self._dialect = dialect
        self._wanted = wanted
        self._stdin = bytearray()
        self._stdin_over = not wanted.stdin
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._sizes = SizeQueue()
        self.traffic = 0

    async def serve(self) -> None:
        """Read messages until the client is gone, then raise ClientGoneError."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                raise ClientGoneError("the client closed the connection")
            data = message.data.encode() if isinstance(message.data, str) else message.data
            try:
                channel, payload = channels.decode(self._dialect, data)
            except channels.ChannelError as error:
                raise ClientGoneError(str(error)) from error
            self.traffic += 1
            await self._take(channel, payload)

    async def _take(self, channel: int, payload: bytes) -> None:
        if channel == channels.RESIZE:
            self._sizes.put(parse_size(payload))
        elif channel == channels.CLOSE and self._dialect.half_close and payload == bytes((channels.STDIN,)):
            self._stdin_over = True
            self._news.set()
        elif channel == channels.STDIN and not self._stdin_over:
            self._stdin += payload
            self._news.set()
            while len(self._stdin) > MAX_STDIN:
                self._room.clear()
                await self._room.wait()

    async def read(self) -> bytes:
        while not self._stdin:
            if self._stdin_over:
                return b""
            self._news.clear()
            await self._news.wait()
        data = bytes(self._stdin)
        self._stdin.clear()
        self._room.set()
        return data

    async def write(self, output: Output, data: bytes) -> None:
        if not getattr(self._wanted, output):
            return
        channel = channels.STDOUT if output == "stdout" else channels.STDERR
        for start in range(0, len(data), CHUNK):
            await self._send(channel, data[start : start + CHUNK])
            self.traffic += 1

    async def size(self) -> tuple[int, int]:
        return await self._sizes.get()

    async def greet(self) -> None:
        """An empty message tells clients that the streams are there (as upstream, on the lowest channel)."""
        outputs = (self._wanted.stdout, channels.STDOUT), (self._wanted.stderr, channels.STDERR)
        await self._send(next((number for wanted, number in outputs if wanted), channels.ERROR), b"")

    async def finish(self, outcome: Outcome) -> None:
        words = outcome.status() if self._dialect.status else outcome.text()
        if words:
            await self._send(channels.ERROR, words)

    async def _send(self, channel: int, payload: bytes) -> None:
        content = channels.encode(self._dialect, channel, payload)
        if self._dialect.base64:
            await self._socket.send_str(content.decode("ascii"))
        else:
            await self._socket.send_bytes(content)


def choose_dialect(offered: list[str]) -> Dialect | None:
    """The dialect for a client's Sec-WebSocket-Protocol lines; None when it offers only others."""
    names = [name.strip() for line in offered for name in line.split(",") if name.strip()]
    if not names:
        return channels.dialect_named(None)
    return next((one for one in channels.DIALECTS if one.name in names), None)


async def serve_websocket(
    request: web.BaseRequest, wanted: Wanted, run: Run, dialect: Dialect, limits: Limits = DEFAULTS
) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=(dialect.name,), compress=False, max_msg_size=MAX_MESSAGE, timeout=limits.farewell
    )
    await socket.prepare(request)
    console = ChannelConsole(socket, dialect, wanted)

    async def session() -> None:
        await console.greet()
        await console.finish(await run(console))

    beat = heartbeat(limits, lambda: console.traffic, socket.ping)
    await attended(session(), console.serve(), beat)
    await socket.close()
    return socket
