"""An HTTPRouteGroup can be read in every version, its matches where that version has them."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh, Object
from conformance.expect import expect
from conformance.observe import becomes_served

MATCH: Object = {"name": "items", "pathRegex": "/items", "methods": ["GET"]}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for version in ("v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"):
        found = await mesh.read("HTTPRouteGroup", "routes", version=version)
        expect(found["apiVersion"] == f"specs.smi-spec.io/{version}", f"{version} was asked for: {found}")
        place = found if version in ("v1alpha1", "v1alpha2") else found.get("spec", {})
        expect(place.get("matches") == [MATCH], f"matches in {version}: {found}")
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")


CASE = Case(
    name="group-read-in-every-version",
    feature="specs-versions",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha1",
            "HTTPRouteGroup",
            "Every version describes the same object; the old ones have `matches` at top level.",
        ),
    ),
    rules=("S1",),
    access="closed",
)
