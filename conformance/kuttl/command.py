"""`conformance kuttl` as a click command; `smi-mesh` and `python -m conformance` both carry it."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from conformance.kube import Kube, KubeconfigError, KubeError
from conformance.kuttl import load, outcome
from conformance.kuttl.commands import CommandError, Surroundings
from conformance.kuttl.layout import Test, Values
from conformance.kuttl.model import DEFAULT_PARALLEL, DEFAULT_SECONDS, FormatError, TestSuite
from conformance.kuttl.outcome import Outcome, TestResult
from conformance.kuttl.run import Failed, Job, Plan, namespace, prepared, run_jobs
from conformance.kuttl.steps import Bindings, bind
from conformance.profiles import Profile, ProfileError
from conformance.suite import find_profile

Embedded = Callable[[], AbstractContextManager[Path]]
_REPORTS: Final = {"junit": "xml", "xml": "xml", "json": "json"}


@dataclass(frozen=True, slots=True)
class Suite:
    """Everything of a suite that can be known before a cluster is there."""

    settings: TestSuite
    base: Path
    """What the suite's paths are relative to."""
    jobs: tuple[Job, ...]
    bindings: Bindings
    notes: tuple[str, ...]


def read(
    directory: Path,
    config: Path | None,
    chosen: str,
    overrides: Mapping[str, object],
    values: Values,
    bindings: Bindings,
) -> Suite:
    """Read a suite with every test in it; raises FormatError for anything that is not in order."""
    settings, base = load.read_suite(directory, config)
    settings = settings.model_copy(update={name: value for name, value in overrides.items() if value})
    places = load.find_tests(settings, base, directory)
    if chosen:
        places = [place for place in places if place.name == chosen]
    if not places:
        wanted = (
            f"no test is called {chosen}" if chosen else "no test is there: a test is a directory of steps"
        )
        raise FormatError(f"{directory}: {wanted}")
    jobs = []
    notes = [f"{name} is left out: the tests run on the cluster that is given" for name in settings.left_out]
    for place in places:
        space = settings.namespace or f"kuttl-test-{secrets.token_hex(4)}"
        test = load.read_test(place, settings.ignoreFiles, replace(values, namespace=space))
        notes += [f"left out: {text}" for text in test.left_out]
        _complete(test, bindings)
        jobs.append(Job(place.suite, place.path.resolve(), test, space, not settings.namespace))
    unused = bindings.unused({job.test.name: [step.name for step in job.test.steps] for job in jobs})
    if unused:
        raise FormatError(f"--steps: no step has this name: {', '.join(unused)}")
    return Suite(settings, base, tuple(jobs), bindings, tuple(notes))


def _complete(test: Test, bindings: Bindings) -> None:
    """A step that does nothing would pass whatever the cluster does."""
    for step in test.steps:
        if step.idle and bindings.find(test.name, step.name) is None:
            raise FormatError(
                f"{test.name}: step {step.id} does and asserts nothing; "
                f"is it a function? --steps {test.name}/{step.name}=<module>:<function>"
            )


def build(embedded: Embedded | None) -> click.Command:
    """The command. `embedded` starts a cluster when no kubeconfig is given."""

    @click.command("kuttl")
    @click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
    @click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A TestSuite.  [default: DIRECTORY/kuttl-test.yaml]",
    )
    @click.option(
        "--kubeconfig",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        default=None,
        help="The cluster to test.  [default: start the embedded one with smi-mesh in it]",
    )
    @click.option(
        "--mesh",
        default="auto",
        show_default=True,
        help="Whose labels namespaces get: auto, none, a name, a profile.",
    )
    @click.option(
        "--namespace",
        default="",
        help="Run every test in this namespace.",
    )
    @click.option(
        "--parallel",
        type=click.IntRange(1, 64),
        default=None,
        help=f"Tests at once.  [default: {DEFAULT_PARALLEL}]",
    )
    @click.option("--test", "chosen", default="", help="Only this test (the name of its directory).")
    @click.option(
        "--timeout",
        type=click.IntRange(1),
        default=None,
        help=f"Seconds a step may take.  [default: {DEFAULT_SECONDS}]",
    )
    @click.option(
        "--steps",
        multiple=True,
        help="Steps that are functions: module[:mapping] or test/step=module:function.",
    )
    @click.option("--report", type=click.Choice(sorted(_REPORTS)), default=None, help="Write a report.")
    @click.option("--report-name", default="", help="Its name, without ending.  [default: kuttl-report]")
    @click.option("--report-granularity", type=click.Choice(["step", "test"]), default=None)
    @click.option("--artifacts-dir", default="", help="Where the report goes.  [default: .]")
    @click.option("--test-run-labels", default="", help="key=value,…: what TestFile selectors look at.")
    @click.option("--template-var", multiple=True, help="name=value for .gotmpl.yaml files.")
    @click.option("--suppress-log", multiple=True, type=click.Choice(["events"]), help="Leave these out.")
    @click.option("--skip-delete", is_flag=True, help="Leave everything the tests made in the cluster.")
    def kuttl(
        directory: Path,
        config: Path | None,
        kubeconfig: Path | None,
        mesh: str,
        namespace: str,
        parallel: int | None,
        chosen: str,
        timeout: int | None,
        steps: tuple[str, ...],
        report: str | None,
        report_name: str,
        report_granularity: str | None,
        artifacts_dir: str,
        test_run_labels: str,
        template_var: tuple[str, ...],
        suppress_log: tuple[str, ...],
        skip_delete: bool,
    ) -> None:
        """Run a suite written in KUTTL's format.

        DIRECTORY holds kuttl-test.yaml, or the tests themselves. Its commands run on this machine, with your
        rights: run only suites you trust. Exit code 0: every test passed. 1: something failed. 3: nothing
        failed, but not every test ran (an interruption). 2: it could not begin.
        """
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        overrides = {
            "namespace": namespace,
            "parallel": parallel,
            "timeout": timeout,
            "reportFormat": report,
            "reportName": report_name,
            "reportGranularity": report_granularity,
            "artifactsDir": artifacts_dir,
            "skipDelete": skip_delete,
            "suppress": suppress_log,
        }
        try:
            variables = _pairs("--template-var", template_var)
            labels = _pairs("--test-run-labels", test_run_labels.split(","))
            values = Values("", os.environ, variables, labels)
            suite = read(directory, config, chosen, overrides, values, bind(steps))
            for note in suite.notes:
                console.print(f"! {note}")
            if kubeconfig is not None:
                found = _run(suite, kubeconfig.resolve(), mesh, console)
            elif embedded is not None:
                with embedded() as path:
                    found = _run(suite, path.resolve(), mesh, console)
            else:
                raise click.UsageError(
                    "--kubeconfig is needed: `smi-mesh conformance kuttl` can start a cluster"
                )
        except (FormatError, ProfileError, KubeconfigError) as error:
            raise click.UsageError(str(error)) from None
        except KubeError as error:
            raise click.ClickException(f"the cluster cannot be used: {error.message}") from None
        _report(suite.settings, found)
        _tell(found, console)
        raise click.exceptions.Exit(found.exit_code)

    return kuttl


