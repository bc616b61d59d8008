"""What a TLS handshake proved, resumed or not, and the sessions that let the next one be shorter.

A resumed handshake shows no certificate: both sides vouch for the one of the session's first
handshake, and OpenSSL does not look at its dates again. So who the peer is, and until when, is read
from that certificate at every connection and compared with the clock here. What else would outlive
its end dies with the context: sessions belong to one `SSLContext`, and a renewal of the certificate
or of the trust bundle makes new ones (`control.identity`). Early data is never enabled.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol
from weakref import WeakSet

from dataplane.core.peer import peer_of, spiffe_id
from dataplane.serve.tls import TlsLayer
from dataplane.telemetry import Telemetry
from smi.policy.access import Peer

MAX_SESSIONS: Final = 512
"""Sessions a client keeps for its next connections: about 10 kB each."""
MAX_ISSUED: Final = 512
"""Sessions a server keeps for its clients, one per connection, before it begins anew; see `Issued`."""
MAX_FULL: Final = 3
"""Contexts with so many sessions that may wait for the end of their last connection."""
_MAX_PROOFS: Final = 1024
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verified certificate says of its holder."""

    identity: str | None
    """SPIFFE id; None if it names none, or several."""
    peer: Peer | None
    not_after: float
    """End of its validity, Unix seconds."""


class Expired(Exception):  # noqa: N818 - names what happened
    """The session is the peer's, but its certificate has ended since."""


class Handshakes:
    """Reads and counts the finished handshakes of one side. `now` is Unix time."""

    def __init__(self, side: str, telemetry: Telemetry, now: Callable[[], float]) -> None:
        """`side`: "client" or "server"."""
        self._side = side
        self._now = now
        self._read: dict[bytes, Proof] = {}
        self._count = telemetry.counter(
            "smi_mesh_tls_handshakes_total",
            "TLS handshakes between sidecars: full, resumed, failed, or refused because the peer's "
            "certificate expired.",
            ("side", "outcome"),
        )

    def proof(self, layer: TlsLayer) -> Proof:
        """What the peer of a finished handshake proved. Raises Expired."""
        encoded = layer.certificate_der
        proof = self._read.get(encoded)
        if proof is None:
            # Only what OpenSSL has verified gets here, and equal bytes say equal things.
            if len(self._read) >= _MAX_PROOFS:
                self._read.clear()
            proof = self._read[encoded] = _read(layer)
        late = self._now() - proof.not_after
        if late >= 0:
            self._count.add((self._side, "expired"))
            raise Expired(f"the certificate of {proof.identity} ended {late:.0f} s ago")
        self._count.add((self._side, "resumed" if layer.resumed else "full"))
        return proof

    def failed(self) -> None:
        """Count a handshake that did not finish."""
        self._count.add((self._side, "failed"))


def _read(layer: TlsLayer) -> Proof:
    certificate = layer.certificate
    if certificate is None:  # a context that requires none; nothing was proved
        return Proof(None, None, 0.0)
    return Proof(spiffe_id(certificate), peer_of(certificate), unix_seconds(certificate["notAfter"]))


def unix_seconds(text: str) -> float:
    """A time as `getpeercert` writes it (`Jan  5 09:34:43 2018 GMT`) as Unix time. Raises ValueError.

    `ssl.cert_time_to_seconds` says the same, but its first call holds the event loop for 3 ms and keeps
    1 MB: it loads `_strptime` and the locale's calendar.
    """
    try:
        month, day, clock, year, zone = text.split()
        hour, minute, second = map(int, clock.split(":"))
        moment = datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r} is not the time of a certificate") from None
    if zone != "GMT":
        raise ValueError(f"{text!r}: a certificate's times are in GMT")
    return moment.timestamp()


@dataclass(frozen=True, slots=True)
class Place:
    """What a session is good for: a server at an address, asked by a name, with one context."""

    context: ssl.SSLContext
    address: str
    server_name: str


class Sessions:
    """The newest session of each place, for clients.

    The ticket comes after the handshake, with the first bytes from the server, and OpenSSL calls
    nobody here. So the connection itself is kept while it lives, and asked when its session is wanted.
    """

    def __init__(self, limit: int = MAX_SESSIONS) -> None:
        self._limit = limit
        self._kept: dict[Place, TlsLayer | ssl.SSLSession] = {}  # in order of use: the first is given up

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, place: Place) -> ssl.SSLSession | None:
        """A session to resume there; None: make a full handshake."""
        kept = self._kept.get(place)
        return kept.session if isinstance(kept, TlsLayer) else kept

    def keep(self, place: Place, layer: TlsLayer) -> None:
        """`layer` is connected to the place, and its peer has been proven."""
        self._kept.pop(place, None)
        if len(self._kept) >= self._limit:
            del self._kept[next(iter(self._kept))]
        self._kept[place] = layer

    def forget(self, place: Place) -> None:
        """Not to be used again: its peer was refused."""
        self._kept.pop(place, None)

    def sweep(self, contexts: Collection[ssl.SSLContext]) -> None:
        """Drop what belongs to other contexts than these, and connections that have ended."""
        for place, kept in list(self._kept.items()):
            if place.context not in contexts:
                del self._kept[place]
            elif isinstance(kept, TlsLayer) and kept.is_closing():
                session = kept.session
                if session is None:
                    del self._kept[place]
                else:
                    self._kept[place] = session


class Issuer(Protocol):
    """Who has the context of the mesh port (`control.identity.Identity`)."""

    @property
    def server_context(self) -> ssl.SSLContext: ...
    def begin_sessions_anew(self) -> None:
        """Replace `server_context` by one that has issued no tickets yet."""


class Issued:
    """Bounds the sessions that a server keeps for its clients: about 10 kB each.

    OpenSSL's own limit is 20480 and cannot be set from Python. So a context that keeps `limit` of them is
    replaced by a fresh one, and each client shakes hands in full once. A full one lives as long as a
    connection that began with it; while there are MAX_FULL of these, no tickets are issued.
    """

    def __init__(self, issuer: Issuer, limit: int = MAX_ISSUED) -> None:
        self._issuer = issuer
        self._limit = limit
        self._full: WeakSet[ssl.SSLContext] = WeakSet()

    def check(self, _now: float = 0.0) -> None:
        """To be called at every tick."""
        context = self._issuer.server_context
        if context.session_stats()["number"] < self._limit:
            return
        self._full.add(context)
        if len(self._full) <= MAX_FULL:
            self._issuer.begin_sessions_anew()
        else:
            context.num_tickets = 0
