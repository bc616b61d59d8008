"""Who is at the other end of a mesh connection, read from its verified certificate.

The chain was verified in the handshake; here the names are taken from it. A SPIFFE X.509-SVID has
exactly one URI SAN (X.509-SVID §2); the pod is named by a DNS SAN (`smi.names.pod_dns_san`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from smi.names import Workload, pod_dns_san
from smi.policy.access import Peer

_POD_SUFFIX: Final = pod_dns_san("", "").lstrip(".")


def spiffe_id(certificate: Mapping[str, Any] | None) -> str | None:
    """The SPIFFE id in `SSLObject.getpeercert()`, or None if it does not carry exactly one URI."""
    names = certificate.get("subjectAltName", ()) if certificate else ()
    uris = [value for kind, value in names if kind == "URI"]
    return uris[0] if len(uris) == 1 and uris[0].startswith("spiffe://") else None


def peer_of(certificate: Mapping[str, Any] | None) -> Peer | None:
    """The peer a certificate names, with its pod if it says so; None if it is no mesh identity."""
    identity = spiffe_id(certificate)
    if identity is None:
        return None
    names = certificate.get("subjectAltName", ()) if certificate else ()
    texts = [value for kind, value in names if kind == "DNS"]
    pods = [pod for value in texts if (pod := _pod(value))]
    return Peer(identity, pods[0] if len(pods) == 1 else None, str(Workload.from_dns_sans(texts)))


def _pod(name: str) -> str | None:
    """`namespace/pod` of a pod's DNS SAN `<pod>.<namespace>.<suffix>`; a pod's name may contain dots."""
    if not name.endswith("." + _POD_SUFFIX):
        return None
    pod, _, namespace = name[: -len(_POD_SUFFIX) - 1].rpartition(".")
    return f"{namespace}/{pod}" if pod and namespace else None
