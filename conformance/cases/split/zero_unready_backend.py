"""A backend without ready endpoints is skipped and the others share all; no request fails for it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_shared(
        mesh, "client", "http://web:8080/", {"alpha": 25, "beta": 25, "gamma": 50}, picks=200
    )
    await mesh.patch("Service", "moving", {"spec": {"selector": {"app": "no-such-app"}}})
    await becomes_shared(mesh, "client", "http://web:8080/", {"alpha": 25, "beta": 25})
    await mesh.patch("Service", "moving", {"spec": {"selector": {"app": "gamma"}}})
    await becomes_shared(
        mesh, "client", "http://web:8080/", {"alpha": 25, "beta": 25, "gamma": 50}, picks=200
    )


CASE = Case(
    name="zero-unready-backend",
    feature="split-zero",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Tradeoffs",
            "Weights, not percentages, were chosen for the case that a backend has no healthy endpoints.",
        ),
    ),
    rules=("S7",),
)
