"""Two HTTPRouteGroups in one TrafficTarget are alternatives, and so are two TCPRoutes."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.observe import allows_exactly, becomes_served, is_served, tcp_becomes_served


async def run(mesh: Mesh) -> None:
    await mesh.apply()
    await becomes_served(mesh, "client", "http://alpha:8080/two", "alpha")
    await allows_exactly(mesh, "client", "alpha", allowed=("GET /one", "GET /two"), refused=("GET /three",))
    await tcp_becomes_served(mesh, "client", "beta", 8090, "beta")
    await is_served(mesh, "client", "http://beta:8080/", "beta")


CASE = Case(
    name="rules-of-one-kind-add-up",
    feature="access-combination",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-access",
            "v1alpha3",
            "TrafficTarget",
            "A call on one of the routes that the rules define is allowed.",
        ),
    ),
    rules=("S21", "R1"),
    access="closed",
)
