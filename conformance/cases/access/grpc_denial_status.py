"""A refused gRPC call ends with status 7, PERMISSION_DENIED."""

from __future__ import annotations

from conformance.case import Case, Level
from conformance.driver import Mesh
from conformance.expect import expect

ECHO = "http://alpha:8080/echo.Echo/Say"


async def run(mesh: Mesh) -> None:
    answer = (await mesh.call("client", ECHO, http="grpc")).one
    expect(
        answer.headers.get("grpc-status") == "7", f"a refused call came to {answer} {dict(answer.headers)}"
    )
    await mesh.apply("open")

    async def called() -> None:
        answer = (await mesh.call("client", ECHO, http="grpc", timeout=2.0)).one
        expect(
            answer.server == "alpha" and answer.headers.get("grpc-status", "0") == "0", f"it came to {answer}"
        )

    await mesh.converge(called, "client may call alpha")


CASE = Case(
    name="grpc-denial-status",
    feature="access-grpc",
    level=Level.IMPLEMENTATION,
    run=run,
    rules=("S25",),
    access="closed",
)
