"""Quantities come back as they were written, also after a newer version was read."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    newest = await mesh.read("TrafficSplit", "web", version="v1alpha4")
    weights = [backend["weight"] for backend in newest["spec"]["backends"]]
    expect(
        all(isinstance(weight, int) for weight in weights),
        f"v1alpha4: weights are not whole numbers: {weights}",
    )
    expect(weights[0] == 2 * weights[1], f"v1alpha4: the ratio 2 : 1 became {weights}")

    async def write_back() -> None:
        newest = await mesh.read("TrafficSplit", "web", version="v1alpha4")
        newest["metadata"].setdefault("labels", {})["touched"] = "yes"
        await mesh.replace(newest)

    await mesh.converge(write_back, "a write that meets no other")
    oldest = await mesh.read("TrafficSplit", "web", version="v1alpha1")
    written = [backend["weight"] for backend in oldest["spec"]["backends"]]
    expect(
        [str(weight) for weight in written] == ["1", "500m"], f"v1alpha1: expected 1 and 500m, got {written}"
    )


CASE = Case(
    name="versions-quantities-come-back",
    feature="split-versions",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S1", "R12"),
)
