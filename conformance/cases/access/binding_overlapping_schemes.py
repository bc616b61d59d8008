"""An IdentityBinding with a service account and a label selector is refused, or stands for either."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusal = await mesh.attempt("both")
    if refusal is None:
        await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
        await becomes_served(mesh, "other", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "visitor", f"http://alpha.{mesh.namespace}:8080/")
    await mesh.apply("one")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")


CASE = Case(
    name="binding-overlapping-schemes",
    feature="access-identity-binding",
    level=Level.IMPLEMENTATION,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "Resource Design",
            "`podLabelSelector` and `serviceAccount` exclude each other.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
