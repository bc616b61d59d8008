"""The server name of real ClientHellos, however cut, and of what only looks like one."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.client_hello import MAX_HELLO, server_name


def hello(name: str | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *alpn: str) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_real_clients(version: ssl.TLSVersion) -> None:
    assert server_name(hello("api.example.com", version)) == "api.example.com"
    assert server_name(hello("API.Example.COM", version, "h2", "http/1.1")) == "api.example.com"
    assert server_name(hello(None, version)) == ""


def test_it_is_known_as_soon_as_the_message_is_there_and_not_before() -> None:
    data = hello("db.shop")
    assert {server_name(data[:end]) for end in range(len(data))} == {None}
    assert server_name(data + b"more") == "db.shop"


def test_a_message_in_several_records() -> None:
    data = hello("db.shop")
    body = data[5:]
    records = [body[at : at + 50] for at in range(0, len(body), 50)]
    cut = b"".join(b"\x16\x03\x01" + len(record).to_bytes(2) + record for record in records)
    assert server_name(cut) == "db.shop"
    assert server_name(cut[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x01\0\x05\x01\0\0\x01a",
        b"\x16\x03\x01\0\0",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\0\x04\x02\0\0\0",
        b"\x16\x03\x01\0\x05\x01\0\0\x01a",
        b"\x16\x03\x01\0\x05\x01\xff\xff\xff" + b"a" * MAX_HELLO,
        hello("db.shop").replace(b"db.shop", b"db shop"),
        hello("db.shop").replace(b"db.shop", b'd"\n\\op.'),
        hello("db.shop").replace(b"db.shop", b"\xff\xfe.shop"),
        hello("db.shop").replace(b"\0\x07db.shop", b"\xff\x07db.shop"),
    ],
)
def test_what_is_no_hello_or_names_no_host(data: bytes) -> None:
    assert server_name(data) == ""


@given(st.binary(max_size=300), st.integers(0, 300))
def test_whatever_is_broken_in_it_nothing_escapes(junk: bytes, at: int) -> None:
    data = hello("db.shop")
    found = server_name(data[:at] + junk + data[at + len(junk) :])
    assert found is None or found == "" or (found.isascii() and found.isprintable() and " " not in found)
