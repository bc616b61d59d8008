"""Another server's HTTP answer, passed on as it comes."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import aiohttp
from aiohttp import web

log = logging.getLogger(__name__)


async def relay(
    request: web.BaseRequest, answer: aiohttp.ClientResponse, headers: Iterable[tuple[str, str]]
) -> web.StreamResponse:
    """Answer `request` with status and body of `answer`, and with `headers` (none of the connection's)."""
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in headers:
        response.headers.add(name, value)
    if "Content-Length" not in answer.headers and request.method != "HEAD":
        response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (ConnectionResetError, ConnectionAbortedError):
        pass  # the client went away; there is nobody to tell
    except aiohttp.ClientError as error:
        # The status line is long gone: only a broken connection tells the client that this is not all.
        log.warning("an answer from %s broke off: %s", answer.url, error)
        if request.transport is not None:
            request.transport.abort()
    return response
