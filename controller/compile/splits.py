"""TrafficSplits on the ports of their root Services → Destinations (S3-S12, R3-R6, R13).

What one split says by itself is `smi.lower`'s; here it meets the Services that exist and the
other splits of its root. Computed from the whole set of objects every time (S15).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.compile.topology import counted_ports, destination_key, port_of, service_in
from controller.compile.world import Port, Service, World
from smi.api.hub import TrafficSplit
from smi.findings import Finding, ObjectRef, Reason, Severity
from smi.names import NamespacedName
from smi.policy.snapshot import Backend, Destination, RouteMatch, Split

GROUP = "split.smi-spec.io"


@dataclass(frozen=True, slots=True)
class Routing:
    """Where every Service port leads."""

    destinations: Mapping[str, Destination]
    concerns: Mapping[ObjectRef, frozenset[str]]
    """TrafficSplit → the destination keys it shapes."""
    findings: tuple[Finding, ...]
