"""A split is one object in all versions: who deletes it in one has deleted it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect
from conformance.observe import becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://web:8080/", "beta", count=20)
    for version in ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"):
        path = f"/apis/split.smi-spec.io/{version}/namespaces/{mesh.namespace}/trafficsplits"
        status, listed = await mesh.raw(path)
        names = [item["metadata"]["name"] for item in listed.get("items", [])] if status == 200 else []
        expect("web" in names, f"{version}: {status}, lists {names}")
    await mesh.delete("TrafficSplit", "web")
    status, _ = await mesh.raw(
        f"/apis/split.smi-spec.io/v1alpha4/namespaces/{mesh.namespace}/trafficsplits/web"
    )
    expect(status == 404, f"the split is still there in v1alpha4: {status}")
    await becomes_served(mesh, "client", "http://web:8080/", "alpha", "beta", "gamma", count=60)


CASE = Case(
    name="versions-delete-through-another",
    feature="split-versions",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-split",
            "v1alpha1",
            "Specification",
            "All versions are of one resource in one API group.",
        ),
    ),
    rules=("S1", "S15"),
)
