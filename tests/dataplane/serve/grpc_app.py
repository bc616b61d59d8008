"""A gRPC service without generated code: bytes in, bytes out, all four kinds of call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

SERVICE = "shop.Echo"


async def _unary(request: bytes, context: Any) -> bytes:
    if request == b"fail":
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    if request == b"sleep":
        await asyncio.sleep(30)
    context.set_trailing_metadata((("x-trailer", "yes"),))
    return request


async def _down(request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


async def _up(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return b"%d" % sum([len(request) async for request in requests])


async def _both(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def start(host: str) -> tuple[grpc.aio.Server, int]:
    """Serve at an ephemeral port of `host`."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 1 << 25)])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Down": grpc.unary_stream_rpc_method_handler(_down),
        "Up": grpc.stream_unary_rpc_method_handler(_up),
        "Both": grpc.stream_stream_rpc_method_handler(_both),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    return server, port


def channel(address: tuple[str, int], authority: str) -> grpc.aio.Channel:
    """A channel through the proxy at `address` to `authority`."""
    options = [
        ("grpc.default_authority", authority),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", 1 << 25),
    ]
    return grpc.aio.insecure_channel(f"{address[0]}:{address[1]}", options=options)
