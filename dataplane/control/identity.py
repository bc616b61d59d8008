"""This proxy's certificate: obtained, kept current, turned into TLS contexts.

`obtain` is to be awaited once at start, `keep_current` to be run as a task. On renewal the context
attributes are swapped: new connections read the new ones, open connections keep theirs. The private
key lives in memory only. Nothing here knows what the connections are used for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dataplane.control.backoff import Backoff
from dataplane.control.signing import Key, Signed, SigningError, make_key, sign
from dataplane.settings import Settings
from smi.names import ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, ALPN_UDP

RENEW_AT: Final = 0.7
"""Part of a certificate's life after which it is renewed …"""
RENEW_SPREAD: Final = 0.1
"""… less up to this part of that time, at random, so that a fleet does not renew at once."""
ATTEMPT_SECONDS: Final = 10.0
_LONGEST_NAP: Final = 60.0
_MAX_TOKEN: Final = 1 << 16

_log = logging.getLogger("dataplane.identity")


@dataclass(frozen=True, slots=True)
class _Contexts:
    server: ssl.SSLContext
    client_http: ssl.SSLContext
    client_http2: ssl.SSLContext
    client_tcp: ssl.SSLContext
    client_udp: ssl.SSLContext
    controller: ssl.SSLContext


class Identity:
    """The proxy's current certificate. `now` is Unix time, `chance` a number in [0, 1); `new_key` makes a
    key within so many seconds.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], float],
        chance: Callable[[], float],
        new_key: Callable[[float], Awaitable[Key]] = make_key,
    ) -> None:
        self.not_after = 0.0
        """End of the current certificate's validity, Unix seconds; 0 before the first."""
        self.renewals = 0
        """Certificates obtained so far."""
        self.failures = 0
        """Attempts that failed so far."""
        self._settings = settings
        self._now = now
        self._chance = chance
        self._new_key = new_key
        self._bundle = settings.trust_bundle
        self._renew_at = 0.0
        self._next_key: Key | None = None  # waits for its certificate while attempts fail
        self._contexts: _Contexts | None = None
        self._material: dict[str, Any] | None = None
        self._on_renewal: list[Callable[[Mapping[str, Any]], None]] = []

    @property
    def ready(self) -> bool:
        """Whether there is a certificate that is still valid."""
        return self._contexts is not None and self._now() < self.not_after

    @property
    def server_context(self) -> ssl.SSLContext:
        """For the mesh port: requires a client certificate of this mesh.

        The SNI of a handshake is left on the SSLObject as attribute `mesh_sni` (str or None).
        """
        return self._current.server

    @property
    def client_context(self) -> ssl.SSLContext:
        """For HTTP to a peer's mesh port (ALPN smi-http/1.1). The caller checks the peer's SPIFFE id."""
        return self._current.client_http

    @property
    def client_http2_context(self) -> ssl.SSLContext:
        """For HTTP/2 to a peer's mesh port (ALPN h2). The caller checks the peer's SPIFFE id."""
        return self._current.client_http2

    @property
    def client_tcp_context(self) -> ssl.SSLContext:
        """For opaque bytes to a peer's mesh port (ALPN smi-tcp). The caller checks the peer's SPIFFE id."""
        return self._current.client_tcp

    @property
    def client_udp_context(self) -> ssl.SSLContext:
        """For datagrams to a peer's mesh port (ALPN smi-udp). The caller checks the peer's SPIFFE id."""
        return self._current.client_udp

    @property
    def controller_context(self) -> ssl.SSLContext:
        """For the discovery stream. The caller checks the peer's SPIFFE id."""
        return self._current.controller

    @property
    def material(self) -> Mapping[str, Any] | None:
        """The certificate and its private key, for `entrust` in another process of this sidecar only."""
        return self._material

    def on_renewal(self, callback: Callable[[Mapping[str, Any]], None]) -> None:
        """Call `callback(material)` with every certificate from now on."""
        self._on_renewal.append(callback)

    def entrust(self, material: Mapping[str, Any]) -> None:
        """Use what another process of this sidecar obtained. Raises SigningError if it is not usable."""
        private, rest = material["private"], ("certificates", "trust_bundle", "not_after")
        self._adopt(Key(private.encode("ascii"), ""), Signed(**{name: material[name] for name in rest}))

    def begin_sessions_anew(self) -> None:
        """Replace the context of the mesh port by one of the same certificate that knows no session yet."""
        material = self._material
        if material is None:
            return
        private = material["private"].encode("ascii")
        with _in_memory(private + material["certificates"].encode("ascii")) as path:
            server = _server_context(material["trust_bundle"], path)
        self._contexts = replace(self._current, server=server)

    async def obtain(self) -> None:
        """Get a certificate; tries until it succeeds, with back-off."""
        backoff = Backoff(0.1, 5.0, self._chance)
        while True:
            if await self._attempt():
                return
            await asyncio.sleep(backoff.next())

    async def keep_current(self) -> None:
        """Renew in time, for ever. The old certificate stays in use while renewal fails."""
        backoff = Backoff(0.5, 30.0, self._chance)
        while True:
            # The wall clock may jump while the loop's clock does not, hence the bounded naps.
            await asyncio.sleep(min(max(self._renew_at - self._now(), 0.0), _LONGEST_NAP))
            if self._now() < self._renew_at:
                continue
            if await self._attempt():
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    @property
    def _current(self) -> _Contexts:
        if self._contexts is None:
            raise RuntimeError("there is no certificate yet: await obtain() first")
        return self._contexts

    async def _attempt(self) -> bool:
        try:
            await self._renew()
        except SigningError as error:
            self.failures += 1
            _log.warning("no certificate: %s", error)
            return False
        return True

    async def _renew(self) -> None:
        settings = self._settings
        key = self._next_key = self._next_key or await self._new_key(ATTEMPT_SECONDS)
        signed = await sign(
            settings.controller,
            settings.identity_port,
            _client_context(self._bundle, None, None),
            settings.controller_identity,
            key.request,
            _read_token(settings.token_file),
            ATTEMPT_SECONDS,
        )
        self._next_key = None  # every certificate has a key of its own, whether it is usable or not
        self._adopt(key, signed)
        now = self._now()
        _log.info(
            "certificate valid for %.0f s, renewal in %.0f s", self.not_after - now, self._renew_at - now
        )

    def _adopt(self, key: Key, signed: Signed) -> None:
        now = self._now()
        life = signed.not_after - now
        if life <= 0:
            raise SigningError(f"the certificate ended {-life:.0f} s ago; check the clocks")
        self._contexts = _make_contexts(key, signed)
        self._bundle = signed.trust_bundle
        self.not_after = signed.not_after
        self._renew_at = now + renewal_delay(life, self._chance())
        self.renewals += 1
        self._material = {
            "private": key.private.decode("ascii"),
            "certificates": signed.certificates,
            "trust_bundle": signed.trust_bundle,
            "not_after": signed.not_after,
        }
        for callback in self._on_renewal:
            callback(self._material)


