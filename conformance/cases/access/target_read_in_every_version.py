"""A TrafficTarget can be read in every version of its group, with every field where that version has it."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh, Object
from conformance.expect import expect
from conformance.observe import becomes_served

RULE: Object = {"kind": "HTTPRouteGroup", "name": "routes", "matches": ["items"]}


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    for version in ("v1alpha1", "v1alpha2", "v1alpha3"):
        found = await mesh.read("TrafficTarget", "client-to-alpha", version=version)
        expect(found["apiVersion"] == f"access.smi-spec.io/{version}", f"{version} was asked for: {found}")
        place = found if version == "v1alpha1" else found.get("spec", {})
        rules = place.get("specs" if version == "v1alpha1" else "rules")
        expect(place.get("destination", {}).get("name") == "alpha", f"destination in {version}: {found}")
        expect([source["name"] for source in place.get("sources", [])] == ["client"], f"sources: {found}")
        expect(rules == [RULE], f"rules in {version}: {rules}")
    await becomes_served(mesh, "client", "http://alpha:8080/items", "alpha")


CASE = Case(
    name="target-read-in-every-version",
    feature="access-versions",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha1",
            "TrafficTarget",
            "Every version describes the same object; v1alpha1 has its fields at top level.",
        ),
    ),
    rules=("S1",),
    access="closed",
)
