"""Sidecars run in the form that there is: compiled once `make compiled` has built it, else interpreted."""

from __future__ import annotations

from pathlib import Path

from controller.admission.inject import PROXY_CONTAINER
from dataplane import compiled
from localmesh.node.process import CONTAINER_MARK, find_marked
from tests.e2e.harness import Cluster


def test_a_sidecar_is_compiled_if_and_only_if_that_was_built(cluster: Cluster) -> None:
    pod = cluster.pods("web")[0]
    pids = find_marked({CONTAINER_MARK: f"{pod['metadata']['uid']}/{PROXY_CONTAINER}"})
    assert pids, "the sidecar has no process"
    mapped = [Path(f"/proc/{pid}/maps").read_text() for pid in pids]
    assert any(str(compiled.compiled_tree()) in text for text in mapped) == (compiled.root() is not None)
