"""A match with path, methods and headers holds where all three do."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied, is_served

ALPHA = "http://alpha:8080"
IPHONE = {"user-agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0)"}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", f"{ALPHA}/api/users", "alpha", headers=IPHONE)
    await mesh.settle()
    await is_served(mesh, "client", f"{ALPHA}/api/users", "alpha", method="HEAD", headers=IPHONE)
    await is_denied(mesh, "client", f"{ALPHA}/api/users", method="POST", headers=IPHONE)
    await is_denied(mesh, "client", f"{ALPHA}/users", headers=IPHONE)
    await is_denied(mesh, "client", f"{ALPHA}/api/users")


CASE = Case(
    name="headers-with-path-and-methods",
    feature="specs-http-combination",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "HTTP header filters",
            "The example of iPhone users who send GET or HEAD to /api.",
        ),
    ),
    rules=("S16",),
    access="closed",
    needs=("specs-http-header",),
)
