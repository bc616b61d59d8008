"""A TrafficTarget with a missing IdentityBinding allows nobody, until the binding is there."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.observe import becomes_denied, becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply("target")
    await mesh.settle()
    await is_denied(mesh, "client", "http://alpha:8080/")
    await mesh.apply("binding")
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.delete("IdentityBinding", "callers")
    await becomes_denied(mesh, "client", "http://alpha:8080/")


CASE = Case(
    name="binding-missing",
    feature="access-identity-binding",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S22",),
    access="closed",
)
