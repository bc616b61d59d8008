"""Every bound and time-out of the listeners, in one place. Times are seconds, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    head_start: float = 0.02
    """Before the server of a silent client is connected as well, to hear which of them speaks first."""
    sniff: float = 0.1
    """For the rest of a first line, and for a silent client whose server cannot be had; then it is opaque."""
    remembered: float = 300.0
    """How long it is remembered who spoke first at a destination."""
    handshake: float = 5.0
    """TLS handshake of a peer at the mesh port."""
    lookup: float = 2.0
    """For the controller's answer to the first use of a destination."""
    request_head: float = 15.0
    """From the first byte of a request's head to its last."""
    pending: float = 15.0
    """For one of the connections that a Service's circuit breaker allows, or that are made at a time."""
    connect: float = 3.0
    """TCP connect and TLS handshake with a server together."""
    response: float = 300.0
    """From the end of a request to the head of its response."""
    stall: float = 300.0
    """Without a byte in either direction while a body is under way."""
    client_idle: float = 600.0
    """Between requests on a client's connection; longer than any pool's, so that the client closes first."""
    tunnel_idle: float = 3600.0
    """Without a byte in either direction on an opaque connection."""
    keepalive: int = 60
    """Without a word of a peer, before its host is asked whether it is there (TCP keepalive, RFC 9293)."""
    keepalive_interval: int = 15
    """Between two such questions."""
    keepalive_probes: int = 4
    """Questions without an answer after which the peer is gone."""
    unanswered: float = 180.0
    """For the acknowledgement of bytes of an opaque connection, or of probes of a closed window."""
    pool_idle: float = 60.0
    """An idle pooled connection to a peer proxy or another server."""
    app_idle: float = 4.0
    """The same to the local app: below the 5 s after which common servers close."""
    linger: float = 2.0
    """How long input is discarded after a final answer, so that the client can read it."""
    suspect: float = 3.0
    """How long an endpoint that refused a connection is avoided."""
    hold: float = 3.0
    """For other endpoints, when none of those known can be reached: from the first request that failed on."""
    held: int = 1024
    """Requests and connections that wait for that at once; one more fails."""
    tick: float = 0.5
    """Granularity of all the above but `head_start`, `sniff`, `handshake` and `connect`."""
    connecting: int = 64
    """Connections to one endpoint in the making; who needs one more waits, or takes one that comes free."""
    pool_size: int = 128
    """Idle connections kept per endpoint."""
    requests_per_endpoint: int = 4096
    """Requests and opaque connections under way to one endpoint; more are refused."""
    requests_outbound: int = 16384
    """Requests and opaque connections of the app under way to all endpoints; more are refused."""
    requests_to_app: int = 8192
    """Requests and opaque connections under way to the local app; more are answered 503, or reset."""
    requests_per_peer: int = 4096
    """Of these, the ones of one caller's identity."""
    descriptors: int = 65536
    """Files and sockets open at once; also bounded by RLIMIT_NOFILE. Connections beyond are refused."""
    memory: int = 1 << 30
    """Bytes of memory the proxy may use; also bounded by its container's limit."""
    memory_share: float = 0.85
    """The part of that memory beyond which new requests are answered 503 and new connections refused."""
    udp_flows: int = 4096
    """UDP flows held, each direction by itself; a datagram of one more is dropped."""
    udp_flows_per_peer: int = 1024
    """Of these, the ones of one peer; callers outside the mesh are one."""
    udp_carriers: int = 16
    """Connections with datagrams of one peer to one port; more are refused."""
    udp_queued: int = 1 << 18
    """Bytes of datagrams that wait for one peer's connection; then the oldest of the largest flows go."""
    udp_unread: float = 30.0
    """For a peer to take datagrams that were sent to it; then its connection is given up."""
    udp_waiting: int = 64
    """Datagrams of one flow that wait for the controller's answer; then the oldest are dropped."""
    udp_waiting_bytes: int = 1 << 17
    """Bytes of these; then the oldest are dropped."""
    udp_waiting_total: int = 1 << 22
    """Bytes of all datagrams that wait for the controller; then the oldest of the largest flows go."""
    buffered: int = 65536
    """Bytes taken from a client before its request has somewhere to go."""
