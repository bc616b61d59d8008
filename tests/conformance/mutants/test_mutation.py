"""The mutants as values: each applies to today's source, and every case has one that fails it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from conformance import profiles
from conformance.collect import collect
from tests.conformance.mutants.mutation import ROOT, SITE, VARIABLE, Edit, Mutant, killers
from tests.conformance.mutants.site.sitecustomize import edited
from tests.conformance.mutants.table import MUTANTS

CASES = {entry.id for entry in collect()}
EDITS = [(mutant.name, edit) for mutant in MUTANTS for edit in mutant.edits]


def load(code: str, mutant: Mutant) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that is the mutant."""
    environment = {**os.environ, "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}", VARIABLE: mutant.text}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment,
        cwd=ROOT,
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_applies_to_the_source_of_today(mutant: Mutant) -> None:
    for module in {edit.module for edit in mutant.edits}:
        edits = [edit for edit in mutant.edits if edit.module == module]
        source = edits[0].path.read_text(encoding="utf-8")
        after = edited(module, source, [(edit.before, edit.after) for edit in edits])
        assert compile(after, module, "exec")
        assert after != source


def test_names_of_mutants_are_unique() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_expected_to_fail_cases_that_exist(mutant: Mutant) -> None:
    assert mutant.kills
    assert set(mutant.kills) <= CASES
    assert len(set(mutant.kills)) == len(mutant.kills)


def test_a_process_loads_the_edited_source_and_nothing_else_changes() -> None:
    edit = Edit("smi.policy.match", "whole = True", "whole = False")
    mutant = Mutant(
        "m", "", (Edit("smi.names", 'FALLBACK_ANNOTATION: Final = "', 'FALLBACK_ANNOTATION: Final = "x'),), ()
    )
    assert edit.path == ROOT / "smi/policy/match.py"
    done = load("import smi.lower, smi.names; print(smi.lower.FALLBACK_ANNOTATION[:5])", mutant)
    assert (done.stdout, done.stderr) == ("xsmi-\n", "")


def test_an_edit_that_no_longer_applies_ends_the_process() -> None:
    mutant = Mutant("m", "", (Edit("smi.names", "no such text", ""),), ())
    done = load("import smi.names", mutant)
    assert done.returncode == 1
    assert "'no such text' occurs 0 times in its source, not once" in done.stderr


def test_every_case_that_we_claim_has_a_mutant_that_fails_it() -> None:
    profile = profiles.load("smi-mesh")
    claimed = {entry.id for entry in collect() if profile.refuses(entry.case) is None}
    assert claimed - killers(MUTANTS).keys() == set()
