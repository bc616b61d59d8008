"""The Kubernetes kinds the controller watches and reports on: where each is served.

Data only. SMI kinds are watched at their storage (hub) version, so that watching never needs our
own conversion webhook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource. `name` filters the watch to objects of that name."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    name: str | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def smi(self) -> bool:
        return self.group.endswith(".smi-spec.io")

    @property
    def root(self) -> str:
        """Path of the group and version: what discovery answers on."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """Path of one object, of the kind in a namespace, or of the kind everywhere."""
        where = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{self.root}{where}/{self.plural}" + (f"/{name}" if name else "")


_SPLIT, _ACCESS, _SPECS = "split.smi-spec.io", "access.smi-spec.io", "specs.smi-spec.io"

WATCHED: Final = (
    Kind("ConfigMap", "", "v1", "configmaps", name="smi-mesh-config"),
    Kind("Namespace", "", "v1", "namespaces", namespaced=False),
    Kind("Service", "", "v1", "services"),
    Kind("Pod", "", "v1", "pods"),
    Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    Kind("TrafficSplit", _SPLIT, "v1alpha4", "trafficsplits"),
    Kind("TrafficTarget", _ACCESS, "v1alpha3", "traffictargets"),
    Kind("IdentityBinding", _ACCESS, "v1alpha4", "identitybindings"),
    Kind("HTTPRouteGroup", _SPECS, "v1alpha4", "httproutegroups"),
    Kind("TCPRoute", _SPECS, "v1alpha4", "tcproutes"),
    Kind("UDPRoute", _SPECS, "v1alpha4", "udproutes"),
)
BY_NAME: Final = {kind.kind: kind for kind in WATCHED}
