"""Names of servers as they stand in requests and handshakes: authorities, absolute targets, mesh SNI."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from dataplane.wire.errors import BadMessage
from smi.names import MESH_SNI_SUFFIX

HTTP_PORT: Final = 80
_AUTHORITY: Final = re.compile(
    rb"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._~!$&'()*+,;=%-]{1,255})(?::([0-9]{1,5}))?"
)
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]://([^/?#]*)(.*)", re.DOTALL)
_SNI: Final = re.compile(r"p([1-9][0-9]{0,4})" + re.escape(MESH_SNI_SUFFIX))


@dataclass(frozen=True, slots=True)
class Authority:
    """`host` lower-case, without brackets and without the root's trailing dot."""

    host: str
    port: int
    key: str = field(init=False, compare=False)
    """What a proxy subscribes to: `host:port`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", f"{self.host}:{self.port}")


def parse_authority(text: bytes, default_port: int = HTTP_PORT) -> Authority:
    """`host`, `host:port`, `[v6]:port` (RFC 3986 §3.2.2, no user information). Raises BadMessage."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise BadMessage("the authority is not a host with an optional port")
    port = int(match[2]) if match[2] else default_port
    if not 0 < port < 65536:
        raise BadMessage("the authority's port is not between 1 and 65535")
    host = match[1].decode("ascii").lower().strip("[]")
    return Authority(host.removesuffix("."), port)


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """(authority, origin-form target) of an absolute-form target (RFC 9112 §3.2.2); None if it is not one.

    Only `http` is known: https goes through CONNECT. Raises BadMessage for an empty authority.
    """
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        return None
    authority, rest = match[1], match[2]
    if not authority:
        raise BadMessage("the absolute target has no authority")
    return authority, rest if rest.startswith(b"/") else b"/" + rest


def mesh_sni(port: int) -> str:
    """The SNI that asks the mesh port for pod port `port`."""
    return f"p{port}{MESH_SNI_SUFFIX}"


def port_of_sni(name: str | None) -> int | None:
    """The pod port a mesh SNI asks for; None if it is not a mesh SNI."""
    match = _SNI.fullmatch(name or "")
    port = int(match[1]) if match else 0
    return port if 0 < port < 65536 else None