def _pairs(option: str, texts: tuple[str, ...] | list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts if text]
    wrong = [name for name, equals, _ in pairs if not (name and equals)]
    if wrong:
        raise FormatError(f"{option} {wrong[0]}: expected name=value")
    return {name: value for name, _, value in pairs}


def _run(suite: Suite, kubeconfig: Path, mesh: str, console: Console) -> Outcome:
    return asyncio.run(_interruptible(suite, kubeconfig, mesh, console))


async def _interruptible(suite: Suite, kubeconfig: Path, mesh: str, console: Console) -> Outcome:
    """The first Ctrl-C or SIGTERM ends the tests and cleans up; the second is the usual end of a process."""
    results: list[TestResult] = []
    troubles: list[str] = []
    began = time.monotonic()
    work = _all(suite, kubeconfig, mesh, console, results.append)
    task = asyncio.create_task(work)  # noqa: TID251 - awaited below, nothing is lost
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        console.print("interrupted: cleaning up")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
    except (Failed, CommandError, TimeoutError) as error:
        troubles = [str(error)]
    seconds = time.monotonic() - began
    return Outcome(suite.settings.metadata.name, tuple(results), len(suite.jobs), seconds, tuple(troubles))


async def _all(
    suite: Suite, kubeconfig: Path, mesh: str, console: Console, done: Callable[[TestResult], None]
) -> None:
    settings = suite.settings

    def log(text: str) -> None:
        console.print(text)

    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube.connect(kubeconfig))
        profile = await _profile(kube, mesh, log)
        plan = Plan(
            kubeconfig=kubeconfig,
            seconds=float(settings.timeout or DEFAULT_SECONDS),
            skip_delete=settings.skipDelete,
            suppress=frozenset(settings.suppress),
            labels=profile.namespace_labels if profile else {},
            annotations=profile.namespace_annotations if profile else {},
            bindings=suite.bindings,
        )
        crds = load.read_manifests(suite.base / settings.crdDir) if settings.crdDir else []
        manifests = [obj for name in settings.manifestDirs for obj in load.read_manifests(suite.base / name)]
        definitions = [obj for obj in crds if obj["kind"] == "CustomResourceDefinition"]
        where = Surroundings(suite.base.resolve(), "default", plan.kubeconfig)
        before = prepared(kube, definitions, manifests, settings.commands, where, plan, log)
        await stack.enter_async_context(before)
        if settings.namespace:
            await stack.enter_async_context(namespace(kube, settings.namespace, plan, log))
        await run_jobs(kube, suite.jobs, settings.parallel or DEFAULT_PARALLEL, plan, log, done)


async def _profile(kube: Kube, mesh: str, log: Callable[[str], None]) -> Profile | None:
    if mesh == "none":
        return None
    try:
        return await find_profile(kube, mesh)
    except ProfileError:
        if mesh != "auto":
            raise
        log("no known mesh is installed: namespaces get no labels")
        return None


def _report(settings: TestSuite, found: Outcome) -> None:
    if not settings.reportFormat:
        return
    ending = _REPORTS[settings.reportFormat.lower()]
    write = outcome.write_junit if ending == "xml" else outcome.write_json
    target = Path(settings.artifactsDir or ".", f"{settings.reportName}.{ending}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(write(found, settings.reportGranularity), encoding="utf-8")


def _tell(found: Outcome, console: Console) -> None:
    """Every failure again, then one line per test, then the count."""
    for result in sorted(found.results, key=lambda result: (result.suite, result.name)):
        for step in result.steps:
            if step.failure:
                console.print(f"--- {result.name}: step {step.id}\n{step.failure}")
        if result.trouble:
            console.print(f"--- {result.name}: {result.trouble}")
    for result in sorted(found.results, key=lambda result: (result.suite, result.name)):
        mark = "✔" if result.passed else "!" if result.interrupted else "✘"
        console.print(f"{mark} {result.name}  {result.seconds:.1f} s")
    for trouble in found.troubles:
        console.print(f"! {trouble}")
    click.echo(found.last_line)
