"""`smi-mesh conformance`: the suite, with an embedded cluster started for it when no other is named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.cluster import UpOptions, bring_up, take_down
from cli.output import messages
from cli.progress import progress
from conformance.command import build


@contextmanager
def _embedded() -> Iterator[Path]:
    """An embedded cluster with the mesh in it, in a directory of its own; taken down whatever happens."""
    console = messages()
    with tempfile.TemporaryDirectory(prefix="smi-conformance-") as directory:
        state = Path(directory, "cluster")
        try:
            with progress(console) as shown:
                cluster = bring_up(UpOptions(state, "auto"), shown.say)
            yield cluster.kubeconfig
        finally:
            with progress(console) as shown:
                take_down(state, shown.say)


conformance = build(_embedded)