def renewal_delay(life: float, chance: float) -> float:
    """Seconds after which a certificate valid for `life` more seconds is renewed; `chance` in [0, 1)."""
    return life * RENEW_AT * (1.0 - RENEW_SPREAD * chance)


def _read_token(path: str) -> str:
    """The projected token; read each time because the kubelet replaces it. Raises SigningError."""
    try:
        with Path(path).open("rb") as file:
            token = file.read(_MAX_TOKEN).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SigningError(f"cannot read the service account token: {error}") from error
    if not token:
        raise SigningError(f"the service account token {path} is empty")
    return token


def _make_contexts(key: Key, signed: Signed) -> _Contexts:
    """Contexts of one certificate. Raises SigningError if OpenSSL refuses a part of it."""
    try:
        bundle = signed.trust_bundle
        with _in_memory(key.private + signed.certificates.encode("ascii")) as path:
            return _Contexts(
                server=_server_context(bundle, path),
                client_http=_client_context(bundle, path, ALPN_HTTP1),
                client_http2=_client_context(bundle, path, ALPN_HTTP2),
                client_tcp=_client_context(bundle, path, ALPN_TCP),
                client_udp=_client_context(bundle, path, ALPN_UDP),
                controller=_client_context(bundle, path, None),
            )
    except (OSError, UnicodeEncodeError) as error:  # ssl.SSLError is an OSError
        raise SigningError(f"the signed certificate is not usable: {error}") from error


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """The path of an anonymous file in memory that nobody else may open; it ends with the context."""
    descriptor = os.memfd_create("smi-mesh-key", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _server_context(bundle: str, certificate: str) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER, bundle)
    # One ticket per connection, and only an id: the session stays here, in memory, and dies with this
    # context. There is no ticket key to steal, and OpenSSL need not parse the certificate again, which
    # is most of what resuming saves (ADR 0013).
    context.num_tickets = 1
    context.options |= ssl.OP_NO_TICKET
    context.load_cert_chain(certificate)
    context.set_alpn_protocols([ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, ALPN_UDP])
    context.sni_callback = _remember_sni
    return context


def _remember_sni(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    connection.mesh_sni = name  # type: ignore[attr-defined]  # the handshake's own object is the place


def _client_context(bundle: str, certificate: str | None, alpn: str | None) -> ssl.SSLContext:
    """Names are not checked here: callers compare the SPIFFE id."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, bundle)
    if certificate is not None:
        context.load_cert_chain(certificate)
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


def _context(protocol: int, bundle: str) -> ssl.SSLContext:
    """TLS 1.3 with a verified peer. Trusts the bundle and nothing else. Raises SigningError."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a bundle may hold an intermediate CA only
    try:
        context.load_verify_locations(cadata=bundle)
    except ssl.SSLError as error:
        raise SigningError(f"the trust bundle holds no usable certificate: {error}") from error
    return context
