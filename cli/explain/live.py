"""A cluster's objects → the World its controller compiles, by listing the same kinds it watches."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from cli.errors import Failed
from cli.kube import Kube, KubeError, Object
from controller.compile.read import from_kubernetes
from controller.compile.world import Reading, World
from controller.kinds import BY_NAME, WATCHED, Kind
from smi.names import (
    CONTROLLER_NAME,
    DEFAULT_CLUSTER_DOMAIN,
    DEFAULT_TRUST_DOMAIN,
    SYSTEM_NAMESPACE,
)

PAGE: Final = 500
"""Objects of one answer: the API server's own clients ask for as many."""


async def observe(kubeconfig: Path, context: str | None) -> World:
    """List everything and read it.

    Raises KubeconfigError, KubeError, or an exception group of KubeErrors; of Failed where the cluster does
    not serve the mesh's kinds.
    """
    async with Kube.connect(kubeconfig, context) as kube:
        trust_domain, cluster_domain = await _domains(kube)
        async with asyncio.TaskGroup() as group:
            lists = [group.create_task(_readings(kube, kind), name=f"list {kind.kind}") for kind in WATCHED]
    readings = {reading.ref: reading for found in lists for reading in found.result()}
    return World.of(readings.values(), trust_domain=trust_domain, cluster_domain=cluster_domain)


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


async def _domains(kube: Kube) -> tuple[str, str]:
    """Trust domain and cluster domain, as the controller's Deployment sets them; the defaults without one."""
    path = f"/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/{CONTROLLER_NAME}"
    deployment = await kube.find(path)
    env = _environment(deployment) if deployment is not None else {}
    return (
        env.get("SMI_MESH_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN,
        env.get("SMI_MESH_CLUSTER_DOMAIN") or DEFAULT_CLUSTER_DOMAIN,
    )


def _environment(deployment: Object) -> dict[str, Any]:
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return {
        entry["name"]: entry.get("value") for container in containers for entry in container.get("env") or ()
    }
