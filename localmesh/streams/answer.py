"""An HTTP answer read off a bare connection: for requests that ask for another protocol, where an HTTP client
would keep the connection to itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

import httptools

MAX_HEAD: Final = 64 * 1024
CHUNK: Final = 64 * 1024


class AnswerError(ValueError):
    """The other side does not answer in HTTP."""


class Answer:
    """Reads one answer; `head` first, then `body` unless `upgraded`. Informational answers are skipped."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.status = 0
        self.reason = ""
        self.headers: list[tuple[str, str]] = []
        self.upgraded = False
        """The answer was 101: what follows its head is not HTTP."""
        self.rest = b""
        """Bytes behind the head of a 101."""
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._head_read = False
        self._complete = False

    async def head(self) -> None:
        """Raises AnswerError, OSError."""
        read = 0
        while not self._head_read:
            data = await self._reader.read(CHUNK)
            read += len(data)
            if not data:
                raise AnswerError("the connection was closed before an answer came")
            self._feed(data)
            if not self._head_read and read > MAX_HEAD:
                raise AnswerError(f"the head of the answer is longer than {MAX_HEAD} bytes")

    async def body(self) -> bytes:
        """The next piece, b"" at the end. Raises AnswerError, OSError."""
        while not self._chunks and not self._complete:
            data = await self._reader.read(CHUNK)
            if not data:
                self._complete = True  # a body without a length ends with its connection
                return b""
            self._feed(data)
        data, self._chunks = b"".join(self._chunks), []
        return data

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as change:
            self.upgraded = self._head_read = True
            self.rest = data[change.args[0] :]
        except httptools.HttpParserError as error:
            if self._complete:
                return  # what follows a whole answer is nobody's
            raise AnswerError(f"not an HTTP answer: {error}") from error

    # --- as httptools calls it ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self._head_read:
            self.reason, self.headers = "", []

    def on_status(self, reason: bytes) -> None:
        if not self._head_read:
            self.reason += reason.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_read:  # else it is a trailer
            self.headers.append((name.decode("latin-1"), value.decode("utf-8", "surrogateescape")))

    def on_headers_complete(self) -> None:
        if not self._head_read:
            self.status = int(self._parser.get_status_code())
            self._head_read = self.status >= 200 or self.status == 101

    def on_body(self, data: bytes) -> None:
        if not self._complete:
            self._chunks.append(data)

    def on_message_complete(self) -> None:
        self._complete = self._head_read
