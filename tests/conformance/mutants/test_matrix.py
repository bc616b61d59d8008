"""The matrix as text, and what a trial is judged by."""

from __future__ import annotations

from conformance.report import Outcome
from tests.conformance.mutants.matrix import document, grid, survivors
from tests.conformance.mutants.mutation import Edit, Mutant
from tests.conformance.mutants.trial import Trial

CASES = ("split/a", "split/longer", "metrics/m")
PASSED, FAILED, ERROR, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.ERROR, Outcome.SKIPPED


def trial(name: str, kills: tuple[str, ...], **outcomes: Outcome) -> Trial:
    mutant = Mutant(name, f"breaks {name}", (Edit("smi.names", "a", "b"),), kills)
    by_case = {case: outcomes[case.partition("/")[2]] for case in CASES if case.partition("/")[2] in outcomes}
    return Trial(mutant, by_case, {}, 1.0)


def test_exactly_the_expected_cases_have_to_fail() -> None:
    assert trial("m", ("split/a",), a=FAILED, longer=PASSED, m=SKIPPED).as_expected
    survived = trial("m", ("split/a",), a=PASSED, longer=PASSED)
    assert (survived.as_expected, sorted(survived.missed)) == (False, ["split/a"])
    more = trial("m", ("split/a",), a=FAILED, longer=FAILED)
    assert (more.as_expected, sorted(more.unexpected)) == (False, ["split/longer"])


def test_a_case_without_a_verdict_is_no_kill() -> None:
    found = trial("m", ("split/a",), a=ERROR, longer=PASSED)
    assert found.missed == found.unexpected == {"split/a"}
    assert not found.as_expected
    assert survivors([found], CASES) == list(CASES)


def test_a_case_that_was_not_run_says_nothing() -> None:
    assert trial("m", ("split/a", "split/longer"), a=FAILED).as_expected


def test_the_grid_has_a_line_per_case_and_a_column_per_mutant() -> None:
    trials = [trial("one", (), a=FAILED, longer=PASSED, m=SKIPPED), trial("two", (), a=ERROR)]
    assert grid(trials, CASES).splitlines() == [
        " " * 14 + "12",
        "split/a       ✘!",
        "split/longer  ·",
        "metrics/m     -",
    ]


def test_the_page_names_what_nothing_kills() -> None:
    trials = [trial("one", (), a=FAILED, longer=PASSED, m=SKIPPED)]
    page = document(trials, CASES, "make mutants")
    assert "1 mutants, 2 cases: 1 fail on at least one mutant, 1 on none." in page
    assert "| 1 | `one` | breaks one | 1 | 2 |" in page
    assert page.endswith("## Cases that no mutant fails\n\n- `split/longer`\n")
    assert "metrics/m" not in page
