"""Small configs in the form the controller sends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smi.policy.codec import encode_cluster, encode_destination, encode_inbound
from smi.policy.snapshot import Backend, Destination, Endpoint, Grant, Inbound, PortSet, Split

WEB = "spiffe://cluster.local/ns/shop/sa/web"
API = "spiffe://cluster.local/ns/shop/sa/api"


def inbound(*targets: str) -> Any:
    """The inbound policy of pod shop/web-1; each named TrafficTarget lets everybody's TCP from `WEB` in."""
    grants = tuple(Grant(name, frozenset({WEB}), tcp=PortSet(every=True)) for name in targets)
    return encode_inbound(Inbound("shop/web-1", WEB, grants=grants))


def destination(name: str, weights: Mapping[str, int] | None = None, port: int = 8080) -> Any:
    """Service shop/`name`, with a catch-all split over backends if `weights` are given."""
    splits: tuple[Split, ...] = ()
    if weights is not None:
        backends = tuple(
            Backend(f"shop/{key}", weight, f"shop/{key}:{port}") for key, weight in weights.items()
        )
        splits = (Split(f"shop/{name}-split", None, backends),)
    return encode_destination(Destination(f"shop/{name}", port, cluster=f"shop/{name}:{port}", splits=splits))


def cluster(*ips: str, port: int = 8080) -> Any:
    """Meshed endpoints at these addresses."""
    return encode_cluster(tuple(Endpoint(ip, port, f"shop/pod-{ip}", API) for ip in ips))


def update(
    revision: int, resources: Mapping[str, Any], removed: tuple[str, ...] = (), *, full: bool = False
) -> dict[str, Any]:
    """One update message."""
    return {
        "type": "update",
        "revision": revision,
        "full": full,
        "resources": dict(resources),
        "removed": list(removed),
    }
