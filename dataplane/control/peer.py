"""Who is at the other end of a TLS connection: reading the SPIFFE id out of a verified certificate.

The mesh's own CA signs every workload, so a valid chain alone proves no particular name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NotTheController(Exception):  # noqa: N818 - says what the peer is
    """The peer's certificate is valid but is not the controller's."""


def spiffe_id(certificate: Mapping[str, Any] | None) -> str | None:
    """The SPIFFE id of a verified peer (`SSLObject.getpeercert()`), or None.

    A certificate must carry exactly one URI SAN to be an identity (SPIFFE X.509-SVID §2).
    """
    if not certificate:
        return None
    uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
    return uris[0] if len(uris) == 1 and uris[0].startswith("spiffe://") else None


def check_controller(certificate: Mapping[str, Any] | None, controller: str) -> None:
    """Raise NotTheController unless the peer proved to be `controller`."""
    found = spiffe_id(certificate)
    if found != controller:
        raise NotTheController(f"the peer is {found or 'nobody'}, expected {controller}")
