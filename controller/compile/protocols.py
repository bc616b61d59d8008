"""What is spoken on a port, as far as its manifest says: `appProtocol` first, then the name's prefix."""

from __future__ import annotations

from typing import Final

from smi.policy.snapshot import Protocol

_APP_PROTOCOLS: Final = {
    "http": Protocol.HTTP,
    "http/1.1": Protocol.HTTP,
    "kubernetes.io/ws": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "h2c": Protocol.HTTP2,
    "kubernetes.io/h2c": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "https": Protocol.TLS,
    "kubernetes.io/wss": Protocol.TLS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
}
"""KEP-1422's registered names and the ones Istio and OSM made common, lower case."""

_NAME_PREFIXES: Final = {
    "http": Protocol.HTTP,
    "http2": Protocol.HTTP2,
    "grpc": Protocol.GRPC,
    "https": Protocol.TLS,
    "tls": Protocol.TLS,
    "tcp": Protocol.TCP,
}

_SERVER_SPEAKS_FIRST: Final = frozenset(
    {"mysql", "mongo", "mongodb", "redis", "postgres", "postgresql", "smtp"}
)
"""Known not to be HTTP; a proxy must not wait for the client's first bytes there."""


def spoken(transport: str, name: str, app_protocol: str = "") -> Protocol:
    """The protocol of a port with this transport (`TCP`, `UDP`), name and `appProtocol`.

    An `appProtocol` nobody knows says at least that the name's prefix is not meant: it is opaque TCP.
    """
    if transport == "UDP":
        return Protocol.UDP
    if app_protocol:
        return _APP_PROTOCOLS.get(app_protocol.lower(), Protocol.TCP)
    prefix = _prefix(name)
    if prefix in _SERVER_SPEAKS_FIRST:
        return Protocol.TCP
    return _NAME_PREFIXES.get(prefix, Protocol.DETECT)


def says_udp(name: str) -> bool:
    """Whether a port has the name of one for UDP. On a TCP port that means nothing: the transport decides."""
    return _prefix(name) == "udp"


def _prefix(name: str) -> str:
    return name.lower().partition("-")[0]
