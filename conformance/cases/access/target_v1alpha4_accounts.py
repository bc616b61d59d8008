"""A v1alpha4 TrafficTarget may name service accounts, as before."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /items",), refused=("POST /items", "GET /"))
    await is_denied(mesh, "other", "http://alpha:8080/items")


CASE = Case(
    name="target-v1alpha4-accounts",
    feature="access-identity-binding",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "TrafficTarget",
            "Sources are named by IdentityBinding or by ServiceAccount.",
        ),
    ),
    rules=("S1",),
    access="closed",
)
