"""What a port's manifest says is spoken there, and that the page says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.compile.protocols import spoken
from smi.policy.snapshot import Protocol

PAGE = Path(__file__).parents[3] / "docs" / "tcp.md"
HTTP = {Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC}
OPAQUE = {Protocol.TCP, Protocol.TLS}


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("http-web", Protocol.HTTP),
        ("HTTP-Web", Protocol.HTTP),
        ("http2-api", Protocol.HTTP2),
        ("grpc-api", Protocol.GRPC),
        ("tcp-db", Protocol.TCP),
        ("tls-db", Protocol.TLS),
        ("https-admin", Protocol.TLS),
        ("mysql", Protocol.TCP),
        ("mysql-main", Protocol.TCP),
        ("mongo-0", Protocol.TCP),
        ("mongodb", Protocol.TCP),
        ("redis-cache", Protocol.TCP),
        ("postgres", Protocol.TCP),
        ("postgresql-ro", Protocol.TCP),
        ("smtp-relay", Protocol.TCP),
        ("", Protocol.DETECT),
        ("web", Protocol.DETECT),
        ("httpweb", Protocol.DETECT),
        ("my-http", Protocol.DETECT),
    ],
)
def test_names(name: str, protocol: Protocol) -> None:
    assert spoken("TCP", name) is protocol
    assert spoken("UDP", name) is Protocol.UDP
    assert spoken("TCP", name, "http") is Protocol.HTTP  # appProtocol wins
    assert spoken("TCP", name, "example.com/own") is Protocol.TCP


def test_udp_is_the_transport() -> None:
    assert spoken("UDP", "udp-dns") is Protocol.UDP
    assert spoken("UDP", "http-quic", "http") is Protocol.UDP


def test_the_page_says_the_same() -> None:
    rows = dict(
        re.findall(r"^\| (`appProtocol`|name, [^|]*) \|(.*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    )
    assert len(rows) == 2
    for head, row in rows.items():
        http, opaque, _ = (re.findall(r"`([^`]+)`", cell) for cell in row.split("|"))
        assert len(http) > 2
        assert len(opaque) > 2
        for names, wanted in ((http, HTTP), (opaque, OPAQUE)):
            for name in names:
                found = spoken("TCP", "", name) if head == "`appProtocol`" else spoken("TCP", f"{name}-x")
                assert found in wanted, name
