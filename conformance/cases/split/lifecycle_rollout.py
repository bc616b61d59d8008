"""The whole documented roll-out, in its order: split first, then the new version, its weight, and its end."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, becomes_shared, is_served


async def run(mesh: Mesh) -> None:
    url = "http://foobar:8080/"
    await mesh.apply("old-version")
    await mesh.apply("split-before-new-version")
    await becomes_served(mesh, "client", url, "alpha", count=30)
    await mesh.apply("new-version")
    await becomes_served(mesh, "client", "http://foobar-v2:8080/", "beta")
    await mesh.settle()
    await is_served(mesh, "client", url, "alpha", count=100)
    await mesh.apply("third")
    await becomes_shared(mesh, "client", url, {"alpha": 1000, "beta": 500})
    await mesh.apply("all")
    await becomes_served(mesh, "client", url, "beta", count=30)
    await mesh.delete("Service", "foobar-v1")
    await mesh.settle()
    await is_served(mesh, "client", url, "beta", count=50)
    await mesh.delete("TrafficSplit", "foobar-rollout")
    await mesh.settle()
    await becomes_served(mesh, "client", url, "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="lifecycle-rollout",
    feature="split-lifecycle",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha4",
            "Workflow",
            "The new version is named before it exists, gets nothing at weight 0, then a part, then all.",
        ),
    ),
    rules=("S6", "S15"),
)
