"""Some mutants at work: exactly the expected cases fail. All of them: `make mutants`.

One for the controller's compiler, one for the sidecar, one for the resource definitions that the installing
command writes: the three ways by which a mutant gets into the mesh.
"""

from __future__ import annotations

import pytest

from tests.conformance.mutants.arena import Selection, try_mutant
from tests.conformance.mutants.table import MUTANTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize(
    ("name", "failing", "passing"),
    [
        ("zero-to-root", ("split/zero-all", "split/zero-of-filtered"), "split/zero-then-weight"),
        ("http-rules-admit-tcp", ("access/http-rule-is-not-tcp",), "access/tcp-route-opens-port"),
        ("target-without-v1alpha1", ("access/target-v1alpha1",), "access/target-v1alpha2"),
    ],
)
def test_exactly_the_expected_cases_fail(name: str, failing: tuple[str, ...], passing: str) -> None:
    mutant = BY_NAME[name]
    assert set(failing) <= set(mutant.kills)
    assert passing not in mutant.kills
    trial = try_mutant(mutant, Selection(cases=(*failing, passing)), parallel=1)
    assert trial.outcomes.keys() == {*failing, passing}
    assert trial.failed == set(failing), trial.messages
    assert not trial.undecided, trial.messages
