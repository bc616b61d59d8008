"""Names of servers in requests and handshakes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.wire.authority import Authority, mesh_sni, parse_authority, port_of_sni, split_absolute
from dataplane.wire.errors import BadMessage


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (b"api", "api", 80),
        (b"API.Shop:8080", "api.shop", 8080),
        (b"api.shop.svc.cluster.local.", "api.shop.svc.cluster.local", 80),
        (b"10.0.0.1:9000", "10.0.0.1", 9000),
        (b"[::1]:81", "::1", 81),
        (b"[::1]", "::1", 80),
    ],
)
def test_authorities(text: bytes, host: str, port: int) -> None:
    assert parse_authority(text) == Authority(host, port)


@pytest.mark.parametrize(
    "text",
    [b"", b":80", b"a:", b"a:0", b"a:65536", b"a:b", b"me@a", b"a b", b"a/b", b"[::1", b"a:80:81", b"\xff"],
)
def test_what_is_no_authority(text: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_authority(text)


def test_connect_needs_a_port() -> None:
    with pytest.raises(BadMessage):
        parse_authority(b"api", 0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://a/b?c", (b"a", b"/b?c")),
        (b"HTTP://a:1", (b"a:1", b"/")),
        (b"http://a?c", (b"a", b"/?c")),
        (b"/b", None),
        (b"*", None),
        (b"https://a/", None),
    ],
)
def test_absolute_targets(target: bytes, expected: tuple[bytes, bytes] | None) -> None:
    assert split_absolute(target) == expected


def test_an_absolute_target_needs_an_authority() -> None:
    with pytest.raises(BadMessage):
        split_absolute(b"http:///a")


@given(st.integers(1, 65535))
def test_mesh_names_round_trip(port: int) -> None:
    assert port_of_sni(mesh_sni(port)) == port


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "p0.smi-mesh.internal",
        "p65536.smi-mesh.internal",
        "p80",
        "xp80.smi-mesh.internal",
        "p80.smi-mesh.internal.",
    ],
)
def test_other_names_are_not_ours(name: str | None) -> None:
    assert port_of_sni(name) is None


@given(st.binary(max_size=30))
def test_only_one_exception_escapes(data: bytes) -> None:
    for parse in (parse_authority, split_absolute):
        with contextlib.suppress(BadMessage):  # the only one that may
            parse(data)
