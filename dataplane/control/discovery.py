"""The config stream: newline-delimited JSON over mTLS, from the controller into `State`.

Says hello with every subscription, applies updates whole, answers each with ack or nack, and opens
a new stream whenever one ends. It never takes anything out of `State`: without a controller the
last good config stays in force. What the resources mean is `State`'s business.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from dataplane.control.backoff import Backoff
from dataplane.control.identity import Identity
from dataplane.control.peer import NotTheController, check_controller
from dataplane.settings import Settings
from dataplane.state import State
from smi.policy.codec import CodecError

PROTOCOL: Final = 1
MAX_LINE: Final = 16 << 20
"""Longest line accepted from the controller."""
CONNECT_SECONDS: Final = 5.0
FIRST_BACKOFF: Final = 0.1
LAST_BACKOFF: Final = 5.0
_MAX_UNSENT: Final = 4 << 20
_KEYS_PER_MESSAGE: Final = 1000  # of at most 300 printable ASCII characters: below the 1 MiB of a line
_MAX_COMPLAINT: Final = 1000

_log = logging.getLogger("dataplane.discovery")


class StreamError(Exception):
    """The stream cannot go on; the message says why."""


class Discovery:
    """The client of the config stream; `run` is to be run as one task for the proxy's whole life.

    `chance` is a number in [0, 1). A stream on which nothing arrives for `dead_seconds` is given up;
    a ping every `ping_seconds` makes the controller say something.
    """

    def __init__(
        self,
        settings: Settings,
        state: State,
        identity: Identity,
        version: str,
        chance: Callable[[], float],
        ping_seconds: float = 5.0,
        dead_seconds: float = 15.0,
    ) -> None:
        self.streams = 0
        """Streams opened so far."""
        self.applied = 0
        """Updates applied so far."""
        self.refused = 0
        """Updates refused (nack) so far."""
        self._settings = settings
        self._state = state
        self._identity = identity
        self._version = version
        self._chance = chance
        self._ping_seconds = ping_seconds
        self._dead_seconds = dead_seconds
        self._writer: asyncio.StreamWriter | None = None
        self._behind = False  # an update was refused: later deltas build on what we do not have
        self._on_update: list[Callable[[Mapping[str, Any]], None]] = []
        self._on_message: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        self._on_end: list[Callable[[], None]] = []
        state.on_subscriptions(self._subscriptions_changed)

    def on_update(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `callback(update)` with every update after it was applied, before it is acknowledged."""
        self._on_update.append(callback)

    def on_message(self, kind: str, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Hand messages of a type that is none of the config's to `callback`."""
        self._on_message[kind] = callback

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever a stream has ended."""
        self._on_end.append(callback)

    def say(self, **message: object) -> None:
        """Send a message on the current stream; without one it is dropped."""
        self._send(**message)

    async def run(self) -> None:
        """Keep a stream open, for ever."""
        backoff = Backoff(FIRST_BACKOFF, LAST_BACKOFF, self._chance)
        while True:
            applied = self.applied
            try:
                await self._stream()
            except (OSError, StreamError, NotTheController) as error:  # ssl.SSLError is an OSError
                _log.warning("config stream: %s", _describe(error))
            if self.applied > applied:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _stream(self) -> None:
        settings = self._settings
        reader, writer = await self._connect()
        try:
            check_controller(writer.get_extra_info("peercert"), settings.controller_identity)
            self._open(writer)
            while True:
                self._receive(await self._line(reader))
        finally:
            self._writer = None
            self._state.connected = False
            writer.transport.abort()
            for callback in self._on_end:
                callback()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(
                    self._settings.controller,
                    self._settings.discovery_port,
                    ssl=self._identity.controller_context,
                    limit=MAX_LINE,
                )
        except TimeoutError:
            raise StreamError(f"no connection within {CONNECT_SECONDS:g} s") from None

    def _open(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._behind = False
        self._state.connected = True
        self.streams += 1
        keys = self._state.subscriptions
        self._send(
            type="hello",
            protocol=PROTOCOL,
            pod=self._settings.pod_name,
            version=self._version,
            subscriptions=keys[:_KEYS_PER_MESSAGE],
        )
        self._subscriptions_changed(keys[_KEYS_PER_MESSAGE:], ())
        self._ping(writer)

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._dead_seconds):
                line = await reader.readline()
        except TimeoutError:
            raise StreamError(f"nothing arrived for {self._dead_seconds:g} s") from None
        except ValueError:
            raise StreamError(f"a line is longer than {MAX_LINE} bytes") from None
        if not line.endswith(b"\n"):
            raise StreamError("the controller closed it")
        return line

    def _receive(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise StreamError("a line is not JSON") from None
        if not isinstance(message, dict):
            raise StreamError("a line is not a JSON object")
        kind = message.get("type")
        if kind == "update":
            self._update(message)
        elif kind == "error":
            raise StreamError(f"the controller says: {str(message.get('message'))[:_MAX_COMPLAINT]}")
        elif isinstance(kind, str) and kind in self._on_message:
            self._on_message[kind](message)
        elif kind != "pong":
            _log.debug("ignoring a message of type %.40r of a newer controller", kind)

    def _update(self, message: dict[str, Any]) -> None:
        revision = message.get("revision")
        if self._behind and message.get("full") is not True:
            raise StreamError(f"revision {revision} builds on one that was refused; asking for all of it")
        try:
            self._state.apply(message)
        except CodecError as error:
            self.refused += 1
            self._behind = True
            _log.error("revision %s refused, keeping %d: %s", revision, self._state.revision, error)
            self._send(type="nack", revision=revision, error=str(error)[:_MAX_COMPLAINT])
            return
        self._behind = False
        self.applied += 1
        for callback in self._on_update:
            callback(message)
        _log.debug("running revision %d", self._state.revision)
        self._send(type="ack", revision=self._state.revision)

    def _subscriptions_changed(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        for kind, keys in (("subscribe", added), ("unsubscribe", removed)):
            for start in range(0, len(keys), _KEYS_PER_MESSAGE):
                self._send(type=kind, keys=keys[start : start + _KEYS_PER_MESSAGE])

    def _ping(self, writer: asyncio.StreamWriter) -> None:
        """Ping now and again later, as long as `writer` is the current stream's."""
        if self._writer is not writer:
            return
        self._send(type="ping")
        asyncio.get_running_loop().call_later(self._ping_seconds, self._ping, writer)

    def _send(self, **message: object) -> None:
        """Queue one message on the current stream, if there is one: hello repeats what matters."""
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            return
        writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        if writer.transport.get_write_buffer_size() > _MAX_UNSENT:
            _log.warning("config stream: the controller does not read")
            writer.transport.abort()


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
