"""End-to-end tests: a real embedded cluster, real kubectl, real proxies, real requests.

One cluster serves the whole session. It hands out certificates that live for a minute, so
every test that runs longer than that also runs through certificate rotations.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataplane.tracing.stand_in import Collector, collecting
from tests.e2e.harness import Cluster, start_cluster

pytestmark = pytest.mark.e2e


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is end-to-end, and may take longer than a unit test."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the spans of pods go that ask for tracing."""
    with collecting("0.0.0.0") as running:
        yield running


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Cluster]:
    """The session's cluster with the mesh installed and the sample workloads running."""
    state = tmp_path_factory.mktemp("cluster")
    url = f"http://localhost:{collector.port}"
    running = start_cluster(state, "--tracing", url, "--trace-sampling", "off")
    try:
        running.deploy_sample()
        yield running
    except BaseException:
        print(running.diagnosis())  # noqa: T201 - shown by pytest with the failure
        raise
    finally:
        subprocess.run(
            [*running.command, "local", "down", "--state-dir", str(state)],
            check=True,
            timeout=60,
            env=dict(os.environ),
        )


@pytest.fixture
def policies(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with no SMI object in the sample namespace, before and after the test."""
    cluster.delete_policies()
    yield cluster
    cluster.delete_policies()
