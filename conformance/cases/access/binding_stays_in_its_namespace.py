"""An IdentityBinding says nothing about workloads of another namespace."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    url = f"http://alpha.{mesh.namespace}:8080/"
    await mesh.apply()
    await becomes_served(mesh, "visitor", url, "alpha")
    await mesh.settle()
    await is_denied(mesh, "client", url)
    await is_denied(mesh, "other", url)


CASE = Case(
    name="binding-stays-in-its-namespace",
    feature="access-identity-binding",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "Resource Design",
            "The namespace of an IdentityBinding is the boundary of the workloads it applies to.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
