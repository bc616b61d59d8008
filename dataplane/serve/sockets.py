"""What asyncio has no words for: original destinations, resets, and what is left behind them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final, cast

from dataplane.serve.limits import Limits

_SO_ORIGINAL_DST: Final = 80  # linux/netfilter_ipv4.h; the same number in netfilter_ipv6/ip6_tables.h
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
_LEFT_BEHIND: Final = 262_144  # bytes: more than any answer to a request that was not read

# linux/tcp.h, struct tcp_info: tcpi_retransmits, tcpi_probes (bytes), tcpi_last_ack_recv (ms).
_TCP_INFO: Final = struct.Struct("=2xBB52xI")

Address = tuple[str, int]
Original = Callable[[asyncio.BaseTransport], Address | None]
"""Tells where the client of an accepted connection meant to go; None: to this listener."""


def stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """The transport of a `Protocol`, by the type it has: uvloop's do not inherit from asyncio's."""
    return cast("asyncio.Transport", transport)


class Accepted(asyncio.Protocol):
    """Lives for the moment between accept and `begin`, which chooses the connection's treatment."""

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[asyncio.Transport], None]) -> None:
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._begin(stream(transport))


def original_destination(transport: asyncio.BaseTransport) -> Address | None:
    """As `Original`, for connections that iptables redirected."""
    own = transport.get_extra_info("sockname")
    sock = transport.get_extra_info("socket")
    if own is None or sock is None:
        return None
    try:
        found = _v6(sock) if sock.family == socket.AF_INET6 else _v4(sock)
    except OSError:  # ENOENT, ENOPROTOOPT: the kernel translated nothing
        return None
    return None if found == (own[0], own[1]) else found


def reset(transport: asyncio.BaseTransport) -> None:
    """Close at once with RST instead of FIN, so that the peer sees a failure, not an end (S25)."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # already gone: nobody is left to see the difference
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    stream(transport).abort()


def keep_alive(sock: socket.socket, limits: Limits) -> None:
    """Have the kernel ask a silent peer for a sign of life, so that a host that vanished is found: ETIMEDOUT.

    What a listener accepts inherits it. While bytes wait for an acknowledgement nothing is asked (tcp(7)):
    see `unanswered`. TCP_USER_TIMEOUT would do, but it also cuts off peers that are there and do not read.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.keepalive)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.keepalive_interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, limits.keepalive_probes)


def watch(transport: asyncio.BaseTransport, limits: Limits) -> None:
    """`keep_alive` for a connection that was opened."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # already gone: there is nobody to watch
            keep_alive(sock, limits)


def must_be_read(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Give a connection up whose peer is gone, or takes nothing for so long of what was sent: ETIMEDOUT."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # already gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def unanswered(transport: asyncio.BaseTransport, seconds: float) -> bool:
    """Whether the peer has left what was sent without any acknowledgement for so long.

    A peer that is there and reads nothing acknowledges probes of its window, one every 120 s at least
    (TCP_RTO_MAX). The kernel's own patience is a quarter of an hour (tcp_retries2).
    """
    sock = transport.get_extra_info("socket")
    try:
        info = b"" if sock is None else sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # gone: its protocol hears of that by itself
        return False
    if len(info) < _TCP_INFO.size:
        return False
    retransmits, probes, silent = _TCP_INFO.unpack(info)
    return bool((retransmits or probes) and silent >= seconds * 1000)


def failure(transport: asyncio.BaseTransport) -> int:
    """errno of a connection that failed and that nobody reads (its peer has ended its side); 0 if it did not.

    To be asked only by who then ends it: SO_ERROR is told once.
    """
    sock = transport.get_extra_info("socket")
    try:
        return 0 if sock is None else int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    except OSError:  # gone: its protocol hears of that by itself
        return 0


def left_behind(transport: asyncio.BaseTransport) -> bytes:
    """What a peer had sent before it reset the connection, for a `connection_lost` after a write that failed.

    A server that refuses a body without reading it answers and closes, which resets the connection under the
    next write. Linux keeps the answer (tcp_reset), but a transport that cannot write reads no more.
    At most 256 KiB, more is given up with the rest.
    """
    sock = transport.get_extra_info("socket")
    found = bytearray()
    if sock is not None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(sock.fileno())) as same:
            while len(found) < _LEFT_BEHIND and (data := same.recv(65536, socket.MSG_DONTWAIT)):
                found += data
    return bytes(found)


def caller_address(transport: asyncio.BaseTransport) -> str:
    """The address at the other end of a connection; empty when the connection is gone already."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


def _v4(sock: socket.socket) -> Address:
    port, ip = struct.unpack("!2xH4s8x", sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16))
    return socket.inet_ntoa(ip), port


def _v6(sock: socket.socket) -> Address:
    raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
    port, ip = struct.unpack("!2xH4x16s4x", raw)
    address = IPv6Address(ip)
    return str(address.ipv4_mapped or address), port
