"""A sidecar's process and its spans: what is reported at its end, and by how many workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dataplane.config import destination
from tests.dataplane.control.authority import Authority
from tests.dataplane.control.stand_in import StandIn
from tests.dataplane.sidecar import DEADLINE, Sidecar
from tests.dataplane.tracing.stand_in import collecting
from tests.dataplane.waiting import until

KEY = "api.shop:8080"
CALLS = 12


class Traced(Sidecar):
    """A sidecar with more in its environment."""

    more: dict[str, str]

    def environ(self) -> dict[str, str]:
        return super().environ() | self.more


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[StandIn]:
    stand_in = StandIn(tmp_path, Authority())
    await stand_in.start_identity()
    await stand_in.start_discovery()
    yield stand_in
    await stand_in.stop()


@pytest.mark.parametrize(("workers", "protocol"), [("1", "otlp"), ("2", "zipkin")])
async def test_every_span_is_reported_and_counted_by_the_end_of_the_process(
    controller: StandIn, tmp_path: Path, workers: str, protocol: str
) -> None:
    with collecting() as collector:
        sidecar = Traced(controller, tmp_path)
        sidecar.more = {
            "SMI_MESH_WORKERS": workers,
            "SMI_MESH_WORKLOAD": "Deployment/web/web",
            "SMI_MESH_TRACING": collector.url,
            "SMI_MESH_TRACING_PROTOCOL": protocol,
            "SMI_MESH_TRACE_SAMPLING": "100%",
            "SMI_MESH_METRICS": "off",
        }
        await sidecar.start()
        try:
            stream = await sidecar.wait_ready()
            first = asyncio.gather(sidecar.call(KEY))
            (key,) = (await stream.receive("subscribe"))["keys"]
            stream.update(2, {f"destination/{key}": destination("api", {"v1": 1})})
            assert [status for status, _ in await first] == [503]
            await until(lambda: collector.spans)
            page = ""
            async with asyncio.timeout(DEADLINE):
                while _exported(page) != 1:
                    page = (await sidecar.get("/metrics"))[1].decode()
            assert "smi_mesh_requests_total{" not in page  # metrics are off
            for _ in range(CALLS):
                assert (await sidecar.call(KEY))[0] == 503
        finally:
            assert await sidecar.stop() == 0
        assert len(collector.spans) == CALLS + 1
        assert {request.path for request in collector.requests} == {
            {"otlp": "/v1/traces", "zipkin": "/api/v2/spans"}[protocol]
        }
    assert {(span.service, span.name.upper(), span.kind, span.error) for span in collector.spans} == {
        ("web", "GET", "CLIENT", True)
    }
    assert {span.attributes["smi_mesh.reason"] for span in collector.spans} == {"no-backend"}


def _exported(page: str) -> float:
    name = 'smi_mesh_spans_total{outcome="exported"} '
    return sum(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))
