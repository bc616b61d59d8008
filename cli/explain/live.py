"""A cluster's objects → the World its controller compiles, by listing the same kinds it watches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cli.errors import Failed
from cli.explain.decision import Interception
from cli.kube import Kube, KubeError
from controller.compile.read import from_kubernetes
from controller.compile.world import Reading, World
from controller.kinds import BY_NAME, WATCHED, Kind
from smi.names import (
    CONTROLLER_NAME,
    DEFAULT_CLUSTER_DOMAIN,
    DEFAULT_TRUST_DOMAIN,
    SYSTEM_NAMESPACE,
)


@dataclass(frozen=True, slots=True)
class Observed:
    """A cluster's objects, and what its mesh was told to intercept."""

    world: World
    interception: Interception


PAGE: Final = 500
"""Objects of one answer: the API server's own clients ask for as many."""


async def observe(kubeconfig: Path, context: str | None) -> Observed:
    """List everything and read it.

    Raises KubeconfigError, KubeError, or an exception group of KubeErrors; of Failed where the cluster does
    not serve the mesh's kinds.
    """
    async with Kube.connect(kubeconfig, context) as kube:
        env = await _environment(kube)
        async with asyncio.TaskGroup() as group:
            lists = [group.create_task(_readings(kube, kind), name=f"list {kind.kind}") for kind in WATCHED]
    readings = {reading.ref: reading for found in lists for reading in found.result()}
    world = World.of(
        readings.values(),
        trust_domain=env.get("SMI_MESH_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN,
        cluster_domain=env.get("SMI_MESH_CLUSTER_DOMAIN") or DEFAULT_CLUSTER_DOMAIN,
    )
    redirected = env.get("SMI_MESH_INTERCEPTION") != "explicit"
    udp = redirected and env.get("SMI_MESH_UDP") != "off"
    return Observed(world, Interception(redirected=redirected, udp=udp))


async def _readings(kube: Kube, kind: Kind) -> list[Reading]:
    found: list[Reading] = []
    query = {"limit": str(PAGE)}
    if kind.name is not None:
        query["fieldSelector"] = f"metadata.name={kind.name}"
    path = kind.path(SYSTEM_NAMESPACE if kind is BY_NAME["ConfigMap"] else "")
    while True:
        try:
            answer = await kube.request("GET", path, query=query)
        except KubeError as error:
            if error.status == 404 and kind.smi:
                message = f"the cluster serves no {kind.kind} ({kind.api_version}); is the mesh installed?"
                raise Failed(message) from None
            raise
        found += [from_kubernetes(kind.kind, item) for item in answer["items"]]
        token = answer["metadata"].get("continue")
        if not token:
            return found
        query["continue"] = token


async def _environment(kube: Kube) -> dict[str, Any]:
    """How the controller's Deployment is set; empty without one, which means the defaults."""
    path = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{CONTROLLER_NAME}"
    deployment = await kube.find(path)
    if deployment is None:
        return {}
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return {
        entry["name"]: entry.get("value") for container in containers for entry in container.get("env") or ()
    }
