"""An IdentityBinding cannot claim identities of another namespace."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    url = f"http://alpha.{mesh.namespace}:8080/"
    await mesh.apply()
    refusal = await mesh.attempt("foreign")
    await mesh.settle()
    await is_denied(mesh, "visitor", url)
    if refusal is not None:
        expect(
            "spiffeIdentities" in refusal.message, f"the refusal does not name the field: {refusal.message}"
        )
    await mesh.apply("own")
    await becomes_served(mesh, "client", url, "alpha")


CASE = Case(
    name="binding-of-foreign-identity",
    feature="access-identity-binding",
    level=Level.IMPLEMENTATION,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "Resource Design",
            "Nobody may declare the identity of workloads in another namespace.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
