"""Cluster DNS: the zone, the wire format, and the server on real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmesh.node import dns
from localmesh.node.dns import AAAA, CNAME, PTR, SRV, A, Record, answer, build_zone, encode_name, read_name
from localmesh.node.services import service_table

DOMAIN = "cluster.local"


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"name": "http", "port": 80}], **spec},
    }


def piece(name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name + "-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": list(endpoints),
    }


ZONE = build_zone(
    service_table(
        [
            service("web", clusterIP="10.96.0.9"),
            service("db", clusterIP="None"),
            service("out", type="ExternalName", externalName="Example.com."),
        ],
        [
            piece(
                "db",
                {"addresses": ["10.244.0.5"], "conditions": {"ready": True}, "hostname": "db-0"},
                {"addresses": ["10.244.0.6"], "conditions": {"ready": True}},
                {"addresses": ["10.244.0.7"], "conditions": {"ready": False}},
            )
        ],
    ),
    DOMAIN,
)


def query(name: str, kind: int = A, *, size: int = 0, ident: int = 7) -> bytes:
    opt = b"\0" + struct.pack("!HHIH", dns.OPT, size, 0, 0) if size else b""
    head = struct.pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 1 if size else 0)
    return head + encode_name(name) + struct.pack("!HH", kind, 1) + opt


def parse(reply: bytes | None) -> tuple[int, list[tuple[int, bytes]]]:
    """(response code, [(type, data)])."""
    assert reply is not None
    _, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", reply)
    assert flags & 0x8400 == 0x8400
    offset = 12
    for _ in range(questions):
        _, offset = read_name(reply, offset)
        offset += 4
    found = []
    for _ in range(answers):
        _, offset = read_name(reply, offset)
        kind, _, _, length = struct.unpack_from("!HHIH", reply, offset)
        found.append((kind, reply[offset + 10 : offset + 10 + length]))
        offset += 10 + length
    return flags & 15, found


def ask(name: str, kind: int = A) -> tuple[int, list[tuple[int, bytes]]]:
    return parse(answer(query(name, kind), ZONE, udp=True))


def packed(address: str) -> bytes:
    return socket.inet_aton(address)


def test_service_name_gives_its_address_whatever_the_case() -> None:
    for name in ("web.shop.svc.cluster.local", "WEB.Shop.svc.Cluster.local"):
        assert ask(name) == (0, [(A, packed("10.96.0.9"))])


def test_headless_service_gives_its_ready_endpoints() -> None:
    code, found = ask("db.shop.svc.cluster.local")
    assert (code, sorted(found)) == (0, [(A, packed("10.244.0.5")), (A, packed("10.244.0.6"))])
    assert ask("db-0.db.shop.svc.cluster.local") == (0, [(A, packed("10.244.0.5"))])
    assert ask("10-244-0-6.db.shop.svc.cluster.local") == (0, [(A, packed("10.244.0.6"))])


def test_external_name_is_an_alias() -> None:
    assert ask("out.shop.svc.cluster.local") == (0, [(CNAME, encode_name("example.com"))])


def test_srv_and_ptr() -> None:
    target = encode_name("web.shop.svc.cluster.local")
    assert ask("_http._tcp.web.shop.svc.cluster.local", SRV) == (
        0,
        [(SRV, struct.pack("!HHH", 0, 100, 80) + target)],
    )
    assert ask("9.0.96.10.in-addr.arpa", PTR) == (0, [(PTR, target)])


def test_pod_names_say_their_address() -> None:
    assert ask("10-244-0-99.shop.pod.cluster.local") == (0, [(A, packed("10.244.0.99"))])
    assert ask("nonsense.shop.pod.cluster.local") == (3, [])


@pytest.mark.parametrize(
    "name", ["web.shop.svc.cluster.local", "shop.svc.cluster.local", "svc.cluster.local", DOMAIN]
)
def test_existing_names_without_such_records_are_empty_not_missing(name: str) -> None:
    assert ask(name, AAAA) == (0, [])


@pytest.mark.parametrize("name", ["no.shop.svc.cluster.local", "web.shop", "example.com", "localhost"])
def test_everything_else_does_not_exist(name: str) -> None:
    assert ask(name) == (3, [])


def test_large_answers_are_truncated_over_udp_and_whole_over_tcp() -> None:
    many = tuple(Record(A, f"10.1.{i // 250}.{i % 250}") for i in range(600))
    zone = dns.Zone(DOMAIN, {"big.cluster.local": many})
    short = answer(query("big.cluster.local"), zone, udp=True)
    assert short is not None
    assert struct.unpack_from("!H", short, 2)[0] & 0x0200
    edns = answer(query("big.cluster.local", size=1232), zone, udp=True)
    assert edns is not None
    assert len(edns) <= 1232
    assert len(parse(answer(query("big.cluster.local"), zone, udp=False))[1]) == 600


@given(st.binary(max_size=80))
def test_no_packet_breaks_the_server(data: bytes) -> None:
    answer(data, ZONE, udp=True)
    answer(query("web.shop.svc.cluster.local")[:12] + data, ZONE, udp=True)


@given(st.lists(st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True), max_size=4))
def test_names_round_trip(labels: list[str]) -> None:
    name = ".".join(labels)
    assert read_name(encode_name(name), 0) == (name, len(encode_name(name)))


def test_compression_loops_end() -> None:
    with pytest.raises(ValueError, match="pointer"):
        read_name(b"\xc0\x00", 0)


async def test_server_answers_on_udp_and_tcp() -> None:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    tcp = socket.create_server(("127.0.0.1", 0))
    for made in (udp, tcp):
        made.setblocking(False)
    server = dns.DnsServer(DOMAIN)
    server.zone = ZONE
    tcp_port, udp_address = tcp.getsockname()[1], udp.getsockname()
    await server.start(udp, tcp)
    message = query("web.shop.svc.cluster.local")
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(client, message, udp_address)
    assert parse(await asyncio.wait_for(loop.sock_recv(client, 4096), 2))[1] == [(A, packed("10.96.0.9"))]
    client.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", tcp_port)
    for _ in range(2):  # several questions on one connection
        writer.write(struct.pack("!H", len(message)) + message)
        (length,) = struct.unpack("!H", await asyncio.wait_for(reader.readexactly(2), 2))
        assert parse(await reader.readexactly(length))[1] == [(A, packed("10.96.0.9"))]
    writer.close()
    await writer.wait_closed()
    await server.close()
