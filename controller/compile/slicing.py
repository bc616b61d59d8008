"""Snapshot → the part of it that one proxy runs on.

A proxy gets its inbound policy whole, and for each key it subscribed to the Destination and every
Cluster that Destination mentions: config follows a pod's own edges, not the size of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address

from controller.compile.endpoints import endpoint_of, inbound_ports
from controller.compile.snapshot import Snapshot
from controller.compile.topology import (
    UDP,
    address_key,
    lookup_names,
    named_service,
    split_host,
    split_transport,
)
from smi.names import NamespacedName
from smi.policy.codec import JSON, encode_breaker, encode_cluster, encode_destination, encode_inbound
from smi.policy.snapshot import PASSTHROUGH, Cluster, Destination, Protocol

Resources = dict[str, JSON]
"""Resource name (`inbound`, `destination/<key>`, `cluster/<key>`, `breaker/<key>`) → encoded value."""


def resolve(snapshot: Snapshot, namespace: str, key: str) -> Destination:
    """What a subscription key means to a proxy of `namespace` (S4, R13).

    `key` is `<ip>:<port>` (an original destination) or `<host>:<port>` (an explicit proxy request);
    before either, `udp:` says that a UDP port is meant. What the mesh does not know is passed through.
    """
    transport, rest = split_transport(key)
    host, port = split_host(rest)
    if not host or not port:
        return PASSTHROUGH
    ip = _as_ip(host)
    if ip is None:
        return _at_name(snapshot, namespace, host, port, transport)
    return _at_address(snapshot, ip, port, transport)


def _as_ip(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _at_address(snapshot: Snapshot, ip: str, port: int, transport: str) -> Destination:
    service = snapshot.addresses.get(address_key(ip, port, transport))
    if service is not None:
        return snapshot.destinations[service]
    pod = snapshot.pods_by_ip.get(ip)
    return PASSTHROUGH if pod is None else _single_pod(snapshot, pod, port, transport)


def _at_name(snapshot: Snapshot, namespace: str, host: str, port: int, transport: str) -> Destination:
    made_from = snapshot.made_from
    for names in lookup_names(host, namespace, made_from.world.cluster_domain):
        service = named_service(names, port, snapshot.destinations, transport)
        if service is not None:
            return snapshot.destinations[service]
        pod = made_from.endpoints.hosts.get(names)
        if pod is not None:
            return _single_pod(snapshot, pod, port, transport)
    return PASSTHROUGH


def _single_pod(snapshot: Snapshot, pod: str, port: int, transport: str) -> Destination:
    cluster = f"pod/{pod}:{port}"
    if transport == UDP:
        return Destination(port=port, protocol=Protocol.UDP, cluster=cluster)
    known = snapshot.made_from.world.pods[NamespacedName.parse(pod)]
    targets = snapshot.made_from.endpoints.targets.get(pod, ())
    spoken = (
        declared.protocol
        for declared in inbound_ports(known, targets)
        if declared.port == port and declared.protocol is not Protocol.UDP
    )
    return Destination(port=port, protocol=next(spoken, Protocol.DETECT), cluster=cluster)


def cluster_of(snapshot: Snapshot, key: str) -> Cluster:
    """The endpoints of a cluster key; none for a key whose Service or pod is gone.

    A pod addressed directly is used whether it is ready or not, as its caller asked for this very one.
    """
    if not key.startswith("pod/"):
        return snapshot.clusters.get(key, ())
    name, _, port = key.removeprefix("pod/").rpartition(":")
    pod = snapshot.made_from.world.pods.get(NamespacedName.parse(name))
    if pod is None or not pod.ips:
        return ()
    ip = min(pod.ips, key=lambda ip: (":" in ip, ip))
    return (endpoint_of(pod, ip, int(port), snapshot.made_from.world.trust_domain),)


def clusters_of(destination: Destination) -> Iterator[str]:
    """Every cluster key a Destination mentions, its own first."""
    if destination.cluster is not None:
        yield destination.cluster
    for split in destination.splits:
        for backend in split.backends:
            yield backend.cluster


def slice_for(snapshot: Snapshot, pod: str, keys: Iterable[str]) -> Resources:
    """Everything the proxy of `pod` (`namespace/name`) is to run on, with these subscriptions.

    Raises KeyError if the Snapshot has no meshed pod of that name (not seen yet, or gone).
    """
    resources: Resources = {"inbound": encode_inbound(snapshot.inbound[pod])}
    namespace = pod.partition("/")[0]
    clusters: set[str] = set()
    for key in keys:
        destination = resolve(snapshot, namespace, key)
        resources[f"destination/{key}"] = encode_destination(destination)
        clusters.update(clusters_of(destination))
    for cluster in sorted(clusters):
        resources[f"cluster/{cluster}"] = encode_cluster(cluster_of(snapshot, cluster))
        breaker = snapshot.breakers.get(cluster)
        if breaker is not None:
            resources[f"breaker/{cluster}"] = encode_breaker(breaker)
    return resources


def diff(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> tuple[Resources, tuple[str, ...]]:
    """What turns the slice `old` into `new`: (resources to set, names to remove)."""
    changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
    return changed, tuple(sorted(old.keys() - new.keys()))
