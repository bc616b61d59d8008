"""Service-account tokens: signed and checked JSON Web Tokens (RFC 7515, ES256).

A token names its service account and, when bound, its pod; both must still exist with the same uid for it
to be accepted. Look-ups are given in, so this module knows neither the store nor HTTP.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from localmesh.apiserver.call import User
from localmesh.apiserver.jsonvalue import JsonObject, dumps, loads, lookup

ISSUER = "https://kubernetes.default.svc.cluster.local"
API_AUDIENCE = ISSUER
"""The audience of tokens meant for this API server (the default of TokenRequest)."""
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 600, 86400, 3600
MAX_TOKEN = 16 * 1024

UidLookup = Callable[[str, str, str], str | None]
"""(resource, namespace, name) → uid of the living object, None when there is none."""


class TokenError(ValueError):
    """The token is not acceptable; the message says why (never the token)."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a token speaks for."""

    namespace: str
    account: str
    account_uid: str
    pod: tuple[str, str] | None = None
    """Name and uid."""


@dataclass(frozen=True, slots=True)
class Verified:
    user: User
    audiences: tuple[str, ...]


class TokenAuthority:
    def __init__(self, key: ec.EllipticCurvePrivateKey, uid_of: UidLookup) -> None:
        self._key = key
        self._uid_of = uid_of
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = _encode(hashlib.sha256(public).digest())

    def issue(self, bound: Bound, audiences: Sequence[str], seconds: int) -> tuple[str, float]:
        """A token and the time (epoch seconds) at which it expires."""
        now = time.time()
        expires = int(now) + seconds
        kubernetes: JsonObject = {
            "namespace": bound.namespace,
            "serviceaccount": {"name": bound.account, "uid": bound.account_uid},
        }
        if bound.pod:
            kubernetes["pod"] = {"name": bound.pod[0], "uid": bound.pod[1]}
        claims = {
            "aud": list(audiences) or [API_AUDIENCE],
            "exp": expires,
            "iat": int(now),
            "iss": ISSUER,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": kubernetes,
            "nbf": int(now),
            "sub": f"system:serviceaccount:{bound.namespace}:{bound.account}",
        }
        header = {"alg": "ES256", "kid": self._key_id, "typ": "JWT"}
        signing = f"{_encode(dumps(header))}.{_encode(dumps(claims))}"
        r, s = decode_dss_signature(self._key.sign(signing.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signing}.{_encode(r.to_bytes(32) + s.to_bytes(32))}", float(expires)

    def verify(self, token: str, audiences: Sequence[str] = ()) -> Verified:
        """Who the token speaks for; `audiences` empty means this API server. Raises TokenError."""
        claims = self._claims(token)
        now = time.time()
        expires, not_before = claims.get("exp"), claims.get("nbf")
        if not isinstance(expires, int) or now >= expires:
            raise TokenError("token has expired")
        if not isinstance(not_before, int) or now + 60 < not_before:
            raise TokenError("token is not valid yet")
        wanted = tuple(audiences) or (API_AUDIENCE,)
        accepted = tuple(audience for audience in wanted if audience in (claims.get("aud") or ()))
        if not accepted:
            raise TokenError("token audiences do not match")
        return Verified(self._user(claims), accepted)

    def jwks(self) -> JsonObject:
        numbers = self._key.public_key().public_numbers()
        key = {
            "use": "sig",
            "kty": "EC",
            "kid": self._key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": _encode(numbers.x.to_bytes(32)),
            "y": _encode(numbers.y.to_bytes(32)),
        }
        return {"keys": [key]}

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN:
            raise TokenError("token is too long")
        try:
            head, body, signature = token.split(".")
            header, claims, raw = loads(_decode(head)), loads(_decode(body)), _decode(signature)
        except (ValueError, binascii.Error, RecursionError):
            raise TokenError("token is malformed") from None
        if not isinstance(header, dict) or header.get("alg") != "ES256" or len(raw) != 64:
            raise TokenError("token is not signed with ES256")
        der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        try:
            self._key.public_key().verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise TokenError("token signature does not verify") from None
        if not isinstance(claims, dict) or claims.get("iss") != ISSUER:
            raise TokenError("token was issued by somebody else")
        return claims

    def _user(self, claims: dict[str, Any]) -> User:
        namespace = lookup(claims, "kubernetes.io", "namespace")
        name = lookup(claims, "kubernetes.io", "serviceaccount", "name")
        uid = lookup(claims, "kubernetes.io", "serviceaccount", "uid")
        if self._uid_of("serviceaccounts", namespace, name) != uid:
            raise TokenError("service account of the token is gone")
        extra = {"authentication.kubernetes.io/credential-id": (f"JTI={claims.get('jti')}",)}
        pod = lookup(claims, "kubernetes.io", "pod")
        if pod:
            if self._uid_of("pods", namespace, pod["name"]) != pod["uid"]:
                raise TokenError("pod of the token is gone")
            extra["authentication.kubernetes.io/pod-name"] = (pod["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (pod["uid"],)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{name}", uid, groups, extra)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
