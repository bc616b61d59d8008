"""The schemes of one IdentityBinding are alternatives."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await becomes_served(mesh, "other", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "visitor", f"http://alpha.{mesh.namespace}:8080/")


CASE = Case(
    name="binding-schemes-add-up",
    feature="access-identity-binding",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "Resource Design",
            "The schemes of an IdentityBinding are OR'd together.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
