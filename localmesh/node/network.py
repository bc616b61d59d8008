"""What the node asks of a network, whichever driver gives it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from localmesh.node.services import ServiceTable


class NetworkError(Exception):
    """The network cannot be set up; the message names the step, the cause and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Addresses of one cluster. Every cluster on a machine has its own blocks."""

    pod_cidr: str
    service_cidr: str
    node_address: str
    """Address of the node: NodePorts, DNS, `status.hostIP`."""
    api_address: str
    """Where pods reach the API server; the server must listen there."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's place in the network."""

    address: str
    netns: str = ""
    """Path of the pod's network namespace, "" where there is none."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files the pod sees in its /etc (resolv.conf, hosts)."""


class Network(Protocol):
    """A driver. `isolated` says whether pods have namespaces of their own (network and mounts)."""

    isolated: bool
    plan: Plan

    async def attach(self, pod: Mapping[str, Any]) -> Attachment:
        """Give the pod an address (its previous one if that is free). Raises NetworkError."""

    async def detach(self, uid: str) -> None:
        """Take it away again; unknown pods are fine."""

    async def publish(self, table: ServiceTable) -> None:
        """Make services reachable as `table` says."""

    def limits(self) -> list[str]:
        """What does not work here, one sentence each."""

    async def close(self) -> None:
        """Remove everything this driver made."""


@dataclass(slots=True)
class AddressPool:
    """Pod addresses of one block, handed out in rotation so that a freed one is not reused at once."""

    cidr: str
    reserved: int = 10
    """Addresses at the start of the block kept for the node and its gateway."""
    _taken: dict[str, str] = field(default_factory=dict)
    _next: int = 0

    def take(self, owner: str, wanted: str = "") -> str:
        network = ipaddress.ip_network(self.cidr)
        used = set(self._taken.values())
        if wanted and wanted not in used and ipaddress.ip_address(wanted) in network:
            self._taken[owner] = wanted
            return wanted
        size = network.num_addresses - self.reserved - 1
        for step in range(size):
            candidate = str(network[self.reserved + (self._next + step) % size])
            if candidate not in used:
                self._next = (self._next + step + 1) % size
                self._taken[owner] = candidate
                return candidate
        raise NetworkError(f"all {size} pod addresses of {self.cidr} are in use; delete some pods")

    def release(self, owner: str) -> None:
        self._taken.pop(owner, None)

    def of(self, owner: str) -> str | None:
        return self._taken.get(owner)
