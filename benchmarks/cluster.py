"""Figures of a whole cluster: how long `smi-mesh local up` takes, how soon a split is live in every proxy."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from typing import Final

from benchmarks.processes import NotStarted, output_of, python
from benchmarks.rows import Row, at_most

_LIVE: Final = re.compile(r"live in every proxy concerned after\s+(\d+)\s+ms")
_COMMAND_SECONDS: Final = 240.0


async def cluster(say: Callable[[str], None], *, quick: bool) -> list[Row]:
    """Starts clusters of its own and removes them; `quick` leaves out the demo, which takes over a minute."""
    up = live = None
    with tempfile.TemporaryDirectory(prefix="smi-bench-") as folder:
        place = ["--state-dir", f"{folder}/state"]
        try:
            began = time.monotonic()
            await _cli("local", "up", *place)
            up = time.monotonic() - began
            say(f"  local up: {up:.1f} s")
        except NotStarted as failure:
            say(f"  local up failed: {failure}")
        finally:
            await _cli("local", "down", *place)
        if not quick:
            live = await _live(folder, say)
    rows = [Row("local up", "s", up, "bound", 15.0, at_most(1.0), "" if up else "failed")]
    if not quick:
        work = "TrafficSplit change live in every proxy, worst"
        rows.append(Row(work, "ms", live, "bound", 500.0, at_most(1.0), "" if live else "failed"))
    return rows


async def _live(folder: str, say: Callable[[str], None]) -> float | None:
    """Milliseconds, the worst of the changes that the demo makes and times."""
    try:
        text = await _cli("demo", "--state-dir", f"{folder}/demo")
    except NotStarted as failure:
        say(f"  the demo failed: {failure}")
        return None
    found = [float(value) for value in _LIVE.findall(text)]
    say(f"  splits live after {found} ms")
    return max(found, default=None)


async def _cli(*arguments: str) -> str:
    return await output_of(python("-m", "cli", *arguments), _COMMAND_SECONDS, core=None)
