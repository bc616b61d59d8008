"""What metrics and traces cost: sidecars with both beside sidecars with neither."""

from __future__ import annotations

import json
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from benchmarks import ours
from benchmarks.ours import Sidecar
from benchmarks.processes import NotStarted
from benchmarks.rows import Row, at_least
from benchmarks.works.bench import Bench, Contender, rounds
from benchmarks.works.http1 import wrk

_UNTRACED: Final = Path(__file__).with_name("untraced.lua")
_SHARE: Final = 0.01
_ROUNDS: Final = 3
"""Of a difference of some per cent, one round says little."""
_BARE: Final = {"SMI_MESH_METRICS": "off"}


async def telemetry(bench: Bench) -> list[Row]:
    """Metrics and tracing at 1 % against both off; every trace begins at the first sidecar."""
    with_both = {
        "SMI_MESH_TRACING": f"http://127.0.0.1:{bench.backend}",
        "SMI_MESH_TRACE_SAMPLING": f"{_SHARE:.0%}",
    }
    rows = []
    ours.configure(bench.controller, bench.backend, bench.stream, bench.h2, "-bare")
    for hops, work in (("one", "HTTP/1.1 one hop"), ("two", "HTTP/1.1 two hops, mTLS")):
        async with AsyncExitStack() as stack:
            ports, contenders = ours.ports(), []
            observed: list[Sidecar] = []
            for name, suffix, more in (("metrics, 1 % traced", "", with_both), ("both off", "-bare", _BARE)):
                out = ours.sidecar(
                    bench.controller, bench.folder, f"web{suffix}", ours.out_ip(suffix), ports, more=more
                )
                pair = [await stack.enter_async_context(out)]
                if hops == "two":
                    inner = ours.sidecar(
                        bench.controller, bench.folder, f"api{suffix}", ours.in_ip(suffix), ports, more=more
                    )
                    pair.append(await stack.enter_async_context(inner))
                running = [one.running for one in pair]
                contenders.append(Contender(name, pair[0].outbound, f"{hops}.http", running))
                observed = observed or pair
            await rounds(bench, contenders, _untraced, least=_ROUNDS)
            for one in observed:
                _check(one)
        with_it, without = (one.per_cpu_second for one in contenders)
        rows.append(
            Row(
                f"metrics and tracing at 1 %, {work}",
                "requests per CPU-second",
                with_it,
                "both off",
                without,
                at_least(0.9),
            )
        )
    return rows


async def _untraced(contender: Contender, seconds: int) -> None:
    await wrk(contender, seconds, "-s", str(_UNTRACED))


def _check(sidecar: Sidecar) -> None:
    """Fail unless requests were counted and about the share of them that was wished for was exported."""
    url = f"http://{sidecar.ip}:{sidecar.ports.admin}/metrics?dialects=smi"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()

    def total(start: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    requests, spans = total("smi_mesh_requests_total{"), total('smi_mesh_spans_total{outcome="exported"}')
    if not 0.5 * _SHARE < spans / max(requests, 1.0) < 1.5 * _SHARE:
        said = json.dumps([line for line in lines if line.startswith("smi_mesh_spans")])
        raise NotStarted(f"{spans:.0f} spans of {requests:.0f} requests were exported: {said}")
