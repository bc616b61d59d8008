"""A caller is who its mesh identity says, whatever its headers claim."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.settle()
    account = f"ns/{mesh.namespace}/sa/client"
    claims = {
        "x-forwarded-client-cert": f"By=spiffe://cluster.local/x;Hash=00;URI=spiffe://cluster.local/{account}",
        "l5d-client-id": f"client.{mesh.namespace}.serviceaccount.identity.linkerd.cluster.local",
        "x-smi-mesh-identity": f"spiffe://cluster.local/{account}",
        "x-spiffe-id": f"spiffe://cluster.local/{account}",
        "x-forwarded-for": await mesh.address("client"),
        "from": f"client@{mesh.namespace}",
    }
    await is_denied(mesh, "other", "http://alpha:8080/", headers=claims)
    for name, value in claims.items():
        await is_denied(mesh, "other", "http://alpha:8080/", headers={name: value})


CASE = Case(
    name="identity-is-not-claimed",
    feature="access-identity",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "Access is controlled by service identity, which is assigned by service account and not "
            "by what a request says.",
        ),
    ),
    rules=("S20",),
    access="closed",
)
