"""UDP sockets: intercepted datagrams with their original destination, and answers that seem to come from it.

Interception is TPROXY (`dataplane.intercept`): the packet reaches our listener unchanged, and the
kernel tells where it was going. An answer must carry that address as its source, which may be a
Service's or another pod's: it is written to a raw socket with its IP and UDP headers. Both need
CAP_NET_RAW when they are made and nothing afterwards, so `main` opens them first of all and then
gives every capability up.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

from dataplane.core.outbound import Plan
from dataplane.serve.sockets import Address
from dataplane.wire.datagrams import MAX_PAYLOAD
from smi.policy.access import Permit

_IP_TRANSPARENT: Final = 19  # linux/in.h
_IP_RECVORIGDSTADDR: Final = 20  # linux/in.h; also the type of the control message
_RECEIVE_BUFFER: Final = 1 << 20
BATCH: Final = 64
"""Datagrams taken from one socket, or one connection, before others get their turn."""
_IP_HEADER: Final = struct.Struct("!BBHHHBBH4s4s")
_UDP_HEADER: Final = struct.Struct("!HHHH")
_TTL: Final = 64

# Why a datagram is dropped, besides the reasons of denials and outcomes: a closed set, for the metric.
QUEUE_FULL: Final = "queue-full"
REFUSED: Final = "refused"
"""Nobody listens on the port (ICMP port unreachable)."""
UNREACHABLE: Final = "unreachable"
FLOW_TABLE_FULL: Final = "flow-table-full"
REPLY_FAILED: Final = "reply-failed"
LOOP: Final = "loop"
"""Meant for a listener of the proxy itself."""
UNKNOWN_FLOW: Final = "unknown-flow"
"""An answer to a flow that has been forgotten."""
BAD_FRAME: Final = "bad-frame"

Reply = Callable[[Address, Address, bytes], bool]
"""(source, to, payload): sends a datagram that seems to come from `source`; False if it was not taken."""
OnDatagram = Callable[[Address, Address, bytes], None]
"""(from, original destination, payload)."""


class Intercepted:
    """The three sockets that interception needs. Made by `open_intercepted`, before the loop runs."""

    __slots__ = ("inbound", "outbound", "raw")

    def __init__(self, outbound: socket.socket, inbound: socket.socket, raw: socket.socket) -> None:
        self.outbound = outbound
        self.inbound = inbound
        self.raw = raw

    def close(self) -> None:
        for sock in (self.outbound, self.inbound, self.raw):
            sock.close()


def open_intercepted(
    host: str, outbound_port: int, inbound_port: int, *, shared: bool = False
) -> Intercepted:
    """Open them. Raises OSError: PermissionError without CAP_NET_RAW.

    `shared`: others on these ports follow or came before; the kernel gives each flow to one of them.
    """
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    raw.setblocking(False)
    outbound: socket.socket | None = None
    try:
        outbound = _transparent(host, outbound_port, shared=shared)
        return Intercepted(outbound, _transparent(host, inbound_port, shared=shared), raw)
    except OSError:
        raw.close()
        if outbound is not None:
            outbound.close()
        raise


def _transparent(host: str, port: int, *, shared: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_IP, _IP_RECVORIGDSTADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno, f"cannot intercept UDP on {host}:{port}: {error.strerror} (it takes CAP_NET_RAW)"
        ) from error
    return sock


class Listener:
    """Reads one intercepting socket until `close`."""

    __slots__ = ("_buffer", "_loop", "_on_datagram", "_sock", "_view")

    def __init__(self, sock: socket.socket, on_datagram: OnDatagram) -> None:
        self._sock = sock
        self._on_datagram = on_datagram
        self._buffer = bytearray(MAX_PAYLOAD + 1)
        self._view = memoryview(self._buffer)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                size, control, _, source = self._sock.recvmsg_into(
                    [self._buffer], socket.CMSG_SPACE(_IP_HEADER.size)
                )
            except OSError:  # nothing left, or an ICMP error that concerns no flow of ours
                return
            original = _original(control)
            if original is not None:
                self._on_datagram(source, original, bytes(self._view[:size]))


def _original(control: list[tuple[int, int, bytes]]) -> Address | None:
    for level, kind, data in control:
        if level == socket.SOL_IP and kind == _IP_RECVORIGDSTADDR and len(data) >= 8:
            return socket.inet_ntoa(data[4:8]), int.from_bytes(data[2:4], "big")
    return None


class Replies:
    """Sends datagrams from any source address."""

    __slots__ = ("_raw",)

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    def send(self, source: Address, to: Address, payload: bytes) -> bool:
        """False where the kernel would not take it (its buffer is full, or it exceeds the route's MTU)."""
        try:
            self._raw.sendto(packet(source, to, payload), (to[0], 0))
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._raw.close()


def packet(source: Address, to: Address, payload: bytes) -> bytes:
    """An IPv4 packet with one UDP datagram. The kernel fills in length, identification and checksum of the
    IP header (raw(7)); a UDP checksum of 0 means none (RFC 768), and these packets stay on the host
    but for those to plain-text callers of a permissive namespace."""
    ip = _IP_HEADER.pack(
        0x45,
        0,
        0,
        0,
        0,
        _TTL,
        socket.IPPROTO_UDP,
        0,
        socket.inet_aton(source[0]),
        socket.inet_aton(to[0]),
    )
    return ip + _UDP_HEADER.pack(source[1], to[1], _UDP_HEADER.size + len(payload), 0) + payload


class Conversation:
    """A connected UDP socket of one flow: only its peer's datagrams arrive."""

    __slots__ = ("_loop", "_on_datagram", "_on_refused", "_sock")

    def __init__(
        self,
        sock: socket.socket,
        on_datagram: Callable[[bytes], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._on_datagram = on_datagram
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    def send(self, payload: bytes) -> str:
        """ "" if it was sent, else the reason it was dropped for."""
        try:
            self._sock.send(payload)
        except BlockingIOError:
            return QUEUE_FULL
        except ConnectionRefusedError:  # says that an earlier datagram found no listener
            return REFUSED
        except OSError:
            return UNREACHABLE
        return ""

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _readable(self) -> None:
        for _ in range(BATCH):
            if self._sock.fileno() < 0:  # a callback closed it
                return
            try:
                payload = self._sock.recv(MAX_PAYLOAD + 1)
            except BlockingIOError:
                return
            except OSError:  # ICMP: nobody listens there
                self._on_refused()
                return
            self._on_datagram(payload)


def to_app(_permit: Permit, host: str, port: int) -> socket.socket:
    """A socket to the app's UDP port. A Permit is the leave to reach it. Raises OSError."""
    return _connected(host, port)


def to_server(plan: Plan) -> socket.socket:
    """A socket to a server that no sidecar stands before. Raises OSError."""
    return _connected(plan.endpoint.ip, plan.endpoint.port)


def _connected(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock
