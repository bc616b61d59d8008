"""The proxy's end of a discovery stream, as a script: say, then expect."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any, Self

Update = dict[str, Any]


class ProxyEnd:
    """One stream. Everything that waits has a deadline of 5 s."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext) -> Self:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=16 << 20)
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def say(self, **message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    def hello(self, pod: str, *keys: str) -> None:
        self.say(type="hello", protocol=1, pod=pod, version="test", subscriptions=list(keys))

    async def hear(self) -> Update:
        async with asyncio.timeout(5):
            line = await self.reader.readuntil(b"\n")
        message: Update = json.loads(line)
        return message

    async def update(self) -> Update:
        """The next update, which is acknowledged."""
        message = await self.hear()
        assert message["type"] == "update", message
        self.say(type="ack", revision=message["revision"])
        return message

    async def ended(self) -> bool:
        """True once the server has closed the stream."""
        async with asyncio.timeout(5):
            try:
                return not await self.reader.read()
            except OSError:
                return True
