"""One digest over everything a Snapshot says to proxies and authors.

Equal digests are not published, so it must cover all of it; it runs on every pod event, so what
many pods share is encoded once. Stable from process to process: no `hash()`, no set order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from controller.compile.conditions import ObjectStatus
from controller.compile.endpoints import Endpoints
from controller.compile.world import Pod
from smi.findings import Finding, ObjectRef
from smi.policy.codec import JSON, encode_inbound, encode_limit
from smi.policy.snapshot import Cluster, Inbound


def digest_of(lines: Iterable[str]) -> str:
    return blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def digest_json(value: JSON) -> str:
    return digest_of([json.dumps(value, sort_keys=True)])


def fingerprint(
    policy_digest: str,
    pods: Iterable[Pod],
    inbound: Mapping[str, Inbound],
    endpoints: Endpoints,
    addresses: Mapping[str, str],
    conditions: Mapping[ObjectRef, ObjectStatus],
    findings: Iterable[Finding],
) -> str:
    """The digest of a Snapshot; `policy_digest` stands for its destinations."""
    return digest_of(
        [
            policy_digest,
            digest_of(sorted(_inbound(inbound.values()))),
            digest_of(sorted(f"{key} {_cluster(cluster)}" for key, cluster in endpoints.clusters.items())),
            digest_of(sorted(f"{address} {key}" for address, key in addresses.items())),
            digest_of(sorted(f"{ip} {pod}" for ip, pod in endpoints.pods_by_ip.items())),
            digest_of(sorted(map(_pod, pods))),
            digest_of(sorted(f"{'.'.join(host)} {pod}" for host, pod in endpoints.hosts.items())),
            digest_of(_status(conditions[ref]) for ref in sorted(conditions)),
            digest_of(map(repr, findings)),
        ]
    )


def _inbound(inbounds: Iterable[Inbound]) -> Iterator[str]:
    """A line per pod. Pods of one workload differ in nothing but their name."""
    grants: dict[int, str] = {}
    for inbound in inbounds:
        # Grants are shared tuples, alive as long as the Snapshot: their id() stands for them here.
        known = grants.get(id(inbound.grants))
        if known is None:
            known = grants[id(inbound.grants)] = _grants(inbound)
        ports = ",".join(f"{port.port}={port.protocol}" for port in inbound.ports)
        probes = ",".join(f"{probe.port}{probe.path}" for probe in inbound.probes)
        flags = f"{inbound.mode} {inbound.mtls} {inbound.same_service_account}"
        limits = digest_json([encode_limit(limit) for limit in inbound.limits]) if inbound.limits else ""
        yield f"{inbound.pod} {inbound.identity} {flags} {ports} {probes} {known} {limits}"


def _grants(inbound: Inbound) -> str:
    only_grants = Inbound(pod="", identity="", grants=inbound.grants)
    return digest_json(encode_inbound(only_grants))


def _pod(pod: Pod) -> str:
    """What callers that address a pod directly depend on (single-pod clusters are made on demand)."""
    ports = ",".join(f"{port.port}={port.protocol}" for port in pod.ports)
    return f"{pod.name} {pod.ips} {pod.service_account} {pod.meshed} {sorted(pod.exclude_inbound)} {ports}"


def _cluster(cluster: Cluster) -> str:
    return " ".join(f"{known.ip}|{known.port}|{known.pod}|{known.identity}" for known in cluster)


def _status(status: ObjectStatus) -> str:
    # Which pods it concerns follows from the grants in their inbound lines.
    return (
        f"{status.ref!r} {status.uid} {status.generation} {status.conditions!r} {sorted(status.destinations)}"
    )
