"""Runs suites: tests in parallel, each in a namespace of its own, everything removed at the end.

A step is done in KUTTL's order: delete, commands, apply; then its assertions are looked at again and again
until all of them hold at once or its time is up; then the function bound to its name runs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from conformance import kube as kubernetes
from conformance.driver import DriverError
from conformance.drivers.reach import Reach
from conformance.expect import ExpectationError
from conformance.kube import Change, Kube, KubeconfigError, KubeError
from conformance.kuttl import commands
from conformance.kuttl.commands import CommandError, Surroundings
from conformance.kuttl.expand import dollars
from conformance.kuttl.layout import Step, Test
from conformance.kuttl.model import Collector, Command, Object
from conformance.kuttl.objects import Made, Objects
from conformance.kuttl.outcome import StepResult, TestResult
from conformance.kuttl.steps import Bindings, Context, StepFailed

CLEAN_SECONDS: Final = 90.0
ESTABLISH_SECONDS: Final = 10.0
PAUSE: Final = 0.05
MAX_PAUSE: Final = 1.0
EVENTS: Final = 30
COLLECTED: Final = 200
"""Lines of a pod's log that a collector prints at most."""

Log = Callable[[str], None]


class Failed(Exception):  # noqa: N818 - an outcome of a step, not a fault of the program
    """A step failed; the text says how."""


