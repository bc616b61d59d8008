"""Weights changed through another version than the split was made in count."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_shared


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", count=20)
    for version, old, new in (("v1alpha2", 50, 50), ("v1alpha3", 20, 80), ("v1alpha1", "1", "0")):
        backends = [{"service": "alpha", "weight": old}, {"service": "beta", "weight": new}]
        await mesh.patch("TrafficSplit", "web", {"spec": {"backends": backends}}, version=version)
        weights = {"alpha": int(old), "beta": int(new)}
        await becomes_shared(mesh, "client", "http://web:8080/", weights, picks=200)


CASE = Case(
    name="versions-change-through-another",
    feature="split-versions",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha2",
            "Workflow",
            "Updating the weights of a TrafficSplit moves traffic accordingly.",
        ),
    ),
    rules=("S1", "S15"),
)
