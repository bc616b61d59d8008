"""An IdentityBinding with a label selector stands for the pods that carry the labels."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import becomes_served, is_denied


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/", "alpha")
    await mesh.settle()
    await is_denied(mesh, "other", "http://alpha:8080/")
    await is_denied(mesh, "client", "http://beta:8080/")


CASE = Case(
    name="binding-pod-labels",
    feature="access-identity-binding",
    level=Level.CORE,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha4",
            "Resource Design",
            "`podLabelSelector` is one of the schemes by which an IdentityBinding names workloads.",
        ),
    ),
    rules=("R11",),
    access="closed",
)
