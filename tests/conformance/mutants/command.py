"""The command: which mutants, against which cases, and what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from conformance.collect import CollectError, collect, select
from conformance.report import Outcome
from tests.conformance.mutants.arena import PARALLEL, Selection, try_mutant
from tests.conformance.mutants.matrix import document, grid, survivors
from tests.conformance.mutants.mutation import Mutant
from tests.conformance.mutants.table import MUTANTS
from tests.conformance.mutants.trial import Trial

REPRODUCE = "make mutants"


@click.command()
@click.option("--mutant", "names", multiple=True, help="Only these mutants (repeat, or use commas).")
@click.option("--case", "cases", multiple=True, help="Only these cases.")
@click.option("--group", "groups", multiple=True, help="Only these groups of cases.")
@click.option("--feature", "features", multiple=True, help="Only cases of these features.")
@click.option(
    "--expected", is_flag=True, help="Run on each mutant only the features of the cases that it fails."
)
@click.option("--parallel", type=click.IntRange(1, 32), default=PARALLEL, show_default=True)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep outcomes in this file, and do not try again what it holds.",
)
@click.option("--matrix", type=click.Path(dir_okay=False, path_type=Path), help="Write the matrix as a page.")
def main(
    names: tuple[str, ...],
    cases: tuple[str, ...],
    groups: tuple[str, ...],
    features: tuple[str, ...],
    expected: bool,
    parallel: int,
    record: Path | None,
    matrix: Path | None,
) -> None:
    """Run the conformance suite against deliberately broken meshes, and print the mutation matrix.

    Exit code 0: on every mutant exactly the expected cases failed. 1: not so.
    """
    selection = Selection(_words(cases), _words(groups), _words(features))
    try:
        select(collect(), selection.groups, selection.features, selection.cases)
    except CollectError as error:
        raise click.UsageError(str(error)) from None
    chosen = _chosen(_words(names))
    trials = []
    for mutant in chosen:
        trial = _recorded(mutant, record)
        if trial is None:
            which = Selection(features=_features(mutant)) if expected else selection
            trial = try_mutant(mutant, which, parallel=parallel)
            _keep(trial, record)
        _tell(trial)
        trials.append(trial)
    _print_matrix(trials, matrix)
    if not all(trial.as_expected for trial in trials):
        raise click.exceptions.Exit(1)


def _words(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for text in texts for word in text.split(",") if word)


def _chosen(names: tuple[str, ...]) -> list[Mutant]:
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        known = ", ".join(mutant.name for mutant in MUTANTS)
        raise click.UsageError(f"there is no mutant {', '.join(sorted(unknown))}; there are {known}")
    return [mutant for mutant in MUTANTS if not names or mutant.name in names]


def _features(mutant: Mutant) -> tuple[str, ...]:
    return tuple(sorted({entry.case.feature for entry in collect() if entry.id in mutant.kills}))


def _tell(trial: Trial) -> None:
    mark = "✔" if trial.as_expected else "✘"
    counts = f"{len(trial.failed)} of {len(trial.outcomes)} failed"
    click.echo(f"{mark} {trial.mutant.name}: {counts}, {trial.seconds:.0f} s")
    for word, found in (("survived", trial.missed), ("unexpected", trial.unexpected)):
        for case in sorted(found):
            click.echo(f"    {word}: {case} {trial.messages.get(case, '')}".rstrip())


def _print_matrix(trials: Sequence[Trial], page: Path | None) -> None:
    every = [entry.id for entry in collect()]
    ran = [case for case in every if any(_ran(trial, case) for trial in trials)]
    click.echo("\n" + grid(trials, ran) + "\n")
    for number, trial in enumerate(trials, 1):
        click.echo(f"{number:4d} {trial.mutant.name}: {trial.mutant.breaks}")
    left = survivors(trials, ran)
    click.echo(
        f"\n{len(trials)} mutants; {len(ran) - len(left)} of {len(ran)} cases fail on at least one of them"
    )
    for case in left:
        click.echo(f"    nothing fails {case}")
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(document(trials, every, REPRODUCE), encoding="utf-8")


def _ran(trial: Trial, case: str) -> bool:
    return trial.outcomes.get(case) not in (None, Outcome.SKIPPED)


def _recorded(mutant: Mutant, record: Path | None) -> Trial | None:
    """The trial that `record` holds of this very mutant."""
    if record is None or not record.is_file():
        return None
    found = json.loads(record.read_text(encoding="utf-8")).get(mutant.name)
    if found is None or found["edits"] != mutant.text:
        return None
    outcomes = {case: Outcome(outcome) for case, outcome in found["outcomes"].items()}
    return Trial(mutant, outcomes, found["messages"], found["seconds"])


def _keep(trial: Trial, record: Path | None) -> None:
    if record is None:
        return
    held = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    held[trial.mutant.name] = {
        "edits": trial.mutant.text,
        "outcomes": {case: outcome.value for case, outcome in trial.outcomes.items()},
        "messages": dict(trial.messages),
        "seconds": round(trial.seconds, 1),
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(held, indent=1), encoding="utf-8")
