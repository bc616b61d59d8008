"""The controller's own certificate on its TLS listeners, renewed in place.

One key pair serves discovery, signing and webhooks. Contexts are updated where they stand: OpenSSL
uses the new pair from the next handshake on, open connections keep theirs.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from datetime import datetime
from typing import Final

from controller.ca.authority import Authority
from controller.ca.issue import KeyPair, load_pair
from controller.ca.policy import Names, RefusedError, renewal_time

_log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 5.0
_LONGEST_SLEEP: Final = 3600.0


class ServingCertificate:
    """Makes TLS contexts and keeps their certificate fresh with `run`."""

    def __init__(
        self,
        authority: Authority,
        names: Names,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
    ) -> None:
        self._authority = authority
        self._names = names
        self._clock = clock
        self._chance = chance
        self._contexts: list[tuple[ssl.SSLContext, bool]] = []
        self._pair = authority.pair(names)
        self._renew_at = renewal_time(clock(), self._pair.leaf.not_after, chance())

    @property
    def pair(self) -> KeyPair:
        return self._pair

    def context(self, *, clients: bool = False) -> ssl.SSLContext:
        """A server context; with `clients` it demands TLS 1.3 and a certificate of our CA from the client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if clients else ssl.TLSVersion.TLSv1_2
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self._authority.bundle)
        load_pair(context, self._pair)
        self._contexts.append((context, clients))
        return context

    def renew(self) -> None:
        """A new certificate on every context, and every root of the bundle trusted. Raises RefusedError.

        OpenSSL cannot forget a root while it runs: a retired one is trusted until the next start.
        """
        self._pair = self._authority.pair(self._names)
        self._renew_at = renewal_time(self._clock(), self._pair.leaf.not_after, self._chance())
        for context, clients in self._contexts:
            load_pair(context, self._pair)
            if clients:
                context.load_verify_locations(cadata=self._authority.bundle)

    async def run(self) -> None:
        """Renew at about two thirds of each certificate's life, for ever."""
        while True:
            left = (self._renew_at - self._clock()).total_seconds()
            await asyncio.sleep(min(max(left, 0.0), _LONGEST_SLEEP))
            if self._clock() < self._renew_at:
                continue
            try:
                self.renew()
            except RefusedError as error:
                _log.error("the controller's certificate is not renewed: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
