"""The mutation matrix as text: which case fails on which mutant. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from conformance.report import Outcome
from tests.conformance.mutants.trial import Trial

KILLED: Final = "✘"
_MARKS: Final = {
    Outcome.FAILED: KILLED,
    Outcome.PASSED: "·",
    Outcome.ERROR: "!",
    Outcome.SKIPPED: "-",
}
_NOT_RUN: Final = " "


def survivors(trials: Iterable[Trial], cases: Iterable[str]) -> list[str]:
    """The cases that no mutant failed, in order."""
    killed = {case for trial in trials for case in trial.failed}
    return [case for case in cases if case not in killed]


def grid(trials: Sequence[Trial], cases: Sequence[str]) -> str:
    """One line per case, one column per mutant, numbered from 1 as `trials` is ordered."""
    width = max((len(case) for case in cases), default=0) + 2
    numbers = [f"{number:3d}" for number in range(1, len(trials) + 1)]
    head = [" " * width + "".join(number[digit] for number in numbers) for digit in range(3)]
    lines = [case.ljust(width) + "".join(_mark(trial.outcomes, case) for trial in trials) for case in cases]
    return "\n".join([*(line.rstrip() for line in head if line.strip()), *(line.rstrip() for line in lines)])


def _mark(outcomes: Mapping[str, Outcome], case: str) -> str:
    outcome = outcomes.get(case)
    return _NOT_RUN if outcome is None else _MARKS[outcome]


def _ran(outcomes: Mapping[str, Outcome], case: str) -> bool:
    return outcomes.get(case) not in (None, Outcome.SKIPPED)


def document(trials: Sequence[Trial], cases: Sequence[str], reproduce: str) -> str:
    """The matrix as a page of Markdown."""
    left = survivors(trials, cases)
    run = [case for case in cases if any(_ran(trial.outcomes, case) for trial in trials)]
    unproven = [case for case in left if case in run]
    undecided = sum(len(trial.undecided) for trial in trials)
    lines = [
        "# Mutation matrix",
        "",
        "Is there something that fails each conformance case? A mutant is our own mesh with one mistake in",
        "its source, run in a cluster of its own. Generated; do not edit. To make it anew:",
        "",
        "```sh",
        reproduce,
        "```",
        "",
        (
            f"{len(trials)} mutants, {len(run)} cases: {len(run) - len(unproven)} fail on at least one "
            f"mutant, {len(unproven)} on none. {undecided} runs came to no verdict. "
            f"{len(cases) - len(run)} cases were not run on any."
        ),
        "",
        "## Mutants",
        "",
        "| № | Mutant | Our mesh, but it … | Cases that fail | of |",
        "|---:|---|---|---:|---:|",
    ]
    for number, trial in enumerate(trials, 1):
        ran = sum(outcome is not Outcome.SKIPPED for outcome in trial.outcomes.values())
        lines.append(
            f"| {number} | `{trial.mutant.name}` | {trial.mutant.breaks} | {len(trial.failed)} | {ran} |"
        )
    lines += [
        "",
        "## Matrix",
        "",
        (
            f"`{KILLED}` the case fails on the mutant, `·` it passes, `!` no verdict, `-` skipped; "
            "empty where it was not run: "
            "only the features in which cases are expected to fail are, `make mutants WHOLE=1` runs all."
        ),
        "",
        "```text",
        grid(trials, [case for case in cases if case in run]),
        "```",
    ]
    if unproven:
        lines += ["", "## Cases that no mutant fails", "", *(f"- `{case}`" for case in unproven)]
    return "\n".join([*lines, ""])
