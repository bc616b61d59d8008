"""A port that no port can have is refused, or opens nothing."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import is_tcp_denied, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    refusals = [await mesh.attempt(step) for step in ("too-high", "negative")]
    await mesh.settle()
    await is_tcp_denied(mesh, "client", "alpha", 8090)
    await is_tcp_denied(mesh, "other", "alpha", 8090)
    for refusal in refusals:
        expect(refusal is None or 400 <= refusal.status < 500, f"it was refused with {refusal}")
    await mesh.apply("good")
    await tcp_becomes_served(mesh, "client", "alpha", 8090, "alpha")
    await tcp_becomes_served(mesh, "other", "alpha", 8090, "alpha")


CASE = Case(
    name="bad-ports",
    feature="specs-admission",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "TCPRoute",
            "A TCPRoute lists ports.",
        ),
    ),
    rules=("R2",),
    access="closed",
)
