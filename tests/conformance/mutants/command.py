"""The command: which mutants, against which cases, and what is written."""

from __future__ import annotations

from pathlib import Path

import click

from tests.conformance.mutants.arena import PARALLEL, Trial, try_mutant
from tests.conformance.mutants.mutation import Mutant
from tests.conformance.mutants.table import MUTANTS


@click.command()
@click.option("--mutant", "names", multiple=True, help="Only these mutants (repeat, or use commas).")
@click.option("--case", "cases", multiple=True, help="Only these cases: no matrix is written from that.")
@click.option("--parallel", type=click.IntRange(1, 32), default=PARALLEL, show_default=True)
@click.option("--matrix", type=click.Path(dir_okay=False, path_type=Path), help="Write the matrix here.")
def main(names: tuple[str, ...], cases: tuple[str, ...], parallel: int, matrix: Path | None) -> None:
    """Run the conformance suite against deliberately broken meshes.

    Exit code 0: on every mutant exactly the expected cases failed. 1: not so.
    """
    wanted = {name for text in names for name in text.split(",")}
    unknown = wanted - {mutant.name for mutant in MUTANTS}
    if unknown:
        raise click.UsageError(f"there is no mutant {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
    selection = tuple(name for text in cases for name in text.split(","))
    trials = [_tried(mutant, selection, parallel) for mutant in chosen]
    if not all(trial.as_expected for trial in trials):
        raise click.exceptions.Exit(1)


def _tried(mutant: Mutant, cases: tuple[str, ...], parallel: int) -> Trial:
    trial = try_mutant(mutant, cases, parallel=parallel)
    mark = "✔" if trial.as_expected else "✘"
    click.echo(
        f"{mark} {mutant.name}: {len(trial.failed)} of {len(trial.outcomes)} failed, {trial.seconds:.0f} s"
    )
    for word, found in (("survived", trial.missed), ("unexpected", trial.unexpected)):
        for case in sorted(found):
            click.echo(f"    {word}: {case} {trial.messages.get(case, '')}".rstrip())
    return trial
