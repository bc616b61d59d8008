"""A gRPC method is opened by its path, as an HTTP/2 POST; the others stay closed."""

from __future__ import annotations

from conformance.case import Case, Level, SpecRef
from conformance.driver import Mesh
from conformance.expect import expect

ECHO = "http://alpha:8080/echo.Echo"


async def run(mesh: Mesh) -> None:
    await mesh.apply()

    async def called() -> None:
        answer = (await mesh.call("client", f"{ECHO}/Say", http="grpc", timeout=2.0)).one
        expect(answer.server == "alpha", f"the allowed method came to {answer} {dict(answer.headers)}")

    await mesh.converge(called, "client may call echo.Echo/Say at alpha")
    await mesh.settle()
    before = await mesh.reached("alpha")
    for caller, method in (("client", "Shout"), ("other", "Say")):
        answer = (await mesh.call(caller, f"{ECHO}/{method}", http="grpc")).one
        expect(answer.server is None and answer.error != "timeout", f"{caller} → {method} came to {answer}")
    expect(await mesh.reached("alpha") == before, "a refused gRPC call reached the application")


CASE = Case(
    name="grpc-method",
    feature="access-grpc",
    level=Level.EXTENDED,
    run=run,
    refs=(
        SpecRef(
            "traffic-specs",
            "v1alpha4",
            "Out of scope",
            "Until there is a resource for gRPC, HTTPRouteGroup is used for it.",
        ),
    ),
    rules=("S25",),
    access="closed",
)
