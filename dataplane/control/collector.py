"""One collector of spans: bodies are POSTed to its URL over one connection that is kept.

A minimal HTTP/1.1 client for exactly this, so that the sidecar needs no HTTP library. Every step has one
deadline; what is read of an answer is bounded. Request fields may be secret: nothing here logs or prints
them.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

import httptools

from dataplane.settings import CollectorUrl

MAX_ANSWER: Final = 1 << 16
"""Bytes of an answer."""


class CollectorError(Exception):
    """No answer this time; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the collector said."""

    status: int
    body: bytes
    retry_after: float
    """Seconds it asks to be left alone; 0: it does not."""


class Collector:
    """Where spans go. `fields`: more of every request's head; `ca`: PEM, trusted alone if not empty."""

    def __init__(
        self, url: CollectorUrl, content_type: str, fields: tuple[tuple[str, str], ...], ca: str
    ) -> None:
        self.url = url
        self._ca = ca
        self._context: ssl.SSLContext | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self._head = (
            f"POST {url.path} HTTP/1.1\r\nhost: {url.authority}\r\ncontent-type: {content_type}\r\n"
            f"user-agent: smi-mesh\r\n{lines}"
        )

    async def post(self, body: bytes, *, gzip: bool, seconds: float) -> Answer:
        """Send one body within `seconds`. Raises CollectorError.

        A kept connection that turns out to be closed is replaced by a new one, once.
        """
        coding = "content-encoding: gzip\r\n" if gzip else ""
        block = f"{self._head}{coding}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body
        try:
            async with asyncio.timeout(seconds):
                kept = self._streams is not None
                answer = await self._exchange(block)
                if answer is None and kept:
                    answer = await self._exchange(block)
        except TimeoutError:
            self.close()
            raise CollectorError(f"no answer within {seconds:g} s") from None
        except (OSError, httptools.HttpParserError) as error:  # ssl.SSLError is an OSError
            self.close()
            raise CollectorError(str(error) or type(error).__name__) from error
        except asyncio.CancelledError:
            self.close()
            raise
        if answer is None:
            raise CollectorError("the connection was closed before there was an answer")
        return answer

    def close(self) -> None:
        """Give up the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()

    async def _exchange(self, block: bytes) -> Answer | None:
        """One request and its answer; None if the connection ended before a byte of it."""
        if self._streams is None:
            self._streams = await self._connect()
        reader, writer = self._streams
        heard = _Heard()
        heard.parser = parser = httptools.HttpResponseParser(heard)
        began = False
        try:
            writer.write(block)
            await writer.drain()
            while not heard.complete:
                data = await reader.read(MAX_ANSWER)
                if not data:
                    break
                began = True
                parser.feed_data(data)
                if len(heard.body) > MAX_ANSWER:
                    raise CollectorError(f"its answer is longer than {MAX_ANSWER} bytes")
        except ConnectionError:
            if began:
                raise
        if not began:
            self.close()
            return None
        if not heard.complete:
            raise ConnectionError("the answer ended early")
        if not heard.keeps:
            self.close()
        return Answer(parser.get_status_code(), bytes(heard.body), heard.retry_after)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = self.url
        if not url.secure:
            return await asyncio.open_connection(url.host, url.port)
        if self._context is None:  # reading a bundle of roots takes a while
            self._context = await asyncio.to_thread(_trusting, self._ca)
        return await asyncio.open_connection(url.host, url.port, ssl=self._context)


def _trusting(ca: str) -> ssl.SSLContext:
    """A client's context that trusts `ca` alone, or the system's roots if it is empty."""
    context = ssl.create_default_context(cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Heard:
    """Collects one response for httptools."""

    def __init__(self) -> None:
        self.parser: httptools.HttpResponseParser | None = None
        self.complete = False
        self.keeps = False
        self.body = bytearray()
        self.retry_after = 0.0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit():  # a date is not worth a parser
            self.retry_after = float(value[:6])

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
        assert self.parser is not None
        self.keeps = self.parser.should_keep_alive()  # the parser knows it only now
