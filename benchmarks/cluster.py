"""Figures of a whole cluster: how long `smi-mesh local up` takes, how soon a split is live in every proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.rows import Row, at_most


async def cluster(folder: Path, say: Callable[[str], None]) -> list[Row]:
    """Starts a cluster of its own in `folder` and removes it."""
    return [Row("local up", "s", None, "bound", 15.0, at_most(1.0)),
            Row("TrafficSplit change live in every proxy", "ms", None, "bound", 500.0, at_most(1.0))]  # fmt: skip
