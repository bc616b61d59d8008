"""The SMI manifests that the end-to-end tests apply, in the namespace of the sample."""

from __future__ import annotations

from tests.e2e.harness import NAMESPACE


def allow(
    source: str = "web",
    destination: str = "api-v1",
    *,
    rules: str,
    name: str = "",
    source_namespace: str = NAMESPACE,
) -> str:
    """A TrafficTarget; `rules` is its YAML list in flow style."""
    return f"""
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {name or f"{source}-to-{destination}"}, namespace: {NAMESPACE}}}
spec:
  destination: {{kind: ServiceAccount, name: {destination}, namespace: {NAMESPACE}}}
  sources: [{{kind: ServiceAccount, name: {source}, namespace: {source_namespace}}}]
  rules: {rules}
---
"""


def routes(name: str, matches: str) -> str:
    return f"""
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{matches: {matches}}}
---
"""


def tcp_route(name: str, *ports: int) -> str:
    return f"""
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec: {{matches: {{ports: {list(ports)}}}}}
---
"""


def split(weights: dict[str, int], *, matches: str = "", name: str = "api") -> str:
    backends = "".join(
        f"\n  - {{service: {service}, weight: {weight}}}" for service, weight in weights.items()
    )
    filters = f"\n  matches: [{{kind: HTTPRouteGroup, name: {matches}}}]" if matches else ""
    return f"""
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  service: api{filters}
  backends:{backends}
---
"""


EVERYTHING = routes("everything", '[{name: all, pathRegex: ".*", methods: ["*"]}]')
OPEN_API = (
    EVERYTHING
    + allow(destination="api-v1", rules="[{kind: HTTPRouteGroup, name: everything}]")
    + allow(destination="api-v2", rules="[{kind: HTTPRouteGroup, name: everything}]")
)
"""web may call both versions of api with any HTTP request."""
