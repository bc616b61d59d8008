"""`python -m benchmarks [--quick] [--only WORK …]`: measure, print the table, write JSON and a chart."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks import report
from benchmarks.cluster import cluster
from benchmarks.processes import LOAD_CORE, NotStarted
from benchmarks.rows import Row
from benchmarks.works import WORKS, prepared
from dataplane import compiled

ROOT: Final = Path(__file__).resolve().parent
RESULTS: Final = ROOT / "results" / "latest.json"
CHART: Final = ROOT.parent / "docs" / "pictures" / "benchmarks.svg"
_CLUSTER: Final = "cluster"
_ASKED_FOR: Final = ("watching",)
"""Works that are measured only with --only."""


async def measure(
    chosen: list[str], *, quick: bool, console: Console, written: Callable[[list[Row]], None]
) -> list[Row]:
    """Every chosen work in turn; one that fails is said to have failed and does not stop the others.

    `written` gets all rows so far after each work.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="smi-bench-") as folder:
        async with prepared(Path(folder), quick=quick, say=console.print) as bench:
            for name in chosen:
                if name == _CLUSTER:
                    continue
                console.print(f"[bold]{name}[/bold]")
                began = time.monotonic()
                try:
                    rows += await WORKS[name](bench)
                except (NotStarted, OSError, TimeoutError) as failure:
                    console.print(f"[red]  {name} failed: {failure}[/red]")
                    rows.append(Row(name, "", None, "", None, None, f"failed: {str(failure)[:200]}"))
                console.print(f"  [dim]{time.monotonic() - began:.0f} s[/dim]")
                written(rows)
        if _CLUSTER in chosen:
            console.print(f"[bold]{_CLUSTER}[/bold]")
            rows += await cluster(console.print, quick=quick)
            written(rows)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: under three minutes")
    usual = [name for name in (*WORKS, _CLUSTER) if name not in _ASKED_FOR]
    parser.add_argument("--only", nargs="+", choices=(*WORKS, _CLUSTER), default=usual)
    parser.add_argument("--dry", action="store_true", help="print only: write neither results nor chart")
    options = parser.parse_args()
    console = Console(highlight=False, width=max(110, Console().width))
    os.sched_setaffinity(0, {LOAD_CORE})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for all proxies alike
    console.print("sidecars:", "interpreted, see `make compiled`" if compiled.root() is None else "compiled")
    began = time.monotonic()
    keep = (lambda _rows: None) if options.dry else _write
    rows = asyncio.run(measure(options.only, quick=options.quick, console=console, written=keep))
    console.print(report.table(rows))
    console.print(f"{time.monotonic() - began:.0f} s")
    if not options.dry:
        console.print(f"written: {RESULTS} and {CHART}")
    return 0


def _write(rows: list[Row]) -> None:
    """Results and chart, as far as they are known."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False) + "\n")
    CHART.parent.mkdir(parents=True, exist_ok=True)
    CHART.write_text(report.chart(rows))


if __name__ == "__main__":
    sys.exit(main())
