"""The eleven resources of the TrafficMetrics API, and where the objects they speak of are served.

Source: SMI traffic-metrics v1alpha1, "Kubernetes API".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GROUP: Final = "metrics.smi-spec.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
ROOT: Final = f"/apis/{API_VERSION}"
SPLITS: Final = "trafficsplits"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: `plural` in our paths and in the API of `api_version`, which serves the objects."""

    plural: str
    kind: str
    api_version: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """Path of the object, of all in a namespace, or of all there are, in its own API."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{where}/{self.plural}" + (f"/{name}" if name else "")

    @property
    def group(self) -> str:
        """API group of the objects, "" for the core group."""
        return self.api_version.rpartition("/")[0]


RESOURCES: Final[Mapping[str, Resource]] = {
    one.plural: one
    for one in (
        Resource("namespaces", "Namespace", "v1", namespaced=False),
        Resource("nodes", "Node", "v1", namespaced=False),
        Resource("pods", "Pod", "v1"),
        Resource("replicationcontrollers", "ReplicationController", "v1"),
        Resource("services", "Service", "v1"),
        Resource("daemonsets", "DaemonSet", "apps/v1"),
        Resource("deployments", "Deployment", "apps/v1"),
        Resource("replicasets", "ReplicaSet", "apps/v1"),
        Resource("statefulsets", "StatefulSet", "apps/v1"),
        Resource("jobs", "Job", "batch/v1"),
        Resource(SPLITS, "TrafficSplit", "split.smi-spec.io/v1alpha4"),
    )
}
