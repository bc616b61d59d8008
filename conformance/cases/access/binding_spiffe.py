"""An IdentityBinding with SPIFFE ids stands for the workloads that have them."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "other", "http://alpha:8080/")


CASE = Case(
    name="binding-spiffe",
    feature="access-identity-binding",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "Resource Design",
            "`spiffeIdentities` is one of the schemes; identities of other trust domains may be listed.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
