"""Cluster DNS: the zone of a ServiceTable, and a small authoritative server for it.

`Zone` is pure (names → answers), `answer` is pure (query bytes → reply bytes), `DnsServer` has the sockets.
Names outside the cluster get NXDOMAIN: pods have no way out of the machine. Record layout follows the
Kubernetes "DNS-Based Service Discovery" specification 1.1; wire format RFC 1035, EDNS sizes RFC 6891.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from localmesh.node.services import ServiceName, ServiceTable

A, CNAME, SOA, PTR, AAAA, SRV, OPT, ANY = 1, 5, 6, 12, 28, 33, 41, 255
NOERROR, FORMERR, NXDOMAIN, NOTIMP = 0, 1, 3, 4
TTL: Final = 5
_HEADER: Final = struct.Struct("!HHHHHH")
MAX_TCP_IDLE_S: Final = 10.0
MAX_UDP: Final = 4096


@dataclass(frozen=True, slots=True)
class Record:
    kind: int
    value: str
    """An address, or a name without trailing dot."""
    port: int = 0
    """SRV only."""


@dataclass(frozen=True, slots=True)
class Zone:
    """Records by lower-case absolute name without trailing dot. A name with () exists without records."""

    domain: str
    records: dict[str, tuple[Record, ...]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[Record, ...] | None:
        """Records of `name`; None = no such name."""
        found = self.records.get(name)
        if found is not None:
            return found
        return self._pod(name)

    def covers(self, name: str) -> bool:
        return name == self.domain or name.endswith("." + self.domain)

    def _pod(self, name: str) -> tuple[Record, ...] | None:
        """`10-244-0-5.<namespace>.pod.<domain>` says its own answer."""
        labels = name.removesuffix("." + self.domain).split(".")
        if len(labels) != 3 or labels[2] != "pod":
            return None
        try:
            return (Record(A, str(ipaddress.IPv4Address(labels[0].replace("-", ".")))),)
        except ValueError:
            return None


def build_zone(table: ServiceTable, domain: str) -> Zone:
    records: dict[str, list[Record]] = {}

    def add(name: str, *found: Record) -> None:
        records.setdefault(name.lower(), []).extend(found)
        while "." in name and name != domain:  # empty non-terminals exist (RFC 8020)
            name = name.partition(".")[2]
            records.setdefault(name.lower(), [])

    for service in table.names:
        _add_service(service, f"{service.service}.{service.namespace}.svc.{domain}", add)
    return Zone(domain, {name: tuple(dict.fromkeys(found)) for name, found in records.items()})


def _add_service(service: ServiceName, name: str, add: Callable[..., None]) -> None:
    if service.external:
        add(name, Record(CNAME, service.external.rstrip(".").lower()))
        return
    if service.address:
        add(name, Record(A, service.address))
        add(_reverse(service.address), Record(PTR, name))
        for port, protocol, number in service.ports:
            add(f"_{port}._{protocol}.{name}", Record(SRV, name, number))
        return
    if service.ready:
        add(name, *(Record(A, address) for address in service.ready))
    named = {address: host for host, address in service.hosts}
    for address in service.ready:
        label = named.get(address) or address.replace(".", "-")
        add(f"{label}.{name}", Record(A, address))
        add(_reverse(address), Record(PTR, f"{label}.{name}"))
        for port, protocol, number in service.ports:
            add(f"_{port}._{protocol}.{name}", Record(SRV, f"{label}.{name}", number))


def _reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


# --- wire format ---------------------------------------------------------------------------------


def encode_name(name: str) -> bytes:
    out = bytearray()
    for label in name.split(".") if name else ():
        raw = label.encode("ascii")
        if not 0 < len(raw) < 64:
            raise ValueError(f"bad label in {name!r}")
        out += bytes((len(raw),)) + raw
    return bytes(out) + b"\0"


def read_name(message: bytes, offset: int) -> tuple[str, int]:
    """A possibly compressed name and the offset behind it. Raises ValueError."""
    labels: list[str] = []
    end = -1
    jumps = 0
    while True:
        if offset >= len(message):
            raise ValueError("name runs off the message")
        length = message[offset]
        if length & 0xC0 == 0xC0:
            if offset + 1 >= len(message) or (jumps := jumps + 1) > 16:
                raise ValueError("bad compression pointer")
            end = offset + 2 if end < 0 else end
            offset = (length & 0x3F) << 8 | message[offset + 1]
            continue
        if length & 0xC0:
            raise ValueError("bad label length")
        offset += 1
        if length == 0:
            return ".".join(labels), end if end >= 0 else offset
        label = message[offset : offset + length]
        if len(label) < length or len(labels) > 127:
            raise ValueError("name too long")
        labels.append(label.decode("ascii", errors="strict"))
        offset += length


def _encoded(name: bytes, record: Record) -> bytes:
    if record.kind == A:
        data = ipaddress.IPv4Address(record.value).packed
    elif record.kind == SRV:
        data = struct.pack("!HHH", 0, 100, record.port) + encode_name(record.value)
    else:
        data = encode_name(record.value)
    return name + struct.pack("!HHIH", record.kind, 1, TTL, len(data)) + data


def _authority(domain: str) -> bytes:
    """SOA of the zone, which makes a negative answer cacheable for TTL seconds (RFC 2308)."""
    data = encode_name("ns.dns." + domain) + encode_name("hostmaster." + domain)
    data += struct.pack("!IIIII", 1, 7200, 1800, 86400, TTL)
    return encode_name(domain) + struct.pack("!HHIH", SOA, 1, TTL, len(data)) + data


def _udp_size(message: bytes, offset: int, additional: int) -> int:
    """What the client takes over UDP: the OPT record's size, else 512."""
    for _ in range(additional):
        _, offset = read_name(message, offset)
        kind, size, _, length = struct.unpack_from("!HHIH", message, offset)
        if kind == OPT:
            return min(max(int(size), 512), MAX_UDP)
        offset += 10 + length
    return 512


