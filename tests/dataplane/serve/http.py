"""The plainest HTTP/1.1 there is: a client that writes bytes and reads messages, and small servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from dataplane.serve.sockets import reset
from tests.dataplane.waiting import DEADLINE


@dataclass(slots=True)
class Message:
    """A message as it was on the wire."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes
    raw: bytes

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def get(self, name: str) -> str | None:
        values = [value for key, value in self.fields if key == name]
        return ", ".join(values) if values else None


async def read_message(
    reader: asyncio.StreamReader, *, head_only: bool = False, until_close: bool = False
) -> Message:
    """Read one message by its own framing."""
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = []
    for line in lines:
        name, _, value = line.partition(":")
        fields.append((name.lower(), value.strip()))
    message = Message(start, fields, b"", head)
    status = message.status if start.startswith("HTTP/") else 0
    if head_only or 100 <= status < 200 or status in (204, 304):
        return message
    if message.get("transfer-encoding") is not None:
        message.body = await _read_chunks(reader, message)
    elif message.get("content-length") is not None:
        message.body = await reader.readexactly(int(message.get("content-length") or 0))
    elif until_close:
        message.body = await reader.read()
    return message


async def _read_chunks(reader: asyncio.StreamReader, message: Message) -> bytes:
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        message.raw += line
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while True:
                line = await reader.readuntil(b"\r\n")
                message.raw += line
                if line == b"\r\n":
                    return body
                name, _, value = line.decode("latin-1").partition(":")
                message.fields.append((f"trailer:{name.lower()}", value.strip()))
        chunk = await reader.readexactly(size + 2)
        message.raw += chunk
        body += chunk[:-2]


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: tuple[str, int], receive_buffer: int = 0, **tls: Any) -> Self:
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError:
            sock.close()
            raise
        return cls(*await asyncio.open_connection(sock=sock, limit=1 << 20, **tls))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def receive(self, *, head_only: bool = False, until_close: bool = False) -> Message:
        async with asyncio.timeout(DEADLINE):
            return await read_message(self.reader, head_only=head_only, until_close=until_close)

    async def ask(self, data: bytes, *, head_only: bool = False) -> Message:
        self.send(data)
        return await self.receive(head_only=head_only)

    async def read(self, size: int) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readexactly(size)

    async def closed(self) -> bytes:
        """Everything up to the server's end of the connection."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Leave without a goodbye: a FIN alone could also mean that only requests have ended."""
        reset(self.writer.transport)


def get(host: str, path: str = "/", *fields: str, method: str = "GET") -> bytes:
    """An absolute-form request without body, as for an explicit proxy."""
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()


Answer = Callable[[Message], bytes | Awaitable[bytes]]


class Echo:
    """A server that answers every request by `answer`, 200 with its own name by default."""

    def __init__(self, name: str = "app", answer: Answer | None = None) -> None:
        self.name = name
        self.seen: list[Message] = []
        self.connections = 0
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            message = await read_message(reader)
            self.seen.append(message)
            answer = self._answer(message) if self._answer else plain(self.name)
            if not isinstance(answer, bytes):
                answer = await answer
            writer.write(answer)
            await writer.drain()


def plain(text: str, status: str = "200 OK", *fields: str) -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n{lines}\r\n{text}".encode()
