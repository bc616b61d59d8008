"""What looking on costs: sidecars with an access log or a tap beside one that nobody looks at."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from benchmarks import ours
from benchmarks.ours import Sidecar
from benchmarks.processes import NotStarted
from benchmarks.rows import Row
from benchmarks.works.bench import Bench, Contender, rounds
from benchmarks.works.http1 import varied

_RATE: Final = 20
"""Requests a second that `kubectl traffic tap` asks of a sidecar if it is not told otherwise."""
_ROUNDS: Final = 4
_ORDER: Final = {"type": "tap", "id": "bench", "filter": {}, "seconds": 600, "rate": _RATE}
_WATCHED: Final[tuple[tuple[str, str, Mapping[str, str], bool], ...]] = (
    ("access log of all", "-logged", {"SMI_MESH_ACCESS_LOG": "json"}, False),
    ("access log of 1 %", "-sampled", {"SMI_MESH_ACCESS_LOG": "json 1%"}, False),
    (f"a tap that shows {_RATE} a second", "-tapped", {}, True),
)
"""(what it is, suffix of its pod, its environment, whether it is tapped)."""


async def watching(bench: Bench) -> list[Row]:
    """HTTP/1.1, one hop: each against a sidecar that nobody looks at."""
    async with AsyncExitStack() as stack:
        ports, contenders = ours.ports(), []
        sidecars: list[Sidecar] = []
        for name, suffix, more, tapped in (("nobody", "", {}, False), *_WATCHED):
            if suffix:
                ours.configure(bench.controller, bench.backend, bench.stream, bench.h2, suffix)
            bench.controller.pods[f"web{suffix}"].orders = (_ORDER,) if tapped else ()
            out = ours.sidecar(
                bench.controller, bench.folder, f"web{suffix}", ours.out_ip(suffix), ports, more=more
            )
            one = await stack.enter_async_context(out)
            sidecars.append(one)
            contenders.append(Contender(name, one.outbound, "one.http", [one.running]))
        await rounds(bench, contenders, varied, least=_ROUNDS)
        _check(sidecars[1])
        if not bench.controller.pods["web-tapped"].told:
            raise NotStarted("the tapped sidecar told of no request")
    nobody, *watched = contenders
    return [
        Row(
            f"{one.name}, HTTP/1.1 one hop",
            "requests per CPU-second",
            one.per_cpu_second,
            "nobody looks on",
            nobody.per_cpu_second,
            None,
        )
        for one in watched
    ]


def _check(sidecar: Sidecar) -> None:
    """Fail unless its access log was written."""
    url = f"http://{sidecar.ip}:{sidecar.ports.admin}/metrics?dialects=smi"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if "access_log_lines" in line]
    if not sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="written"' in line):
        raise NotStarted(f"the access log was not written: {json.dumps(lines)}")
