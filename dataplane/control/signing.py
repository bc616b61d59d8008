"""One call of the controller's signing endpoint: `POST /v1/sign`, and the making of a key for it.

A minimal HTTP/1.1 client for exactly this exchange, so that the start path needs no HTTP library.
The token and the key are arguments and results only: nothing here logs, keeps or prints them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httptools

from dataplane.control.peer import NotTheController, check_controller

MAX_ANSWER: Final = 1 << 20
"""Bytes of a signing answer; certificates and a bundle are a few kB."""
_MAX_KEY_OUTPUT: Final = 1 << 16
_REQUEST_BEGIN: Final = b"-----BEGIN CERTIFICATE REQUEST-----"


class SigningError(Exception):
    """No certificate this time; the message says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class Key:
    """A private key (PEM, kept out of every repr) and the request that belongs to it."""

    private: bytes = field(repr=False)
    request: str


@dataclass(frozen=True, slots=True)
class Signed:
    """What the controller answered: leaf and intermediates, bundle, end of validity (Unix seconds)."""

    certificates: str
    trust_bundle: str
    not_after: float


async def make_key(seconds: float) -> Key:
    """Make a key in a short-lived process (see `keys`). Raises SigningError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dataplane.control.keys",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, complaint = await process.communicate()
    except TimeoutError:
        raise SigningError(f"no private key within {seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    private, begin, request = out[:_MAX_KEY_OUTPUT].partition(_REQUEST_BEGIN)
    if process.returncode != 0 or not begin:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:]
        raise SigningError(f"the key process ended with {process.returncode}: {' '.join(last)[:300]}")
    return Key(private, (begin + request).decode("ascii"))


async def sign(
    host: str, port: int, context: ssl.SSLContext, controller: str, request: str, token: str, seconds: float
) -> Signed:
    """Have `request` signed for the bearer of `token`, within `seconds`. Raises SigningError.

    `controller` is the SPIFFE id that the other side must prove before it is shown the token.
    """
    body = json.dumps({"csr": request, "token": token}).encode()
    try:
        async with asyncio.timeout(seconds):
            status, answer = await _post(host, port, context, controller, body)
    except TimeoutError:
        raise SigningError(f"no answer from {host}:{port} within {seconds:g} s") from None
    except (OSError, NotTheController) as error:  # ssl.SSLError is an OSError
        raise SigningError(f"{host}:{port}: {error}") from error
    return _read_answer(status, answer)


async def _post(
    host: str, port: int, context: ssl.SSLContext, controller: str, body: bytes
) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        check_controller(writer.get_extra_info("peercert"), controller)
        authority = f"[{host}]" if ":" in host else host
        head = (
            f"POST /v1/sign HTTP/1.1\r\nhost: {authority}:{port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            data = await reader.read(65536)
            if not data:
                break
            answer.feed(parser, data)
        return answer.finish(parser)
    finally:
        writer.transport.abort()


class _Answer:
    """Collects one HTTP response for httptools."""

    def __init__(self) -> None:
        self.complete = False
        self._body = bytearray()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self.complete = True

    def feed(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise SigningError(f"the controller's answer is not HTTP: {error}") from error
        if len(self._body) > MAX_ANSWER:
            raise SigningError(f"the controller's answer is longer than {MAX_ANSWER} bytes")

    def finish(self, parser: httptools.HttpResponseParser) -> tuple[int, bytes]:
        status = parser.get_status_code()
        if not self.complete:
            raise SigningError("the controller's answer ended early")
        return status, bytes(self._body)


def _read_answer(status: int, body: bytes) -> Signed:
    try:
        answer = json.loads(body)
    except ValueError:
        raise SigningError(f"the controller answered {status} without JSON") from None
    if not isinstance(answer, dict):
        raise SigningError(f"the controller answered {status} without a JSON object")
    if status != 200:
        raise SigningError(f"the controller refused ({status}): {str(answer.get('error'))[:300]}")
    return Signed(
        certificates=_text(answer, "certificates"),
        trust_bundle=_text(answer, "trust_bundle"),
        not_after=_unix_seconds(_text(answer, "not_after")),
    )


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise SigningError(f"the controller's answer lacks {name!r}")
    return value


def _unix_seconds(text: str) -> float:
    """RFC 3339 §5.6 to Unix seconds; raises SigningError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SigningError(f"the controller's 'not_after' is not an RFC 3339 time: {text[:40]!r}")
    return moment.timestamp()
