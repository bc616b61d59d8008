"""Who is asking: a client certificate, a service-account token, or nobody (system:anonymous)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmesh.apiserver.call import MASTERS, User
from localmesh.apiserver.errors import unauthorized
from localmesh.apiserver.tokens import TokenAuthority, TokenError

ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))
AUTHENTICATED = "system:authenticated"
EXTRA_HEADER = "impersonate-extra-"


def authenticate(peer: Mapping[str, Any] | None, authorization: str | None, tokens: TokenAuthority) -> User:
    """The caller. `peer` is the verified certificate as ssl's getpeercert() shows it. Raises ApiError 401."""
    if peer:
        user = _from_certificate(peer)
        if user is not None:
            return user
    if authorization:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized()
        try:
            return tokens.verify(token.strip()).user
        except TokenError:
            raise unauthorized() from None
    return ANONYMOUS


def _from_certificate(peer: Mapping[str, Any]) -> User | None:
    names: list[str] = []
    groups: list[str] = []
    for distinguished in peer.get("subject") or ():
        for attribute, value in distinguished:
            if attribute == "commonName":
                names.append(value)
            elif attribute == "organizationName":
                groups.append(value)
    return User(names[0], groups=(*groups, AUTHENTICATED)) if names else None


def impersonated(headers: Mapping[str, str]) -> User | None:
    """The user named by Impersonate-* headers (kubectl --as), None without them."""
    name = headers.get("Impersonate-User")
    if not name:
        return None
    getall = getattr(headers, "getall", None)
    groups = tuple(getall("Impersonate-Group", ())) if getall else ()
    if not groups and name.startswith("system:serviceaccount:"):
        _, _, namespace, _ = name.split(":", 3)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    extra = {
        key[len(EXTRA_HEADER) :].lower(): (value,)
        for key, value in headers.items()
        if key.lower().startswith(EXTRA_HEADER)
    }
    everybody = () if name == ANONYMOUS.name else (AUTHENTICATED,)
    return User(name, headers.get("Impersonate-Uid", ""), tuple(dict.fromkeys((*groups, *everybody))), extra)


ADMINISTRATOR = ("kubernetes-admin", (MASTERS,))
"""User and groups of the client certificate in the kubeconfig."""
