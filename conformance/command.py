"""`conformance run|list|kuttl` as a click command group, for `smi-mesh` and for `python -m conformance`.

Without a kubeconfig it needs somebody who starts a cluster: the caller passes `embedded`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from conformance import badge, coverage, predict, requirements
from conformance.collect import CollectError, collect, select
from conformance.kube import KubeconfigError, KubeError
from conformance.kuttl import command as kuttl
from conformance.predict import Forecast, PeerError
from conformance.profiles import ProfileError
from conformance.published import Published, PublishedError
from conformance.render import write_html, write_junit, write_yaml
from conformance.report import Outcome, Result, Run, Verdict
from conformance.requirements import RequirementError
from conformance.runner import Progress
from conformance.suite import DEFAULT_IMAGE, DEFAULT_PARALLEL, Options, run_suite

Embedded = Callable[[], AbstractContextManager[Path]]
"""Starts a cluster with the mesh in it, gives its kubeconfig, and takes it down."""

_MARKS: Final = {
    Outcome.PASSED: "[green]✔[/]",
    Outcome.FAILED: "[red]✘[/]",
    Outcome.ERROR: "[red]![/]",
    Outcome.SKIPPED: "[dim]-[/]",
}


def _names(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for text in value for name in text.split(",") if name.strip())


def _selection(command: Callable[..., None]) -> Callable[..., None]:
    for flag, text in (
        ("--case", "Only these cases (name or group/name)."),
        ("--feature", "Only these features."),
        ("--group", "Only these groups: split, access, specs, metrics."),
    ):
        option = click.option(
            flag, f"{flag[2:]}s", multiple=True, callback=_names, help=f"{text} Repeat, or use commas."
        )
        command = option(command)
    return command


def build(embedded: Embedded | None) -> click.Group:
    """The command group. `embedded` starts a cluster when no kubeconfig is given."""

    @click.group()
    def conformance() -> None:
        """Hold a mesh to the SMI specification: any mesh, on any cluster."""

    @conformance.command("list")
    @_selection
    @click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
    def list_command(
        groups: tuple[str, ...], features: tuple[str, ...], cases: tuple[str, ...], output: str
    ) -> None:
        """List the cases: name, feature, level, rules and requirement."""
        _list(groups, features, cases, output)

    @conformance.command()
    @_selection
    @click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="The cluster to test.  [default: start the embedded one with smi-mesh in it]",
    )
    @click.option("--mesh", default="auto", show_default=True, help="smi-mesh, osm, linkerd, fsm, or a file.")
    @click.option("--parallel", type=click.IntRange(1, 32), default=DEFAULT_PARALLEL, show_default=True)
    @click.option("--image", default=DEFAULT_IMAGE, show_default=True, help="The test application's image.")
    @click.option(
        "--fresh", is_flag=True, help="New namespaces for every case: slow, trusts the mesh with nothing."
    )
    @click.option(
        "--patience",
        type=click.FloatRange(0.1, 10),
        default=1.0,
        show_default=True,
        help="Factor of the time that cases wait for what must become true: over 1 for a slow cluster.",
    )
    @click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the YAML report.")
    @click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write JUnit XML.")
    @click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page to read.")
    def run(
        groups: tuple[str, ...],
        features: tuple[str, ...],
        cases: tuple[str, ...],
        kubeconfig: Path | None,
        mesh: str,
        parallel: int,
        image: str,
        fresh: bool,
        patience: float,
        report: Path | None,
        junit: Path | None,
        html: Path | None,
    ) -> None:
        """Run the suite.

        Exit code 0: every case the mesh's profile claims ran and passed. 1: something failed. 3: nothing
        failed, but not everything ran (a selection, or an interruption). 2: it could not begin.
        """
        console = Console(stderr=True)

        def go(path: Path) -> Run:
            options = Options(path, mesh, groups, features, cases, parallel, image, fresh, patience)
            return _run(options, console)

        try:
            select(collect(), groups, features, cases)  # before a cluster is started for nothing
            if kubeconfig is not None:
                outcome = go(kubeconfig)
            elif embedded is not None:
                with embedded() as path:
                    outcome = go(path)
            else:
                raise click.UsageError(
                    "--kubeconfig is needed: `smi-mesh conformance run` can start a cluster"
                )
        except (CollectError, ProfileError, KubeconfigError) as error:
            raise click.UsageError(str(error)) from None
        except KubeError as error:
            raise click.ClickException(f"the cluster cannot be used: {error.message}") from None
        for target, write in ((report, write_yaml), (junit, write_junit), (html, write_html)):
            if target is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(write(outcome), encoding="utf-8")
        _tell(outcome, console)
        raise click.exceptions.Exit(outcome.exit_code)

    conformance.add_command(kuttl.build(embedded))
    conformance.add_command(_coverage)
    conformance.add_command(_predict)
    return conformance


@click.command("coverage")
@click.option("--report", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--semantics", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--moving", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when a file is not current.")
def _coverage(report: Path, semantics: Path, page: Path, picture: Path, moving: Path, check: bool) -> None:
    """Write the pages of requirements and of other meshes, and the badge, from a report."""
    entries = collect()
    cases = [entry.case for entry in entries]
    try:
        published = Published.read(report.read_text(encoding="utf-8"), str(report))
        catalogue = requirements.read(cases)
        peers = predict.read(entries)
    except (PublishedError, RequirementError, PeerError) as error:
        raise click.ClickException(str(error)) from None
    made = {
        page: coverage.page(catalogue, cases, published, semantics.read_text(encoding="utf-8")),
        picture: badge.draw(published),
        moving: predict.page(peers, entries),
    }
    for path, text in made.items():
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            raise click.ClickException(f"{path} is not current: `make coverage` writes it")
        if not check:
            path.write_text(text, encoding="utf-8")


@click.command("predict")
@click.option("--from", "peer", required=True, help="The mesh you come from: osm, linkerd, traefik-mesh, …")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def _predict(peer: str, output: str) -> None:
    """Say what would change for somebody who moves here, case by case.

    Made from the documentation of the other mesh, not from running it.
    """
    entries = collect()
    peers = {found.name: found for found in predict.read(entries)}
    if peer not in peers:
        raise click.UsageError(f"--from {peer}: expected {', '.join(peers)}")
    predictions = predict.predict(peers[peer], entries)
    if output == "json":
        rows = [
            {
                "case": f"{found.case.group}/{found.case.name}",
                "forecast": found.forecast.value,
                "there": found.behaviour.there if found.behaviour else "",
                "here": found.behaviour.here if found.behaviour else "",
                "todo": found.behaviour.todo if found.behaviour else "",
                "source": found.behaviour.source if found.behaviour else "",
            }
            for found in predictions
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for found in predictions:
        text = found.behaviour.there if found.behaviour else ""
        click.echo(
            f"{found.case.group + '/' + found.case.name:<44} {found.forecast.value:<10} {text}".rstrip()
        )
    counts = ", ".join(f"{predict.count(predictions, kind)} {kind.value}" for kind in Forecast)
    click.echo(f"{counts}; predicted from {peers[peer].read}, not measured")


def _run(options: Options, console: Console) -> Run:
    with _shown(console) as listen:
        return asyncio.run(_interruptible(options, listen))


async def _interruptible(options: Options, listen: Callable[[Progress], None]) -> Run:
    """The first Ctrl-C or SIGTERM ends the cases and cleans up; the second is the usual end of a process."""
    task = asyncio.create_task(run_suite(options, listen))  # noqa: TID251 - awaited below, nothing is lost
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    return await task


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Progress], None]]:
    columns = (
        TextColumn("[bold]conformance"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        printed = 0

        def listen(progress: Progress) -> None:
            nonlocal printed
            for result in progress.results[printed:]:
                bar.console.print(_line(result), highlight=False, soft_wrap=True)
            printed = len(progress.results)
            doing = ", ".join(progress.running.values())
            bar.update(task, total=progress.total, completed=printed, description=f"[dim]{doing[:60]}[/]")

        yield listen


def _line(result: Result) -> str:
    text = f"{_MARKS[result.outcome]} {result.case.group}/{result.case.name}  [dim]{result.seconds:.1f} s[/]"
    if result.message:
        text += "\n    " + result.message.replace("[", "\\[").replace("\n", "\n    ")
    return text


def _tell(run: Run, console: Console) -> None:
    for trouble in run.troubles:
        console.print(f"[yellow]![/] {trouble}", highlight=False, soft_wrap=True)
    bad = [f"{result.case.group}/{result.case.name}" for result in run.results if result.bad]
    if bad:
        console.print(f"failed: {', '.join(bad)}", highlight=False, soft_wrap=True)
    words = {
        Verdict.PASS: f"{run.mesh} passes what it claims",
        Verdict.FAIL: f"{run.mesh} does not pass what it claims",
        Verdict.PARTIAL: "a partial run: no verdict on the mesh",
    }
    console.print(f"{words[run.verdict]}, {run.seconds:.1f} s", highlight=False)
    click.echo(run.last_line)


def _list(groups: tuple[str, ...], features: tuple[str, ...], cases: tuple[str, ...], output: str) -> None:
    try:
        entries = select(collect(), groups, features, cases)
    except CollectError as error:
        raise click.UsageError(str(error)) from None
    if output == "json":
        rows = [
            {
                "name": entry.id,
                "feature": entry.case.feature,
                "level": entry.case.level.value,
                "rules": list(entry.case.rules),
                "requirements": [ref.requirement for ref in entry.case.refs],
                "source": entry.source,
            }
            for entry in entries
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for entry in entries:
        case = entry.case
        rules = " ".join(case.rules)
        click.echo(f"{entry.id:<52} {case.feature:<24} {case.level.value:<24} {rules}")
    click.echo(f"{len(entries)} cases")


def main() -> None:
    """`python -m conformance`; KUBECONFIG stands for --kubeconfig."""
    given = os.environ.get("KUBECONFIG")
    found = {"kubeconfig": given}
    build(None)(default_map={"run": found, "kuttl": found} if given else None)
