"""Who may speak for others: the request-header CA and names that kube-apiserver publishes.

An extension API server believes X-Remote-* headers only of a peer whose client certificate that CA signed
for one of the allowed names. Source: Kubernetes, "Configure the Aggregation Layer".
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from controller.kube import Api, KubeError, Object

_log = logging.getLogger(__name__)

CONFIG_PATH: Final = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
REVIEWS_PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
REFRESH_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 2.0
ALLOWED_SECONDS: Final = 10.0
"""How long an allowed access is remembered; refusals never are."""
MAX_REMEMBERED: Final = 1024
MAX_GROUPS: Final = 500

Headers = Iterable[tuple[str, str]]


class TrustError(ValueError):
    """The published configuration cannot be used; says which key."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the API server authenticated them."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """The request-header configuration. Header names are in lower case; no allowed names = any."""

    authorities: tuple[x509.Certificate, ...] = ()
    allowed_names: frozenset[str] = frozenset()
    user_headers: tuple[str, ...] = ()
    uid_headers: tuple[str, ...] = ()
    group_headers: tuple[str, ...] = ()
    extra_prefixes: tuple[str, ...] = ()
    pem: str = ""

    @classmethod
    def read(cls, config_map: Object) -> Trust:
        """From ConfigMap extension-apiserver-authentication; raises TrustError."""
        data = config_map.get("data") or {}
        pem = str(data.get("requestheader-client-ca-file") or "")
        try:
            authorities = tuple(x509.load_pem_x509_certificates(pem.encode())) if pem else ()
        except ValueError as error:
            raise TrustError(f"requestheader-client-ca-file: {error}") from error
        return cls(
            authorities,
            frozenset(_strings(data, "requestheader-allowed-names")),
            _lower(_strings(data, "requestheader-username-headers")),
            _lower(_strings(data, "requestheader-uid-headers")),
            _lower(_strings(data, "requestheader-group-headers")),
            _lower(_strings(data, "requestheader-extra-headers-prefix")),
            pem,
        )

    def believes(self, der: bytes | None, now: datetime) -> bool:
        """Whether the peer with this certificate may say who is asking.

        TLS has proved that the peer holds the key; here it is held to the CA published now.
        """
        if not der or not self.authorities:
            return False
        certificate = x509.load_der_x509_certificate(der)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            return False
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if self.allowed_names and not any(str(name.value) in self.allowed_names for name in names):
            return False
        return any(_issued(certificate, authority) for authority in self.authorities)

    def caller(self, headers: Headers) -> Caller | None:
        """Whom the headers name; None if they name nobody."""
        name, uid = "", ""
        groups: list[str] = []
        extra: dict[str, list[str]] = {}
        for key, value in headers:
            lower = key.lower()
            if lower in self.user_headers:
                name = name or value
            elif lower in self.uid_headers:
                uid = uid or value
            elif lower in self.group_headers:
                groups.append(value)
            else:
                for prefix in self.extra_prefixes:
                    if lower.startswith(prefix):
                        extra.setdefault(unquote(lower[len(prefix) :]), []).append(value)
        if not name or len(groups) > MAX_GROUPS:
            return None
        return Caller(name, uid, tuple(groups), tuple((key, tuple(found)) for key, found in extra.items()))


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _strings(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    try:
        value = json.loads(data.get(key) or "[]")
    except ValueError as error:
        raise TrustError(f"{key}: {error}") from error
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TrustError(f"{key}: expected a JSON list of strings")
    return tuple(value)


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


@dataclass(slots=True)
class FrontDoor:
    """Keeps the published trust current on one TLS context."""

    api: Api
    context: ssl.SSLContext
    clock: Callable[[], datetime]
    trust: Trust = field(default_factory=Trust)

    async def run(self) -> None:
        """Read the ConfigMap again and again, for ever."""
        told = ""
        while True:
            trouble = await self._refresh()
            if trouble and trouble != told:
                _log.warning("traffic metrics are not served: %s", trouble)
            told = trouble
            await asyncio.sleep(RETRY_SECONDS if trouble else REFRESH_SECONDS)

    async def _refresh(self) -> str:
        """Why there is no usable configuration, or nothing. The last good one stays in force."""
        try:
            trust = Trust.read(await self.api.get(CONFIG_PATH))
        except (KubeError, TrustError) as error:
            return f"{CONFIG_PATH}: {error}"
        if not trust.authorities:
            return f"{CONFIG_PATH} has no requestheader-client-ca-file: the aggregation layer is off"
        if trust.pem != self.trust.pem:
            # OpenSSL cannot forget a CA; `believes` holds every caller to the present one.
            self.context.load_verify_locations(cadata=trust.pem)
        self.trust = trust
        return ""

    def caller(self, der: bytes | None, headers: Headers) -> Caller | None:
        """Who asks; None if the peer may not say so, or says nothing."""
        return self.trust.caller(headers) if self.trust.believes(der, self.clock()) else None


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody wants to do to which resource of the group."""

    verb: str
    group: str
    version: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Doorkeeper:
    """Asks the API server whether a caller may (SubjectAccessReview)."""

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self._api = api
        self._clock = clock
        self._allowed: dict[tuple[Caller, Access], float] = {}

    async def may(self, caller: Caller, access: Access) -> bool:
        """Raises KubeError if it cannot be asked."""
        now, key = self._clock(), (caller, access)
        if self._allowed.get(key, now) > now:
            return True
        answer = await self._api.create(REVIEWS_PATH, _review(caller, access))
        allowed = (answer.get("status") or {}).get("allowed") is True
        if allowed:
            if len(self._allowed) >= MAX_REMEMBERED:
                self._allowed.clear()
            self._allowed[key] = now + ALLOWED_SECONDS
        return allowed


def _review(caller: Caller, access: Access) -> Object:
    attributes = {
        "verb": access.verb,
        "group": access.group,
        "version": access.version,
        "resource": access.resource,
        "subresource": access.subresource,
        "namespace": access.namespace,
        "name": access.name,
    }
    spec: Object = {
        "user": caller.name,
        "groups": list(caller.groups),
        "extra": {key: list(values) for key, values in caller.extra},
        "resourceAttributes": {key: value for key, value in attributes.items() if value},
    }
    if caller.uid:
        spec["uid"] = caller.uid
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