@dataclass(frozen=True, slots=True)
class Job:
    """One test to be run."""

    suite: str
    directory: Path
    test: Test
    namespace: str
    own: bool
    """Whether the namespace is generated for this test."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all tests of a run have in common."""

    kubeconfig: Path
    seconds: float
    """Time of a step that sets none itself."""
    skip_delete: bool = False
    suppress: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of the namespaces that are made: what makes their pods members of a mesh."""
    bindings: Bindings = field(default_factory=Bindings)


def namespace_object(name: str, plan: Plan) -> Object:
    metadata = {"name": name, "labels": dict(plan.labels), "annotations": dict(plan.annotations)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


@asynccontextmanager
async def namespace(kube: Kube, name: str, plan: Plan, log: Log) -> AsyncIterator[None]:
    """A namespace for as long as the block lasts. One that was there before stays."""
    if await kube.find(f"/api/v1/namespaces/{name}") is not None:
        log(f"namespace {name} is there already and stays")
        yield
        return
    await kube.request("POST", "/api/v1/namespaces", body=namespace_object(name, plan))
    log(f"namespace {name} created")
    try:
        yield
    finally:
        if not plan.skip_delete:
            await Objects(kube, name).delete(
                [Made(f"/api/v1/namespaces/{name}", f"namespace {name}")], CLEAN_SECONDS
            )


@asynccontextmanager
async def prepared(
    kube: Kube,
    crds: Sequence[Object],
    manifests: Sequence[Object],
    setup: Sequence[Command],
    where: Surroundings,
    plan: Plan,
    log: Log,
) -> AsyncIterator[None]:
    """What a suite needs before its tests: definitions, manifests, commands. Removed when the block ends.

    Raises Failed, KubeError and CommandError.
    """
    objects = Objects(kube, where.namespace)
    async with AsyncExitStack() as stack:
        for obj in (*crds, *manifests):
            change, made = await objects.apply(obj)
            log(f"{made.what} {change}")
            if change is Change.CREATED and not plan.skip_delete:
                stack.push_async_callback(objects.delete, [made], CLEAN_SECONDS)
            if obj["kind"] == "CustomResourceDefinition":
                await _established(kube, made)
        for command in setup:
            if command.background:
                process = await commands.start(command, where, log)
                stack.push_async_callback(commands.kill, process)
            else:
                await commands.run(command, where, plan.seconds, log)
        yield


async def _established(kube: Kube, made: Made) -> None:
    def served(obj: Object) -> bool:
        found = kubernetes.condition(obj, "Established")
        return found is not None and found["status"] == "True"

    try:
        await kube.wait(made.path, served, ESTABLISH_SECONDS, f"{made.what} being established")
    except TimeoutError as error:
        raise Failed(str(error)) from None


async def run_jobs(
    kube: Kube, jobs: Sequence[Job], parallel: int, plan: Plan, log: Log, done: Callable[[TestResult], None]
) -> None:
    """Run every test, `parallel` at once; `done` is given each result. Cancelled, it cleans up first."""
    room = asyncio.Semaphore(parallel)
    async with aiohttp.ClientSession(trust_env=False) as session:
        reach = Reach(kube, session)

        async def one(job: Job) -> None:
            async with room:
                run = _TestRun(kube, reach, job, plan, lambda text: log(f"{job.test.name}: {text}"))
                await run.run(done)

        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(one(job))


class _TestRun:
    """One test from its namespace to its removal."""

    def __init__(self, kube: Kube, reach: Reach, job: Job, plan: Plan, log: Log) -> None:
        self._kube = kube
        self._reach = reach
        self._job = job
        self._plan = plan
        self._log = log
        self._results: list[StepResult] = []
        self._stack = AsyncExitStack()
        self._clusters: dict[tuple[str, str], Objects] = {}

    async def run(self, done: Callable[[TestResult], None]) -> None:
        """Run the steps until one fails; what went wrong outside of them is the result's trouble."""
        began = time.monotonic()
        trouble, interrupted = "", False
        try:
            async with self._stack:
                await self._steps()
        except asyncio.CancelledError:
            interrupted = True
            raise
        except (KubeError, KubeconfigError, DriverError, TimeoutError, OSError) as error:
            trouble = f"{type(error).__name__}: {error}"
        finally:
            job, seconds = self._job, time.monotonic() - began
            steps = tuple(self._results)
            done(TestResult(job.suite, job.test.name, steps, trouble, seconds, interrupted))

    async def _steps(self) -> None:
        for step in self._job.test.steps:
            if step.settings.kubeconfigLoading != "Lazy":
                await self._cluster(step)
        for step in self._job.test.steps:
            began = time.monotonic()
            failure = await self._step(step)
            seconds = time.monotonic() - began
            count = len(step.asserts) + len(step.errors) + len(step.assertion.commands)
            self._results.append(StepResult(step.id, failure, count, seconds))
            if failure:
                self._log(f"step {step.id} failed")
                await self._explain(step)
                return
            self._log(f"step {step.id} passed in {seconds:.1f} s")

    async def _cluster(self, step: Step) -> Objects:
        """The cluster of a step, with the test's namespace in it."""
        settings = step.settings
        key = (settings.kubeconfig, settings.context)
        if key not in self._clusters:
            kube = self._kube
            if settings.kubeconfig or settings.context:
                connection = Kube.connect(self._kubeconfig(step), settings.context or None)
                kube = await self._stack.enter_async_context(connection)
            if self._job.own or kube is not self._kube:
                space = namespace(kube, self._job.namespace, self._plan, self._log)
                await self._stack.enter_async_context(space)
            self._clusters[key] = Objects(kube, self._job.namespace)
        return self._clusters[key]

    def _kubeconfig(self, step: Step) -> Path:
        name = step.settings.kubeconfig
        return self._job.directory / dollars(name, os.environ) if name else self._plan.kubeconfig

    def _surroundings(self, step: Step) -> Surroundings:
        return Surroundings(self._job.directory, self._job.namespace, self._kubeconfig(step).resolve())

    def _seconds(self, step: Step) -> float:
        return step.assertion.timeout or self._plan.seconds

    async def _step(self, step: Step) -> str:
        """Why a step failed; empty when it passed."""
        try:
            objects = await self._cluster(step)
            await self._delete(step, objects)
            await self._prepare(step, objects)
            await self._check(step, objects)
            await self._bound(step, objects)
        except (Failed, CommandError, KubeError, KubeconfigError) as error:
            return str(error)
        return ""

    async def _delete(self, step: Step, objects: Objects) -> None:
        for reference in step.settings.delete:
            try:
                for line in await objects.delete(await objects.named(reference), self._seconds(step)):
                    self._log(line)
            except TimeoutError as error:
                raise Failed(str(error)) from None

    async def _prepare(self, step: Step, objects: Objects) -> None:
        """Run the commands and apply the objects; all failures are told at once, as KUTTL does."""
        failures: list[str] = []
        try:
            for command in step.settings.commands:
                if command.background:
                    self._log(
                        "only a suite's commands run in the background; this one runs in the foreground"
                    )
                await commands.run(command, self._surroundings(step), self._plan.seconds, self._log)
        except CommandError as error:
            failures.append(str(error))
        for obj in step.apply:
            try:
                change, made = await objects.apply(obj)
            except KubeError as error:
                failures.append(
                    f"{obj['kind']} {obj['metadata'].get('name', '')}: not applied: {error.message}"
                )
                continue
            self._log(f"{made.what} {change}")
            if change is Change.CREATED and not self._plan.skip_delete and not self._goes_along(made):
                self._stack.push_async_callback(objects.delete, [made], CLEAN_SECONDS)
        if failures:
            raise Failed("\n".join(failures))

    def _goes_along(self, made: Made) -> bool:
        """Whether the removal of the test's own namespace removes it."""
        return self._job.own and f"/namespaces/{self._job.namespace}/" in made.path

    async def _check(self, step: Step, objects: Objects) -> None:
        """Look until every assertion holds at once; raises Failed with what did not at the end."""
        seconds = self._seconds(step)
        ends = time.monotonic() + seconds
        pause = PAUSE
        while True:
            failures, final = await self._look(step, objects, max(0.1, ends - time.monotonic()))
            if not failures:
                return
            left = ends - time.monotonic()
            if final or left <= 0:
                raise Failed(f"not as asserted after {seconds:g} s:\n" + "\n".join(failures))
            await asyncio.sleep(min(pause, left))
            pause = min(MAX_PAUSE, pause * 1.5)

    async def _look(self, step: Step, objects: Objects, seconds: float) -> tuple[list[str], bool]:
        """What is not as asserted now, and whether looking again is useless."""
        found = [await objects.missing(expected) for expected in step.asserts]
        found += [await objects.unwanted(expected) for expected in step.errors]
        failures = [text for text in found if text]
        for command in step.assertion.commands:
            try:
                await commands.run(command, self._surroundings(step), seconds, self._log)
            except CommandError as error:
                return [*failures, str(error)], error.late
        return failures, False

    async def _bound(self, step: Step, objects: Objects) -> None:
        function = self._plan.bindings.find(self._job.test.name, step.name)
        if function is None:
            return
        seconds = self._seconds(step)
        name = f"{function.__module__}:{getattr(function, '__qualname__', function)}"
        self._log(f"step {step.id}: {name}")
        context = Context(
            self._job.test.name, step.name, self._job.namespace, objects.kube, self._reach, seconds, self._log
        )
        try:
            async with asyncio.timeout(seconds):
                await function(context)
        except TimeoutError:
            raise Failed(f"{name}: not finished within {seconds:g} s") from None
        except (StepFailed, ExpectationError, DriverError) as error:
            raise Failed(f"{name}: {error}") from None
        except KubeError:
            raise
        except Exception as error:
            raise Failed(f"{name}: {type(error).__name__}: {error}") from error

    # -- after a failure ---------------------------------------------------------------------------

    async def _explain(self, step: Step) -> None:
        """Print what the collectors ask for, and the namespace's events."""
        objects = next(reversed(self._clusters.values()), None)
        for collector in step.assertion.collectors:
            try:
                await self._collect(collector, step)
            except (KubeError, CommandError) as error:
                self._log(f"collector: {error}")
        if objects is not None and "events" not in self._plan.suppress:
            await self._events(objects, self._job.namespace)

    async def _events(self, objects: Objects, space: str, name: str = "") -> None:
        try:
            for line in (await objects.events(space, name))[-EVENTS:]:
                self._log(f"event: {line}")
        except KubeError as error:
            self._log(f"events: {error}")

    async def _collect(self, collector: Collector, step: Step) -> None:
        objects = await self._cluster(step)
        space = collector.namespace or self._job.namespace
        if collector.what == "command":
            command = Command(command=collector.command)
            await commands.run(command, self._surroundings(step), self._plan.seconds, self._log)
        elif collector.what == "events":
            await self._events(objects, space, collector.name)
        else:
            await self._pod_logs(objects, collector, space)

    async def _pod_logs(self, objects: Objects, collector: Collector, space: str) -> None:
        pods = await objects.kube.objects("v1", "Pod", space, collector.selector)
        tail = collector.tail or (10 if collector.selector else None)
        for pod in pods:
            if collector.pod not in ("", pod["metadata"]["name"]):
                continue
            for container in pod["spec"]["containers"]:
                if collector.container not in ("", container["name"]):
                    continue
                await self._log_of(objects.kube, space, pod["metadata"]["name"], container["name"], tail)

    async def _log_of(self, kube: Kube, space: str, pod: str, container: str, tail: int | None) -> None:
        text = b""
        async for piece in kube.logs(space, pod, container, follow=False, tail=tail or COLLECTED):
            text += piece
        for line in text.decode(errors="replace").splitlines()[-COLLECTED:]:
            self._log(f"[{pod}/{container}] {line}")
