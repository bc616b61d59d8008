"""`pytest --pyargs conformance`: the same cases as tests, one each, against the cluster of $KUBECONFIG.

All selected cases run before the first test, in parallel as with the command; each test then tells
what its case came to. SMI_CONFORMANCE_MESH and SMI_CONFORMANCE_PARALLEL stand for the options.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from conformance.collect import Entry, collect
from conformance.report import Outcome, Result, Run
from conformance.suite import DEFAULT_PARALLEL, Options, run_suite


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, Result]:
    """Results by case id, of those cases that pytest selected."""
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig:
        raise pytest.UsageError("set KUBECONFIG: the suite needs a cluster (`smi-mesh local up` starts one)")
    ours = [item for item in request.session.items if _is_ours(item)]
    here = {item.callspec.id for item in ours}  # type: ignore[attr-defined]  # pytest sets it when parametrised
    options = Options(
        Path(kubeconfig),
        mesh=os.environ.get("SMI_CONFORMANCE_MESH", "auto"),
        cases=tuple(sorted(here)),
        parallel=int(os.environ.get("SMI_CONFORMANCE_PARALLEL", DEFAULT_PARALLEL)),
    )
    run: Run = asyncio.run(run_suite(options))
    return {f"{result.case.group}/{result.case.name}": result for result in run.results}


def _is_ours(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") == "test_case" and item.path == Path(__file__)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("entry", collect(), ids=lambda entry: entry.id)
def test_case(entry: Entry, outcomes: dict[str, Result]) -> None:
    """What this case came to."""
    result = outcomes.get(entry.id)
    assert result is not None, "the run was interrupted before this case"
    if result.outcome is Outcome.SKIPPED:
        pytest.skip(result.message)
    assert result.outcome is Outcome.PASSED, f"{result.outcome}: {result.message}"
