"""Which pods belong to what: a World turned around for questions about traffic. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from controller.compile.world import Pod, World
from controller.metricsapi.samples import OUTBOUND, Peer, Row
from smi.api.hub import TrafficSplit
from smi.names import NamespacedName, Workload

WORKLOADS: Final = frozenset(
    {"DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"}
)
"""Kinds that manage pods."""


@dataclass(frozen=True, slots=True, order=True)
class Known:
    """An object at the other end of an edge."""

    kind: str
    name: NamespacedName


@dataclass(frozen=True, slots=True)
class Directory:
    """Pods by name, the services they answer for, and the splits there are.

    Cluster-scoped objects are named with an empty namespace.
    """

    pods: Mapping[NamespacedName, Pod]
    services: Mapping[NamespacedName, tuple[NamespacedName, ...]]
    """Pod → Services with this pod among their endpoints, sorted."""
    splits: Mapping[NamespacedName, TrafficSplit]
    kinds: Mapping[NamespacedName, str] = field(default_factory=dict)
    """Workload → its kind; of two of one name, either."""

    @classmethod
    def of(cls, world: World) -> Directory:
        services: defaultdict[NamespacedName, set[NamespacedName]] = defaultdict(set)
        for piece in world.slices.values():
            for endpoint in piece.endpoints:
                if endpoint.pod is not None and piece.service is not None:
                    services[endpoint.pod].add(piece.service)
        sorted_services = {pod: tuple(sorted(names)) for pod, names in services.items()}
        kinds = {
            NamespacedName(name.namespace, pod.workload.name): pod.workload.kind
            for name, pod in world.pods.items()
            if pod.workload.name
        }
        return cls(world.pods, sorted_services, world.splits, kinds)

    def of_pod(self, kind: str, pod: NamespacedName) -> tuple[NamespacedName, ...]:
        """The objects of `kind` that contain the pod: at most one, but for Services."""
        match kind:
            case "Pod":
                return (pod,)
            case "Namespace":
                return (NamespacedName("", pod.namespace),)
            case "Service":
                return self.services.get(pod, ())
        known = self.pods.get(pod)
        if known is None:
            return ()
        if kind == "Node":
            return (NamespacedName("", known.node),) if known.node else ()
        for owner_kind, name in ((known.workload.kind, known.workload.name), known.owner):
            if owner_kind == kind and name:
                return (NamespacedName(pod.namespace, name),)
        return ()

    def of_peer(self, kind: str, row: Row) -> tuple[Known, ...]:
        """The objects of `kind` at the other end of a row; empty where that is not known.

        The peer of one workload may be a workload of another kind: a Deployment calls a StatefulSet.
        """
        if kind == "Service" and row.direction == OUTBOUND:
            return tuple(Known(kind, name) for name in _parsed(row.backend or row.service))
        peer = row.peer
        if peer.pod is not None and (peer.pod in self.pods or kind in ("Pod", "Namespace")):
            return self.end_of_pod(kind, peer.pod)
        peer = self._with_kind(peer)
        names = _by_word(kind, peer)
        if names:
            return tuple(Known(kind, name) for name in names)
        return _other_workload(kind, peer.workload, peer.namespace)

    def _with_kind(self, peer: Peer) -> Peer:
        """A peer of which only the workload's name was told, with the kind that pods of it say."""
        workload = peer.workload
        if workload.kind or not workload.name:
            return peer
        kind = self.kinds.get(NamespacedName(peer.namespace, workload.name), "")
        return replace(peer, workload=replace(workload, kind=kind))

    def end_of_pod(self, kind: str, pod: NamespacedName) -> tuple[Known, ...]:
        """Who a pod is as the other end of an edge of a resource of `kind`."""
        names = self.of_pod(kind, pod)
        known = self.pods.get(pod)
        if not names and known is not None:
            return _other_workload(kind, known.workload, pod.namespace)
        return tuple(Known(kind, name) for name in names)

    def members(self, kind: str, names: Iterable[NamespacedName] | None) -> list[Pod]:
        """Meshed pods that have an address and belong to one of `names` (None: to any of the kind)."""
        wanted = None if names is None else set(names)
        found = []
        for name, pod in self.pods.items():
            if not (pod.meshed and pod.ips):
                continue
            owners = self.of_pod(kind, name)
            if owners and (wanted is None or not wanted.isdisjoint(owners)):
                found.append(pod)
        return found

    def meshed(self) -> list[Pod]:
        """Every pod with a sidecar that can be asked."""
        return [pod for pod in self.pods.values() if pod.meshed and pod.ips]


def _other_workload(kind: str, workload: Workload, namespace: str) -> tuple[Known, ...]:
    if kind in WORKLOADS and workload.kind in WORKLOADS and namespace and workload.name:
        return (Known(workload.kind, NamespacedName(namespace, workload.name)),)
    return ()


def _by_word(kind: str, peer: Peer) -> tuple[NamespacedName, ...]:
    """What the row itself says of a peer we do not know (deleted meanwhile, or folded together)."""
    namespace = peer.namespace or (peer.pod.namespace if peer.pod else "")
    if not namespace:
        return ()
    if kind == "Namespace":
        return (NamespacedName("", namespace),)
    if peer.workload.kind == kind and peer.workload.name:
        return (NamespacedName(namespace, peer.workload.name),)
    return ()


def _parsed(text: str) -> tuple[NamespacedName, ...]:
    try:
        return (NamespacedName.parse(text),)
    except ValueError:
        return ()
