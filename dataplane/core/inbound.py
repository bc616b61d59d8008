"""May a request, or a connection, reach the local app? (S20–S29, S32)

Asked per request, with the policy in force at that moment, so that a change reaches kept-alive
connections. The decision itself is `smi.policy.access`; here is what the sidecar adds: without
config nothing passes, and the sidecar's own ports are not part of the app.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

from smi.policy.access import (
    AccessTable,
    Denial,
    Peer,
    Permit,
    admit_http,
    admit_tcp,
    admit_udp,
    deny_without_config,
)
from smi.policy.match import Request
from smi.policy.snapshot import Protocol

_OPAQUE: Final = frozenset({Protocol.TCP, Protocol.TLS})
"""Relayed as opaque bytes."""
CALLER_FIELDS: Final = frozenset(
    f"x{a}forwarded{b}client{c}cert".encode() for a, b, c in itertools.product("-_", repeat=3)
)
"""Names of the field that only the destination's proxy may set: a caller's own would let it be somebody else.

With underscores as well: to servers that pass fields on as variables (CGI, WSGI) they are the same.
"""
_HTTP: Final = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC})
"""Of which version, the client's first bytes say."""


def admit_request(
    access: AccessTable | None, peer: Peer | None, port: int, request: Request
) -> Permit | Denial:
    """Decide for one request; `access` None: no config yet, `peer` None: a caller outside the mesh."""
    return deny_without_config(peer, port) if access is None else admit_http(access, peer, port, request)


def admit_connection(access: AccessTable | None, peer: Peer | None, port: int) -> Permit | Denial:
    """Decide for one opaque connection."""
    return deny_without_config(peer, port) if access is None else admit_tcp(access, peer, port)


def admit_flow(access: AccessTable | None, peer: Peer | None, port: int) -> Permit | Denial:
    """Decide for one UDP flow."""
    return deny_without_config(peer, port) if access is None else admit_udp(access, peer, port)


def protocols(access: AccessTable | None) -> Mapping[int, Protocol]:
    """What is spoken on the pod's declared TCP ports, for plain-text callers."""
    declared = () if access is None else access.inbound.ports
    return {port.port: port.protocol for port in declared if port.protocol is not Protocol.UDP}


def service_of(access: AccessTable | None, port: int) -> str:
    """The Service (`namespace/name`) whose TCP port this is; "" if none is known."""
    declared = () if access is None else access.inbound.ports
    for known in declared:
        if known.port == port and known.protocol is not Protocol.UDP:
            return known.service
    return ""


def spoken_as(protocol: Protocol) -> bool | None:
    """True: HTTP of any version, False: opaque bytes, None: to be found out from the first bytes."""
    if protocol in _HTTP:
        return True
    return False if protocol in _OPAQUE else None


def caller_fields(own: str, peer: Peer | None, address: str) -> bytes:
    """The field lines that tell the app who calls, from which address.

    The identity has the form of Envoy's `x-forwarded-client-cert`, which applications already read;
    a caller without one leaves none. The address is one more line behind what the caller itself
    forwards, which means the same as one more element of it (RFC 9110 §5.3).
    """
    who = "" if peer is None else f"x-forwarded-client-cert: By={own};URI={peer.identity}\r\n"
    where = f"x-forwarded-for: {address}\r\n" if address else ""
    return (who + where).encode("ascii", "replace")