def answer(
    message: bytes, zone: Zone, *, udp: bool, shuffle: Callable[[list[Record]], None] | None = None
) -> bytes | None:
    """The reply to one query; None for what deserves none (not a query, too short)."""
    if len(message) < 12:
        return None
    ident, flags, questions, _, _, additional = _HEADER.unpack_from(message)
    if flags & 0x8000:
        return None
    echo = flags & 0x0100  # recursion desired
    try:
        if questions != 1:
            raise ValueError("exactly one question is expected")
        name, end = read_name(message, 12)
        kind, class_ = struct.unpack_from("!HH", message, end)
        limit = _udp_size(message, end + 4, additional) if udp else 65535
    except (ValueError, struct.error, UnicodeDecodeError):
        return _HEADER.pack(ident, 0x8080 | echo | FORMERR, 0, 0, 0, 0)
    question = message[12 : end + 4]
    if flags & 0x7800 or class_ != 1:
        return _HEADER.pack(ident, 0x8080 | echo | NOTIMP, 1, 0, 0, 0) + question
    code, found = _resolve(zone, name.lower(), kind)
    if shuffle is not None:
        shuffle(found)
    body = b"".join(_encoded(b"\xc0\x0c", record) for record in found)
    authority = _authority(zone.domain) if not found else b""
    head = 0x8080 | 0x0400 | echo | code
    reply = _HEADER.pack(ident, head, 1, len(found), 1 if authority else 0, 0) + question + body + authority
    if len(reply) > limit:
        return _HEADER.pack(ident, head | 0x0200, 1, 0, 0, 0) + question
    return reply


def _resolve(zone: Zone, name: str, kind: int) -> tuple[int, list[Record]]:
    records = zone.find(name)
    if records is None:
        return (NOERROR if name == zone.domain else NXDOMAIN), []
    alias = [record for record in records if record.kind == CNAME]
    if alias:
        return NOERROR, alias
    return NOERROR, [record for record in records if kind in (record.kind, ANY)]


class DnsServer:
    """Serves the current `zone` on given sockets (UDP and TCP)."""

    def __init__(self, domain: str) -> None:
        self.zone = Zone(domain)
        self._random = random.Random()  # noqa: S311 (rotation of answers, not a secret)
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self, udp: socket.socket, tcp: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._server = await asyncio.start_server(self._converse, sock=tcp)

    def reply(self, message: bytes, *, udp: bool) -> bytes | None:
        return answer(message, self.zone, udp=udp, shuffle=self._random.shuffle)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(MAX_TCP_IDLE_S):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    message = await reader.readexactly(length)
                reply = self.reply(message, udp=False)
                if reply is None:
                    return
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return  # the client is done, or gone
        finally:
            writer.close()

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            "asyncio.DatagramTransport", transport
        )  # asyncio's own class does not inherit it

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._server.reply(data, udp=True)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)
